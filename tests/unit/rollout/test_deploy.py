"""What a deploy lays out for the server, without one."""

import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest

from catdog_serving.archive_copies import copy_archive
from catdog_serving.errors import NotReadyError, RefusedError
from catdog_serving.model_archive import archive_facts, file_sha256
from catdog_serving.rollout import deploy as module
from catdog_serving.rollout.deploy import DeployTimes, Trust
from catdog_serving.rollout.rollback import rollback
from catdog_serving.torchserve.management import ManagementClient, ModelStatus, WorkerStatus
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.serving_config import ServingConfig
from tests.support.configs import MakeConfig


def write_archive(path: Path, facts: str, version: str = "1.0") -> None:
    with zipfile.ZipFile(path, "w") as archive:
        manifest = f'{{"model": {{"modelVersion": "{version}"}}}}'
        archive.writestr("MAR-INF/MANIFEST.json", manifest)
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


def served(*workers: WorkerStatus) -> ModelStatus:
    return ModelStatus("1.0", True, 8, 5, 60, 120, workers, 48, 0)


def unpacked(archive: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStatus:
    """The version whose one worker is this process, in the folder of that archive."""
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)
    monkeypatch.chdir(folder)
    return served(WorkerStatus("9000", "READY", os.getpid(), False, 0))


@pytest.mark.parametrize("version", ["1.0", "7.0"])
@pytest.mark.parametrize("is_ready", [True, False])
def test_what_is_served_already_leaves_the_way_back_as_it_is(
    tmp_path: Path,
    make_config: MakeConfig,
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    is_ready: bool,
) -> None:
    config = make_config(None)
    write_archive(config.previous_archive, '{"of": "before"}')
    again = tmp_path / "again.mar"
    write_archive(again, '{"of": "now"}', version)
    copy_archive(again, config.archive, config.named_version)  # as the first deploy did
    old = unpacked(config.archive, tmp_path / "served", monkeypatch) if is_ready else served()
    steps: list[str] = []
    files = module._new_files(config, again, old, steps.append)
    assert list(files.values()) == [config.archive]
    assert steps == ["same     the archive is the one that is served; catdog.previous.mar stays"]
    write_archive(again, '{"of": "tomorrow"}', version)
    files = module._new_files(config, again, old, steps.append)
    assert [archive_facts(staged)["of"] for staged in files] == ["now", "tomorrow"]
    assert list(files.values()) == [config.previous_archive, config.archive]
    assert len(steps) == 1


def test_what_is_served_is_deployed_again_over_what_was_packed_meanwhile(
    tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And without a way back, none is told of."""
    config = make_config(None)
    again = tmp_path / "again.mar"
    write_archive(again, '{"of": "now"}')
    old = unpacked(again, tmp_path / "served", monkeypatch)
    write_archive(config.archive, '{"of": "tomorrow"}')
    steps: list[str] = []
    assert list(module._new_files(config, again, old, steps.append).values()) == [config.archive]
    assert steps == ["same     the archive is the one that is served"]


@pytest.mark.parametrize("is_ready", [True, False])
def test_a_rollback_to_what_is_served_is_refused(
    tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, is_ready: bool
) -> None:
    server = TorchServe(make_config(None))
    for path in (server.config.archive, server.config.previous_archive):
        write_archive(path, '{"of": "now"}')
    old = served()
    if is_ready:
        old = unpacked(server.config.archive, tmp_path / "served", monkeypatch)
    monkeypatch.setattr(ManagementClient, "versions", lambda _: [old])
    server.run.create()
    server.run.record(psutil.Process())  # as if this process were the server
    steps: list[str] = []
    try:
        told = "is what is served already, so there is nothing to go back to; nothing was changed"
        named = re.escape(str(server.config.previous_archive))
        with pytest.raises(RefusedError, match=f"{named} {told}"):
            rollback(server, DeployTimes(), on_step=steps.append)
        server.config.previous_archive.unlink()
        with pytest.raises(NotReadyError, match="to go back to: no other archive was deployed yet"):
            rollback(server, DeployTimes(), on_step=steps.append)
    finally:
        server.run.remove()
    assert steps == []
