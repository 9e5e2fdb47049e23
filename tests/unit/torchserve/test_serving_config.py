import json
import re
import shutil
import zipfile
from itertools import pairwise
from pathlib import Path

import pytest

from catdog_serving.errors import NotReadyError, UsageError
from catdog_serving.torchserve import serving_config as module
from catdog_serving.torchserve.management import VersionSettings
from catdog_serving.torchserve.private_config import private_config
from catdog_serving.torchserve.properties import parse_properties
from catdog_serving.torchserve.serving_config import ServingConfig
from catdog_serving.torchserve.start_checks import check_addresses
from tests.support.configs import MakeConfig
from tests.support.nvidia_smi import TWO_GPUS, install_nvidia_smi
from tests.support.paths import ROOT

SHIPPED = ROOT / "config" / "config.properties"


def fake_archive(tmp_path: Path, version: str, runtime: str = "onnx") -> Path:
    path = tmp_path / "catdog.mar"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("MAR-INF/MANIFEST.json", json.dumps({"model": {"modelVersion": version}}))
        packed.writestr("model.json", json.dumps({"runtime": runtime}))
    return path


ODD_NAMES = [
    "a b",
    "tr ",
    " b",
    "q\"x'y",
    "h#z",
    "ü",
    "猫🐈",
    "a:b=c",
    "a%20b",
    "a\\b",
    "a\\u00e9",
    "$x",
]


