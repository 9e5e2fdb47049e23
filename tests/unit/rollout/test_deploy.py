"""What a deploy lays out for the server, without one."""

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from catdog_serving.model_archive import archive_facts, file_sha256
from catdog_serving.rollout import deploy as module
from catdog_serving.rollout.deploy import DeployTimes, Trust
from catdog_serving.torchserve.management import ManagementClient, ModelStatus
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.serving_config import ServingConfig
from tests.support.configs import MakeConfig


def write_archive(path: Path, facts: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", '{"model": {"modelVersion": "1.0"}}')
        archive.writestr("model.json", facts)


def test_an_archive_that_is_replaced_meanwhile_is_served_as_it_was_checked(
    tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = TorchServe(make_config(None))
    archive = tmp_path / "new.mar"
    write_archive(archive, '{"checked": true}')
    sha256 = file_sha256(archive)
    seen: list[dict[str, Any]] = []

    def check(*_: object) -> SimpleNamespace:
        write_archive(archive, '{"checked": false}')  # as `catdog package` may at this moment
        return SimpleNamespace(untrained=False)

    @contextmanager
    def switch(*_: object, files: Mapping[Path, Path], **__: object) -> Iterator[None]:
        seen.extend(archive_facts(path) for path in files)
        seen.extend(archive_facts(path) for path in server.config.model_store.glob(".*next.mar"))
        yield
        raise AssertionError("unreachable")

    def register(*_: object) -> None:
        raise KeyboardInterrupt

    old = ModelStatus("1.0", True, 8, 5, 60, 120, (), 48, 0)
    management = SimpleNamespace(versions=lambda: [old], register=register)
    for name, stand_in in {
        "scrape": lambda _: None,
        "_verified": check,
        "_described": lambda _: "",
        "switch": switch,
    }.items():
        monkeypatch.setattr(module, name, stand_in)
    monkeypatch.setattr(ServingConfig, "version_settings", lambda *_: None)
    steps: list[str] = []
    client = cast(ManagementClient, management)
    with pytest.raises(KeyboardInterrupt):
        module.take_over(server, client, archive, DeployTimes(), Trust(), steps.append)
    assert steps[0] == f"archive  {archive}, SHA-256 {sha256}"
    assert seen == [{"checked": True}] * 2
