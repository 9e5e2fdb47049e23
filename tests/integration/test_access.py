"""Who may do what: loopback without tokens, tokens elsewhere, no archives from outside."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import requests

from catdog_serving.client import CatDogClient
from catdog_serving.errors import RefusedError, ServerError
from catdog_serving.model_archive import file_sha256
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.tokens import open_client
from tests.support.configs import MakeConfig
from tests.support.paths import SAMPLES
from tests.support.processes import wait_until

CAT = SAMPLES / "chelsea.png"


def local_url(server: TorchServe) -> str:
    return server.config.inference_url.replace("0.0.0.0", "127.0.0.1")


def test_loopback_needs_no_token(server: TorchServe) -> None:
    with CatDogClient(server.config.inference_url, token="wrong") as client:
        assert client.classify(CAT).label == "cat"
    assert not server.run.key_file.exists()


def test_elsewhere_every_api_wants_its_token(guarded: TorchServe) -> None:
    keys = json.loads(guarded.run.key_file.read_text())
    assert guarded.run.key_file.stat().st_mode & 0o777 == 0o600
    for url, kind, other in (
        (f"{local_url(guarded)}/predictions/catdog", "inference", "management"),
        (f"{guarded.config.management_url}/models", "management", "inference"),
    ):
        for token in (None, "wrong", keys[other]["key"]):
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            refused = requests.get(url, headers=headers, timeout=10)
            assert refused.status_code == 400
            assert refused.json()["type"] == "InvalidKeyException"
        headers = {"Authorization": f"Bearer {keys[kind]['key']}"}
        answer = requests.get(url, headers=headers, timeout=10)
        assert answer.status_code == 200 or "got no bytes" in answer.text


def test_a_refused_token_shows_in_the_servers_own_metrics(guarded: TorchServe) -> None:
    """As docs/monitor.md says; the access log cannot tell it from a bad image."""

    def refusals() -> float:
        text = requests.get(f"{guarded.config.values['metrics_address']}/metrics", timeout=10).text
        found = re.findall(r"^Requests4XX\{.*\} (\S+)$", text, re.MULTILINE)
        return sum(map(float, found))

    before = refusals()
    for _ in range(3):
        answer = requests.post(
            f"{local_url(guarded)}/predictions/catdog", data=CAT.read_bytes(), timeout=10
        )
        assert answer.json()["type"] == "InvalidKeyException"
    wait_until(lambda: refusals() == before + 3, "Requests4XX")


def test_the_client_takes_a_token(guarded: TorchServe) -> None:
    token = json.loads(guarded.run.key_file.read_text())["inference"]["key"]
    with CatDogClient(local_url(guarded), token=token) as client:
        assert client.classify(CAT).label == "cat"
    with CatDogClient(local_url(guarded), token="wrong") as client:
        with pytest.raises(ServerError, match="Token Authorization failed"):
            client.classify(CAT)


def test_the_client_finds_the_key_file_and_reads_it_again_once(guarded: TorchServe) -> None:
    with open_client(local_url(guarded), guarded.config.path) as client:
        assert client.classify(CAT).label == "cat"
        old = json.loads(guarded.run.key_file.read_text())
        rotated = requests.get(
            f"{guarded.config.management_url}/token?type=inference",
            headers={"Authorization": f"Bearer {old['API']['key']}"},
            timeout=10,
        )
        assert rotated.status_code == 200
        new = json.loads(guarded.run.key_file.read_text())
        assert new["inference"]["key"] != old["inference"]["key"]
        assert client.classify(CAT).label == "cat"  # refused, read again, sent again
    stale = old["inference"]["key"]
    with CatDogClient(local_url(guarded), token=stale) as client, pytest.raises(ServerError):
        client.classify(CAT)


def test_the_command_line_finds_the_key_file(guarded: TorchServe) -> None:
    catdog = [sys.executable, "-m", "catdog_serving"]
    shown = subprocess.run(
        [*catdog, "serve", "--config", guarded.config.path],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert f"the keys are in {guarded.run.key_file}" in shown
    result = subprocess.run(
        [*catdog, "classify", CAT, "--url", local_url(guarded), "--config", guarded.config.path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_a_token_is_never_sent_to_another_server(guarded: TorchServe, server: TorchServe) -> None:
    from catdog_serving.torchserve.tokens import find_auth

    for url in ("http://example.com", "http://127.0.0.1:1", server.config.inference_url):
        assert find_auth(url, guarded.config.path) is None
    assert find_auth(local_url(guarded), guarded.config.path) is not None


@pytest.mark.parametrize("headers", [{}, {"Origin": "http://evil.example", "Host": "evil.example"}])
@pytest.mark.parametrize("where", ["http", "file", "above", "s3"])
def test_no_archive_is_loaded_from_outside_the_model_store(
    server: TorchServe, archive: Path, tmp_path: Path, where: str, headers: dict[str, str]
) -> None:
    outside = tmp_path / "outside.mar"
    shutil.copy(archive, outside)
    urls = {
        "http": "http://127.0.0.1:1/outside.mar",
        "file": outside.as_uri(),
        "above": f"../{outside.name}",
        "s3": "s3://bucket/outside.mar",
    }
    answer = requests.post(
        f"{server.config.management_url}/models",
        params={"url": urls[where], "initial_workers": "1"},
        headers=headers | {"Content-Type": "text/plain"},
        timeout=30,
    )
    assert answer.status_code in (400, 404)
    listed = requests.get(f"{server.config.management_url}/models", timeout=10).json()
    assert [model["modelName"] for model in listed["models"]] == ["catdog"]


def test_archives_in_the_model_store_still_register(server: TorchServe, archive: Path) -> None:
    shutil.copy(archive, server.config.model_store / "second.mar")
    url = f"{server.config.management_url}/models"
    answer = requests.post(url, params={"url": "second.mar", "model_name": "second"}, timeout=30)
    assert answer.status_code == 200
    assert requests.delete(f"{url}/second", timeout=30).status_code == 200


def test_all_five_ports_are_on_loopback_alone(server: TorchServe) -> None:
    java = server.run.process()
    assert java is not None
    listening = {
        (connection.laddr.ip.removeprefix("::ffff:"), connection.laddr.port)
        for connection in java.net_connections()
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == set(server.config.endpoints().values())


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file to another user")
def test_an_archive_of_another_user_is_refused_with_its_hash(
    archive: Path, make_config: MakeConfig
) -> None:
    config = make_config(archive)
    os.chown(config.archive, 12345, 12345)
    with pytest.raises(RefusedError, match="belongs to user 12345") as caught:
        TorchServe(config).start()
    assert file_sha256(config.archive)[:16] in str(caught.value)
    result = subprocess.run(
        [
            *(sys.executable, "-m", "catdog_serving", "classify", CAT),
            *("--config", config.path, "--backend", "local"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 4
    assert "another user's code is not run" in result.stderr
