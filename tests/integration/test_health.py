"""Ready means that a prediction would be answered, and a failure is told with its reason."""

import json
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import psutil
import pytest
import requests

from catdog_serving.monitoring.metrics import scrape
from catdog_serving.torchserve.server import TorchServe
from tests.support.archive_cache import repack
from tests.support.command_line import catdog_here
from tests.support.full_queue import fill_queue
from tests.support.paths import SAMPLES
from tests.support.processes import wait_until
from tests.support.raw_requests import send_one
from tests.support.versions import loaded_beside

CAT = (SAMPLES / "chelsea.png").read_bytes()


def status(server: TorchServe, *options: str) -> subprocess.CompletedProcess[str]:
    return catdog_here("status", *options, "--config", server.config.path)


def test_status_is_0_only_while_a_worker_is_ready(own: TorchServe) -> None:
    own.stop()
    assert status(own).returncode == 3
    own.start()
    assert status(own).returncode == 0
    # The next worker cannot load, or it might be READY before anybody asked for the status.
    (facts,) = (own.run.temporary / "models").glob("*/model.json")
    hidden = facts.rename(facts.with_suffix(".hidden"))
    (worker,) = own.versions()[0].workers
    psutil.Process(worker.pid).kill()
    wait_until(lambda: own.versions()[0].ready_workers == 0, "the worker's death")
    asked = status(own)
    assert asked.returncode == 3
    assert "no worker is READY" in asked.stderr
    # TorchServe's own health check does not notice:
    assert requests.get(f"{own.config.inference_url}/ping", timeout=5).status_code == 200
    hidden.rename(facts)
    wait_until(lambda: status(own).returncode == 0, "READY again", timeout_s=60)


def test_a_full_queue_is_no_reason_to_call_a_server_unfit(small_queue: TorchServe) -> None:
    """Readiness probes ask for the status: pods with much to do must not leave their Service."""
    url = small_queue.config.inference_url
    with ThreadPoolExecutor(4) as pool:
        worker = psutil.Process(small_queue.versions()[0].workers[0].pid)
        worker.suspend()
        try:
            answers = fill_queue(small_queue, pool, CAT, {})
            answers.append(pool.submit(send_one, url, CAT))
            full = status(small_queue)
        finally:
            worker.resume()
        assert full.returncode == 0, full.stderr
        assert "not known while the queue is full" in full.stdout
        assert "1 of 1 READY" in full.stdout
        # One was under way and two waited.
        assert sorted(answer.result().status for answer in answers) == [200, 200, 200, 503]


def test_status_in_json_has_everything_but_the_categories(server: TorchServe) -> None:
    document = json.loads(status(server, "--json").stdout)
    assert document["ready"] is True
    assert document["failure"] is None
    assert document["model"]["weights_sha256"].startswith("57934424")
    assert "categories" not in document["model"]
    assert document["versions"][0]["queue_free"] == int(server.config.values["job_queue_size"])


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("catdog_handler_py", b"import nonsense_module\n", ".*No module named .nonsense_module"),
        ("model_json", b"{}", "ValueError: model.json: missing"),
        ("model-config_yaml", b"handler: {}\nresponseTimeout: 60\n", "ValueError: .*missing"),
    ],
)
def test_a_failed_initialize_is_told_by_its_last_line(
    archive: Path, own: TorchServe, tmp_path: Path, file: str, content: bytes, reason: str
) -> None:
    """A network that is broken ends a start with its reason: tests/integration/test_serving.py."""
    broken = repack(archive, tmp_path / "x.mar", **{file: content})
    since = datetime.now()
    with loaded_beside(own, broken):
        told: list[str] = []

        def failed() -> bool:
            told[:] = filter(None, [own.run.logs.last_failure(since)])
            return bool(told)

        wait_until(failed, "a worker's failure", timeout_s=60)
    assert re.match(reason, told[0]), told


def test_a_worker_that_fails_while_the_server_runs_is_told_by_status(own: TorchServe) -> None:
    # The archive's unpacked copy loses its network, and the worker is started again.
    (model,) = own.run.temporary.glob("models/*/model.onnx")
    model.write_bytes(b"this is no network")
    try:
        (worker,) = own.versions()[0].workers
        psutil.Process(worker.pid).kill()
        wait_until(lambda: "InvalidProtobuf" in status(own).stderr, "the reason", timeout_s=60)
        assert status(own).returncode == 3
        # The start that failed is counted, under the id of the worker that it replaces.
        metrics = scrape(own.config.metrics_url)
        assert metrics.total("catdog_worker_starts_total", worker=worker.id) >= 2
    finally:
        own.stop()
