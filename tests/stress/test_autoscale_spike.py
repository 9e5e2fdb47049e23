"""Waiting times in a spike: one fixed worker against `catdog autoscale --min 1 --max 2`.

The figures in docs/scale-and-deploy.md come from here. Requests come at random times (Poisson)
that do not wait for answers. The queue time of each is from when it was sent until its batch
began in a worker: the line in model.log, found by the request's own id, minus the batch's stages.
"""

import json
import re
import signal
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from catdog_serving.bench.load_generator import arrival_times, closed_loop, send_at
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.serving_config import ServingConfig
from tests.support.autoscalers import following
from tests.support.configs import MakeConfig
from tests.support.paths import SAMPLES
from tests.support.processes import wait_until

CAT = (SAMPLES / "chelsea.png").read_bytes()
CALM_S, SPIKE_S = 5.0, 40.0
CALM, SPIKE = 0.3, 1.4  # load, in shares of what one worker answers in a closed loop
REACTED_S = 20.0  # of the spike: by then a second worker is READY
_LINE = re.compile(r"(\S+) .*client=spike-(\d+) status=200 .* ms: (.*)")


@dataclass(frozen=True)
class Sent:
    """One request: when it was due within the run, when it was sent, and its answer."""

    due_s: float
    sent: float  # by the clock of the log
    status: int
    latency_s: float  # from when it was due


def run_spike(url: str, images_per_s: float) -> list[Sent]:
    """Calm, spike, calm; the same arrivals for the same rate."""
    times: list[float] = []
    start_s = 0.0
    for seed, (share, seconds) in enumerate([(CALM, CALM_S), (SPIKE, SPIKE_S), (CALM, CALM_S)]):
        times += [start_s + t for t in arrival_times(share * images_per_s, seconds, seed)]
        start_s += seconds
    log_clock = time.time() - time.perf_counter()
    answers = send_at(url, [CAT], times, lambda number: {"X-Request-Id": f"spike-{number}"})
    return [
        Sent(due_s, log_clock + answer.sent, answer.status, answer.end - answer.due)
        for due_s, answer in zip(times, answers, strict=True)
    ]


def queue_times(log: Path, sent: list[Sent]) -> dict[int, float]:
    """Seconds from sending to the start of the batch, by number, of what was answered 200."""
    found = {}
    for line in log.read_text().splitlines():
        if match := _LINE.match(line):
            logged = datetime.fromisoformat(match[1]).timestamp()
            stages_ms = sum(float(pair.split("=")[1]) for pair in match[3].split())
            number = int(match[2])
            found[number] = max(0.0, logged - stages_ms / 1000 - sent[number].sent)
    return found


def measure(
    name: str, config: ServingConfig, images_per_s: float | None, follow: bool
) -> tuple[dict[str, float | str], float]:
    """One run on a new server; also what one worker answers per second, measured if not given."""
    with TorchServe(config) as server:
        url = server.config.inference_url
        if images_per_s is None:
            closed_loop(url, [CAT], 32, 3)  # a new server is slower for some seconds
            images_per_s = closed_loop(url, [CAT], 32, 5).images_per_s
        if follow:
            with following(server.config.path, "--min", "1", "--max", "2") as scaler:
                scaler.wait_for("1 worker: ")
                sent = run_spike(url, images_per_s)
                assert scaler.end(signal.SIGTERM) == 0
                print(scaler.text)
        else:
            sent = run_spike(url, images_per_s)
        workers = server.versions()[0].ready_workers
        answered = {number for number, s in enumerate(sent) if s.status == 200}
        log = server.run.model_log
        wait_until(lambda: queue_times(log, sent).keys() == answered, "a line for each answer")
        waits = queue_times(log, sent)
    assert {s.status for s in sent} <= {200, 503}
    row: dict[str, float | str] = {"what": name, "workers in the end": workers}
    for part, begin_s in (("spike", 0.0), ("reacted", REACTED_S)):
        numbers = [n for n, s in enumerate(sent) if begin_s <= s.due_s - CALM_S < SPIKE_S]
        good = [n for n in numbers if n in answered]
        p50, p99 = np.percentile([waits[n] for n in good], [50, 99]) * 1000
        row |= {
            f"{part}: images_per_s": round(len(good) / (SPIKE_S - begin_s), 1),
            f"{part}: refused": round(1 - len(good) / len(numbers), 3),
            f"{part}: queue_p50_ms": round(p50),
            f"{part}: queue_p99_ms": round(p99),
            f"{part}: latency_p99_ms": round(
                np.percentile([sent[n].latency_s for n in good], 99) * 1000
            ),
        }
    return row, images_per_s


@pytest.mark.parametrize("most", [1, 2])
def test_spike(most: int, make_config: MakeConfig, archive: Path) -> None:
    """`most` is maxWorkers of config.properties: the cores are shared out by it."""
    config = make_config(archive, worker_settings={"minWorkers": 1, "maxWorkers": most})
    fixed, rate = measure("one worker", config, None, follow=False)
    scaled, _ = measure("autoscale 1 to 2", config, rate, follow=True)
    print(f"\nmaxWorkers {most}: one worker answers {rate:.1f} a second")
    for row in (fixed, scaled):
        print(json.dumps(row))
    assert (fixed["workers in the end"], scaled["workers in the end"]) == (1, 2)
