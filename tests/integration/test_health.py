"""Ready means that a prediction would be answered, and a failure is told with its reason."""

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import requests

from catdog_serving.errors import NotReadyError
from catdog_serving.operate.series import scrape
from catdog_serving.operate.server import TorchServe
from tests.support.archives import repack
from tests.support.configs import MakeConfig
from tests.support.loads import send_one
from tests.support.paths import SAMPLES
from tests.support.processes import wait_until

CAT = (SAMPLES / "chelsea.png").read_bytes()


def status(server: TorchServe, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "catdog_serving", "status", *options),
            *("--config", str(server.config.path)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )


def test_status_is_0_only_while_a_worker_is_ready(archive: Path, make_config: MakeConfig) -> None:
    server = TorchServe(make_config(archive))
    assert status(server).returncode == 3
    with server:
        assert status(server).returncode == 0
        (worker,) = server.versions()[0].workers
        psutil.Process(worker.pid).kill()
        down = status(server)
        assert down.returncode == 3
        assert "no worker is READY" in down.stderr
        # TorchServe's own health check does not notice:
        assert requests.get(f"{server.config.inference_url}/ping", timeout=5).status_code == 200
        wait_until(lambda: status(server).returncode == 0, "READY again", timeout_s=60)
    assert status(server).returncode == 3


def test_a_full_queue_is_no_reason_to_call_a_server_unfit(
    archive: Path, make_config: MakeConfig
) -> None:
    """Readiness probes ask for the status: pods with much to do must not leave their Service."""
    config = make_config(archive, batching={"batchSize": 1}, job_queue_size="2")
    with TorchServe(config) as server, ThreadPoolExecutor(4) as pool:
        worker = psutil.Process(server.versions()[0].workers[0].pid)
        worker.suspend()
        try:
            answers = [pool.submit(send_one, config.inference_url, CAT) for _ in range(4)]
            wait_until(lambda: server.versions()[0].queue_free == 0, "a full queue")
            full = status(server)
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
        ("model_onnx", b"this is no network", "InvalidProtobuf"),
        ("catdog_handler_py", b"import nonsense_module\n", "nonsense_module"),
        ("model_json", b"{}", "ValueError: model.json: missing"),
        ("model-config_yaml", b"handler: {}\nresponseTimeout: 60\n", "ValueError: .*missing"),
    ],
)
def test_a_failed_initialize_is_told_by_its_last_line(
    archive: Path, tmp_path: Path, make_config: MakeConfig, file: str, content: bytes, reason: str
) -> None:
    broken = repack(archive, tmp_path / "x.mar", **{file: content})
    with pytest.raises(NotReadyError) as caught:
        TorchServe(make_config(broken)).start()
    first_line = str(caught.value).splitlines()[0]
    assert re.match(f"the worker could not load the archive: .*{reason}", first_line)


def test_a_worker_that_fails_while_the_server_runs_is_told_by_status(
    archive: Path, tmp_path: Path, make_config: MakeConfig
) -> None:
    server = TorchServe(make_config(archive))
    with server:
        # The archive's unpacked copy loses its network, and the worker is started again.
        (model,) = server.run.temporary.glob("models/*/model.onnx")
        model.write_bytes(b"this is no network")
        (worker,) = server.versions()[0].workers
        psutil.Process(worker.pid).kill()
        wait_until(lambda: "InvalidProtobuf" in status(server).stderr, "the reason", timeout_s=60)
        assert status(server).returncode == 3
        # The start that failed is counted, under the id of the worker that it replaces.
        with requests.Session() as session:
            series = scrape(session, server.config.values["metrics_address"], 10)
        assert series.total("catdog_worker_starts", worker=worker.id) >= 2
