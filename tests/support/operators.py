"""An operator's commands on a real server, an archive that can be slow, and broken ones."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import onnx
from onnx import numpy_helper

from catdog_serving.torchserve.server import TorchServe
from tests.support.archive_cache import repack, with_handler
from tests.support.command_line import catdog_here
from tests.support.paths import SAMPLES
from tests.support.processes import processes_of, wait_until
from tests.support.raw_requests import Answer, send_one

CAT = (SAMPLES / "chelsea.png").read_bytes()
WORKER_SETTINGS: dict[str, object] = {
    "batchSize": 4,
    "maxBatchDelay": 40,
}  # not TorchServe's defaults
CLOCK = "        clock = StageClock()\n"  # the first line of `handle` for a batch of images
TELEMETRY = "        self.telemetry.started()\n"  # in `initialize`
SLOW = """
        if context.get_request_header(0, "X-Slow"):
            import time
            time.sleep(2)
"""


def slow_archive(archive: Path, target: Path) -> Path:
    """A copy whose batch takes 2 s longer if its first request says X-Slow."""
    return with_handler(archive, target, CLOCK, SLOW + CLOCK)


@contextmanager
def started(server: TorchServe, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A command of an operator; it does not outlive the test."""
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "catdog_serving", *map(str, arguments)),
            *("--config", str(server.config.path)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "COLUMNS"} | {"COLUMNS": "200"},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def catdog(server: TorchServe, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A command that runs to its end, in this process."""
    environment = os.environ | {"COLUMNS": "200"}
    return catdog_here(*arguments, "--config", server.config.path, **environment)


def assert_one_version(server: TorchServe, workers: int) -> str:
    """One version is loaded, with config.properties' settings, and nothing lies about."""
    (model,) = server.versions()
    assert model.default
    assert (model.ready_workers, len(model.workers)) == (workers, workers)
    assert (model.batch_size, model.max_batch_delay_ms) == (4, 40)
    assert (model.response_timeout_s, model.startup_timeout_s) == (60, 120)
    wait_until(lambda: len(processes_of(server)) == 1 + workers, "no other worker")
    assert len(list((server.run.temporary / "models").iterdir())) == 1
    files = {path.name for path in server.config.model_store.iterdir()}
    assert files <= {"catdog.mar", "catdog.previous.mar"}
    assert not (server.run.path / "rollover.json").exists()
    return model.version


@contextmanager
def slow_clients(server: TorchServe) -> Iterator[list[Answer]]:
    """Eight clients that always have a slow request under way: two batches, or one and a queue.

    Four of them are half a batch behind, so that at any time one of two workers has long to go.
    """
    ended = Event()
    answers: list[Answer] = []

    def ask() -> None:
        while not ended.is_set():
            answers.append(send_one(server.config.inference_url, CAT, {"X-Slow": "yes"}))

    with ThreadPoolExecutor(8) as pool:
        try:
            for number in range(8):
                if number == 4:
                    ended.wait(1)
                pool.submit(ask)
            yield answers
        finally:
            ended.set()


def versions_of(answers: list[Answer]) -> set[str]:
    """Of answers that all must be predictions."""
    assert {answer.status for answer in answers} == {200}
    return {json.loads(answer.body)["version"] for answer in answers}


def make_broken(kind: str, good: Path, target: Path) -> Path:
    match kind:
        case "wrong weights":
            return repack(good, target, model_onnx=_other_weights(good))
        case "no network":
            return repack(good, target, model_onnx=b"this is no network")
        case "junk":
            target.write_bytes(b"junk")
            return target
        case "does not know a dog":
            facts = json.loads(zipfile.ZipFile(good).read("model.json"))
            facts["golden"][0]["shows"] = "dog"
            return repack(good, target, model_json=json.dumps(facts).encode())
        case "changed code":
            return repack(good, target, catdog_handler_py=b"class CatDogHandler: pass\n")
        case "raises":
            return with_handler(good, target, TELEMETRY, TELEMETRY + "        1 / 0\n")
        case "never ready":
            sleep = "        import time\n        time.sleep(1000)\n"
            return with_handler(good, target, TELEMETRY, TELEMETRY + sleep)
        case "other answers":
            found = "_to_json(content)\n"
            return with_handler(good, target, found, '_to_json(content | {"cat": 0.5})\n')
        case "fails clients" | "dies":
            harm = "raise RuntimeError" if kind == "fails clients" else "os._exit(1)"
            condition = 'data and bytes(data[0].get("body", b""))[:2] == b"\\xff\\xd8"'
            return with_handler(
                good, target, CLOCK, f"        if {condition}:\n            {harm}\n" + CLOCK
            )
        case "another user's":
            target.write_bytes(good.read_bytes())
            os.chown(target, 12345, 12345)
            return target
        case _:
            raise AssertionError(kind)


def _other_weights(archive: Path) -> bytes:
    """The archive's network with the sign of its last layer's weights changed."""
    with zipfile.ZipFile(archive) as packed:
        model = onnx.load_from_string(packed.read("model.onnx"))
    (last,) = (node for node in model.graph.node if "logits" in node.output)
    (weights,) = (each for each in model.graph.initializer if each.name == last.input[1])
    weights.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weights), weights.name))
    content: bytes = model.SerializeToString()
    return content