@pytest.fixture
def odd_root(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A checkout whose path is no plain word."""
    root = tmp_path / request.param
    shutil.copytree(ROOT / "config", root / "config")
    (root / "model-store").mkdir()
    shutil.copy(fake_archive(tmp_path, "1.0"), root / "model-store")
    return root


@pytest.mark.parametrize("odd_root", ODD_NAMES, indirect=True)
def test_the_name_of_the_checkout_reaches_java_whole(odd_root: Path, tmp_path: Path) -> None:
    config = ServingConfig.read(odd_root / "config" / "config.properties")
    log = f"-Dlog4j.configurationFile={(odd_root / 'config' / 'log4j2.xml').as_uri()}"
    shipped = ServingConfig.read(SHIPPED).java_options(Path.as_uri)
    ours = config.java_options(Path.as_uri)
    assert [log if "log4j" in option else option for option in shipped] == ours
    config.write_for_server(tmp_path / "out.properties")
    written = as_java_reads((tmp_path / "out.properties").read_text(encoding="latin-1"))
    assert written["model_store"] == str(odd_root / "model-store")
    assert written["metrics_config"] == str(odd_root / "config" / "metrics.yaml")
    assert json.loads(written["models"])["catdog"]["1.0"]["batchSize"] == 8
    private = private_config(config, tmp_path / "private", None)
    assert private.java_options() == config.java_options()
    assert private.values["metrics_config"] == written["metrics_config"]


def as_java_reads(text: str) -> dict[str, str]:
    """A second opinion on what our own files say: no comments, a key and = and a value a line."""
    values = {}
    for line in text.splitlines():
        key, _, value = line.partition("=")
        assert value == value.strip()
        escapes = re.sub(r'"', r"\"", value)  # what is left is a JSON string's escapes
        values[key] = json.loads(f'"{escapes}"')
    return values


@pytest.mark.parametrize("odd_root", ["$$x$$"], indirect=True)
def test_a_name_that_torchserve_would_replace_is_refused(odd_root: Path, tmp_path: Path) -> None:
    config = ServingConfig.read(odd_root / "config" / "config.properties")
    with pytest.raises(NotReadyError, match="rename that folder"):
        config.write_for_server(tmp_path / "out.properties")


@pytest.mark.parametrize("content", [b"a=\xe9\n", b"\xff\xfea\x00=\x00"])
def test_a_file_in_another_encoding_is_one_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.properties").write_bytes(content)
    with pytest.raises(NotReadyError, match="config.properties is not UTF-8"):
        ServingConfig.read(tmp_path / "config.properties")


def test_the_shipped_configuration_is_complete_and_safe() -> None:
    config = ServingConfig.read(SHIPPED)
    assert config.is_loopback_only()
    assert len(set(config.endpoints().values())) == 5
    assert config.archive == ROOT / "model-store" / "catdog.mar"
    assert set(config.worker_settings) >= {"minWorkers", "maxWorkers", "batchSize", "maxBatchDelay"}
    # Tokens stay on for whoever starts TorchServe by hand, and archives come from the store only.
    assert "disable_token_authorization" not in config.values
    assert config.values["enable_model_api"] == "true"
    assert config.values["allowed_urls"] == "file:///nonexistent/.*"


def test_every_shipped_key_has_a_comment_of_one_line() -> None:
    lines = SHIPPED.read_text().replace("\\\n", "").splitlines()
    for before, line in pairwise(lines):
        key = line.partition("=")[0]
        if line and not line.startswith("#"):
            # gRPC's four stand together under one comment
            assert before.startswith(("# ", "grpc_")), f"{key} has no comment"


def test_the_servers_copy_has_absolute_paths_and_the_archives_version(
    tmp_path: Path, make_config: MakeConfig
) -> None:
    config = make_config(fake_archive(tmp_path, "3.0"), worker_settings={"batchSize": 4})
    config.write_for_server(tmp_path / "out.properties")
    written = parse_properties((tmp_path / "out.properties").read_text())
    assert Path(written["model_store"]) == config.root / "model-store"
    assert Path(written["metrics_config"]).is_file()
    entry = json.loads(written["models"])["catdog"]
    assert list(entry) == ["3.0"]
    assert entry["3.0"]["batchSize"] == 4
    assert "vmargs" not in written


def test_the_log_configuration_becomes_an_absolute_url() -> None:
    options = ServingConfig.read(SHIPPED).java_options(Path.as_uri)
    assert f"-Dlog4j.configurationFile=file://{ROOT}/config/log4j2.xml" in options
    assert any(option.startswith("-Xmx") for option in options)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("inference_address", "http://0.0.0.0:8080"),
        ("management_address", "http://192.0.2.1:8081"),
        ("metrics_address", "http://example.com:8082"),
        ("grpc_inference_address", "0.0.0.0"),
        ("grpc_management_address", "::"),
    ],
)
def test_one_address_off_loopback_keeps_the_tokens_on(
    tmp_path: Path, make_config: MakeConfig, key: str, value: str
) -> None:
    archive = fake_archive(tmp_path, "1.0")
    config = make_config(archive, **{key: value})
    assert not config.is_loopback_only()
    config.write_for_server(tmp_path / "out.properties")
    written = (tmp_path / "out.properties").read_text()
    assert "disable_token_authorization=false" in written
    assert "token_expiration_min=525600" in written  # a year; TorchServe's default is an hour
    shorter = make_config(archive, **{key: value, "token_expiration_min": "60"})
    shorter.write_for_server(tmp_path / "out.properties")
    assert "token_expiration_min=60\n" in (tmp_path / "out.properties").read_text()
    make_config(archive).write_for_server(tmp_path / "out.properties")
    assert "disable_token_authorization=true" in (tmp_path / "out.properties").read_text()


def test_loopback_and_the_inference_address_are_free(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(
        fake_archive(tmp_path, "1.0"),
        inference_address="http://0.0.0.0:8080",
        management_address="http://[::1]:8081",
        metrics_address="http://localhost:8082",
        grpc_inference_address="127.0.0.2",
        allow_remote="management_address, metrics_address",
    )
    assert check_addresses(config) == []
    config.write_for_server(tmp_path / "out.properties")
    assert "allow_remote" not in (tmp_path / "out.properties").read_text()


def test_a_missing_file_or_key_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="--config"):
        ServingConfig.read(tmp_path / "config.properties")
    (tmp_path / "config.properties").write_text("inference_address=http://127.0.0.1:1\n")
    with pytest.raises(NotReadyError, match="management_address.* are missing"):
        ServingConfig.read(tmp_path / "config.properties")


def test_worker_settings_are_the_configurations_and_time_outs_are_the_archives(
    tmp_path: Path, make_config: MakeConfig
) -> None:
    def registered(config: ServingConfig, yaml: str, workers: int) -> VersionSettings:
        with zipfile.ZipFile(tmp_path / "x.mar", "w") as packed:
            packed.writestr("model-config.yaml", yaml)
        return config.version_settings(tmp_path / "x.mar", workers)

    config = make_config(
        None, worker_settings={"batchSize": 4, "maxBatchDelay": 7, "maxWorkers": 9}
    )
    yaml = (ROOT / "config" / "model-config.yaml").read_text()
    found = registered(config, yaml.replace(": 60", ": 61").replace(": 120", ": 99"), workers=3)
    assert (found.workers, found.batch_size, found.max_batch_delay_ms) == (3, 4, 7)
    assert (found.response_timeout_s, found.startup_timeout_s) == (61, 99)

    config = make_config(None, worker_settings={"responseTimeout": 30})
    found = registered(config, "handler: {}\n", workers=1)
    assert (found.response_timeout_s, found.startup_timeout_s) == (30, 120)
    with pytest.raises(UsageError, match="at least 1 worker, got 0"):
        registered(config, yaml, workers=0)


@pytest.mark.parametrize(
    ("runtime", "values", "entry", "gpus", "workers"),
    [
        ("torch", {}, {}, 2, 8),  # 16 cores, so 4 for each
        ("torch", {"workers_per_gpu": "auto"}, {"minWorkers": 3, "maxWorkers": 9}, 2, 9),
        ("torch", {"workers_per_gpu": "3"}, {}, 2, 6),
        ("torch", {"workers_per_gpu": "1"}, {"minWorkers": 5, "maxWorkers": 5}, 2, 5),
        ("torch", {"number_of_gpu": "1"}, {}, 1, 8),  # it has all the cores
        ("torch", {"number_of_gpu": "0", "workers_per_gpu": "2"}, {}, 0, 1),
        ("onnx", {}, {}, 0, 1),
        ("torch", {"number_of_gpu": "2", "workers_per_gpu": "2"}, {}, 2, 4),
        ("onnx", {"number_of_gpu": "2"}, {}, 2, 2),  # it computes on the CPU all the same
    ],
)
def test_each_gpu_gets_its_workers_and_nvidia_smi_is_asked_once(
    tmp_path: Path,
    make_config: MakeConfig,
    monkeypatch: pytest.MonkeyPatch,
    runtime: str,
    values: dict[str, str],
    entry: dict[str, object],
    gpus: int,
    workers: int,
) -> None:
    asked = tmp_path / "asked"
    install_nvidia_smi(tmp_path, monkeypatch, f"echo >> {asked}{TWO_GPUS}")
    monkeypatch.setattr(module, "usable_cores", lambda: 16)
    config = make_config(fake_archive(tmp_path, "1.0", runtime), entry, **values)
    config.write_for_server(tmp_path / "out.properties")
    written = parse_properties((tmp_path / "out.properties").read_text())
    assert written["number_of_gpu"] == str(gpus)
    assert "workers_per_gpu" not in written
    assert json.loads(written["models"])["catdog"]["1.0"]["maxWorkers"] == workers
    assert config.served_worker_settings["maxWorkers"] == workers
    assert not asked.exists() or asked.read_text() == "\n"


def test_what_lies_beside_a_file_that_was_copied_alone_is_its_own(tmp_path: Path) -> None:
    """Not in the folder above, which is everybody's for a file in a home."""
    path = tmp_path / "night" / "night.properties"
    for store in (path.with_name("model-store"), tmp_path / "model-store"):
        store.mkdir(parents=True)
    shutil.copy(SHIPPED, path)
    assert ServingConfig.read(path).model_store == path.with_name("model-store")
