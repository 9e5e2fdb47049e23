"""`catdog status --watch` beside a real server."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from catdog_serving.monitoring.metrics import scrape
from catdog_serving.monitoring.snapshot import Snapshot, take_snapshots
from catdog_serving.torchserve.server import TorchServe
from tests.support.paths import SAMPLES
from tests.support.processes import wait_until
from tests.support.raw_requests import send_all

CAT = (SAMPLES / "chelsea.png").read_bytes()
BUSY = re.compile(r".*inference_p95_ms=\d.*\n")  # a line of an interval with traffic


@contextmanager
def watching(server: TorchServe, stdout: int) -> Iterator[subprocess.Popen[bytes]]:
    """`catdog status --watch`, as a shell in the foreground would start it."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "catdog_serving", "status", "--watch", "--interval", "0.5"),
            *("--config", str(server.config.path)),
        ],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={k: v for k, v in os.environ.items() if k != "COLUMNS"} | {"TERM": "xterm"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def read_until(file: int, found: Callable[[str], bool]) -> str:
    """What was written to a pipe or a terminal by the time it is as expected."""
    text = ""
    deadline = time.monotonic() + 30
    while not found(text):
        assert time.monotonic() < deadline, f"not within 30 s: {text}"
        if select.select([file], [], [], 0.5)[0]:
            text += os.read(file, 65536).decode()
    return text


def end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, b"")


def test_a_pipe_gets_one_line_per_interval_with_what_was_sent(server: TorchServe) -> None:
    with watching(server, subprocess.PIPE) as process:
        assert process.stdout is not None
        pipe = process.stdout.fileno()
        read_until(pipe, lambda text: text.count("\n") >= 2)
        send_all(server.config.inference_url, [(CAT, {})] * 20 + [(b"junk", {})] * 5, 25)
        text = read_until(
            pipe, lambda text: re.search(r"inference_p95_ms=\d.*\n", text) is not None
        )
        end(process)
    busy = next(match[0] for match in BUSY.finditer(text))
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d model=efficientnet_lite0/\S+ ", busy)
    values = dict(pair.split("=") for pair in busy.split()[1:])
    assert values["ready"] == "1/1"
    assert float(values["memory_mb"]) > 100
    assert float(values["invalid_per_s"]) <= float(values["answers_per_s"])
    assert float(values["inference_p50_ms"]) <= float(values["inference_p95_ms"])
    assert float(values["wait_ms"]) <= float(values["mean_ms"])
    assert 1 <= float(values["batch"]) <= 8


def test_snapshots_measure_the_traffic_between_them_and_add_none(server: TorchServe) -> None:
    watch = take_snapshots(server, 0.5)
    first, idle = next(watch), next(watch)
    assert isinstance(first, Snapshot)
    assert first.rates is None
    assert isinstance(idle, Snapshot)
    assert idle.rates is not None
    assert (idle.rates.requests_per_s, idle.rates.errors_per_s, idle.rates.stages) == (0, 0, {})

    answered = partial(answers, server)
    before = answered()
    send_all(server.config.inference_url, [(CAT, {})] * 12 + [(b"junk", {})] * 4, 16)
    wait_until(lambda: answered() == before + 16, "the metrics")
    busy = next(watch)
    assert isinstance(busy, Snapshot)
    assert busy.rates is not None
    assert busy.rates.requests_per_s == busy.rates.answers_per_s > 0
    assert busy.rates.invalid_per_s == pytest.approx(busy.rates.answers_per_s / 4)
    assert busy.rates.queue_s is not None
    assert busy.rates.request_s is not None
    assert 0 < busy.rates.queue_s < busy.rates.request_s < 30
    assert "inference" in busy.rates.stages
    assert busy.status.facts is not None
    assert busy.status.facts["network"] == "efficientnet_lite0"
    (memory,) = busy.memory_bytes.values()
    assert memory > 100e6
    assert busy.uptime_s is not None
    assert busy.uptime_s > 1


def answers(server: TorchServe) -> float:
    return scrape(server.config.metrics_url).total("catdog_batch_pictures_sum")


def test_a_terminal_is_redrawn(server: TorchServe) -> None:
    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        with watching(server, theirs) as process:
            text = read_until(ours, lambda text: text.count("Ctrl-C ends this") >= 3)
            end(process)
    finally:
        os.close(ours)
        os.close(theirs)
    assert "\x1b[2K" in text  # lines are erased and drawn again
    model = r"efficientnet_lite0 efficientnet-lite0-57934424, (onnxruntime|openvino) fp32 on cpu"
    assert re.search(model, text)
    assert re.search(r"requests +0\.0 /s", text)
    assert re.search(r"9000 +\S*READY", text)
