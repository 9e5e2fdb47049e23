"""catdog deploy: another archive takes over, or everything stays as it was.

The archive is checked in this process, comes up as the next version beside the old one,
answers its golden images over HTTP, becomes the default, and is watched for a while. Then
the old version is drained and removed. Any failure on the way goes back.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catdog.model_info import MODEL_INFO_FILE, ModelInfo
from catdog_serving.archive_copies import (
    copy_archive,
    has_files_of,
    next_version,
    pack_folder,
    private_copy,
)
from catdog_serving.errors import NotReadyError, RefusedError
from catdog_serving.model_archive import archive_facts, check_owner, file_sha256
from catdog_serving.monitoring.metrics import scrape
from catdog_serving.rollout.canary import TrafficWindow, check_served_golden, watch_canary
from catdog_serving.rollout.drain import drain
from catdog_serving.rollout.free_memory import check_memory
from catdog_serving.rollout.switch import (
    OnStep,
    default_version,
    operator,
    served_folder,
    switch,
)
from catdog_serving.torchserve.management import ManagementClient, ModelStatus
from catdog_serving.torchserve.server import READY_TIMEOUT_S, TorchServe
from catdog_serving.torchserve.serving_config import ServingConfig
from catdog_serving.torchserve.staged_files import checked_folder, staged_archive
from catdog_serving.torchserve.start_checks import check_room

WATCH_S = 10


@dataclass(frozen=True)
class DeployTimes:
    """How long to wait, in seconds.

    Attributes:
        ready: At most, until the new version's workers are READY.
        watch: With the new version as the default, before the old one goes.
    """

    ready: float = READY_TIMEOUT_S
    watch: float = WATCH_S


@dataclass(frozen=True)
class Trust:
    """What an operator takes on themselves, and what they ask of an archive beyond the rest.

    Attributes:
        insist: Serve a network that does not know what its golden images show.
        untrained: Serve seeded weights in place of trained ones.
        gate: Gets the checked archive while nothing is changed; raises to refuse it.
    """

    insist: bool = False
    untrained: bool = False
    gate: Callable[[Path], object] = lambda _: None


def deploy(
    server: TorchServe,
    archive: Path,
    times: DeployTimes = DeployTimes(),
    trust: Trust = Trust(),
    *,
    on_step: OnStep = lambda _: None,
) -> str:
    """Serve another archive, with as many workers as now, without a lost request.

    Afterwards it is model-store/catdog.mar, which a restart serves, and what was served before
    is catdog.previous.mar, unless it was this same archive: then that file stays, as the way back,
    and the deploy takes what config.properties has for its workers. Both are stamped with the
    version that config.properties names, as TorchServe's own launcher takes batch settings from
    there for no other.

    Args:
        server: One that `catdog serve` or `TorchServe.start` started.
        archive: The .mar, wherever it is; it may be the model store's own catdog.mar.
        times: How long to wait and to watch.
        trust: What to let pass, and what to ask.
        on_step: Is given a line after each step.

    Returns:
        The new version.

    Raises:
        RefusedError: If the archive fails a check, or the server with it; nothing is changed.
        NotReadyError: If the server does not run, another command is changing it, the archive
            is missing, memory or disk is short, or the server is lost meanwhile.
    """
    check_owner(archive)
    with operator(server, "deploy") as management:
        return take_over(server, management, archive, times, trust, on_step)


def take_over(
    server: TorchServe,
    management: ManagementClient,
    archive: Path,
    times: DeployTimes,
    trust: Trust,
    on_step: OnStep,
) -> str:
    """The story of a deploy, from the file to the version that is left."""
    config = server.config
    earlier = scrape(server.served.metrics_url)
    # `catdog package` may replace the archive at any time: from here on it is this copy.
    checked = checked_folder(config.model_store) / archive.name
    private_copy(archive, checked)
    on_step(f"archive  {archive}, SHA-256 {file_sha256(checked)}")
    info = _verified(checked, trust, on_step)
    on_step(f"checked  {_described(info)}; its golden images get their numbers")
    old = default_version(management)
    _check_untrained(info, old, config, trust)
    trust.gate(checked)
    new = next_version(model.version for model in management.versions())
    workers = max(1, len(old.workers))
    check_memory(old, workers)
    check_room(server.run, checked)
    files = _new_files(config, checked, old, on_step)
    with staged_archive(config) as staged:
        copy_archive(checked, staged, new)
        with switch(server, management, old.version, new, files=files, on_step=on_step):
            management.register(staged.name, config.version_settings(staged, workers))
            server.wait_ready(workers, version=new, timeout_s=times.ready)
            on_step(f"ready    version {new} beside {old.version}, workers: {workers}")
            check_served_golden(server, checked, info, old, new, insist=trust.insist)
            on_step("asked    the golden images get the same numbers over HTTP")
            start = scrape(server.served.metrics_url)
            management.set_default(new)
            on_step(f"default  version {new}")
            before = TrafficWindow.between(earlier, start)
            seen = watch_canary(server, management, new, before, start, times.watch)
            on_step(f"watched  {seen}")
            drain(management, old.version)
    on_step(f"removed  version {old.version}, which had nothing left to do")
    return new


def _verified(archive: Path, trust: Trust, on_step: OnStep) -> ModelInfo:
    from catdog_serving.build.verify import verify_archive

    try:
        return verify_archive(archive, insist=trust.insist, on_step=on_step)
    except NotReadyError as error:  # it is there, so it is no archive
        raise RefusedError(str(error)) from error


def _check_untrained(
    info: ModelInfo, old: ModelStatus, config: ServingConfig, trust: Trust
) -> None:
    """Refuse seeded weights in place of trained ones, unless they are asked for."""
    if not info.untrained or trust.untrained:
        return
    served: dict[str, Any] = {}
    with suppress(OSError, ValueError, NotReadyError):  # nobody can say what is served
        folder = _folder_of(old)
        served = (
            archive_facts(config.archive)
            if folder is None
            else json.loads((folder / MODEL_INFO_FILE).read_bytes())
        )
    if served.get("untrained") is False:
        raise RefusedError(
            f"{info.model.name}, and what is served is trained; nothing was changed. "
            "If you mean it, deploy it with --untrained"
        )


def _described(info: ModelInfo) -> str:
    return f"{info.model.name}, {info.runtime} {info.precision}"


def _new_files(
    config: ServingConfig, archive: Path, old: ModelStatus, on_step: OnStep
) -> dict[Path, Path]:
    """Lay the two archives beside their places, as they will be: a full disk shows in time."""
    previous, current = (config.model_store / f".catdog-{n}.mar" for n in ("previous", "current"))
    version = config.named_version
    copy_archive(archive, current, version)
    files = {current: config.archive}
    if is_served(current, config, old):
        kept = f"; {config.previous_archive.name} stays" if config.previous_archive.exists() else ""
        on_step(f"same     the archive is the one that is served{kept}")
        return files
    folder = _folder_of(old)
    if folder is not None and not has_files_of(config.archive, folder):
        # `catdog package` has written over what is served.
        pack_folder(folder, previous, version)
    elif config.archive.is_file():
        copy_archive(config.archive, previous, version)
    else:
        return files
    return {previous: config.previous_archive} | files


def is_served(archive: Path, config: ServingConfig, model: ModelStatus) -> bool:
    """Whether an archive is what a version serves; its own version may be another.

    Without a READY worker that is taken to be catdog.mar, byte for byte.
    """
    folder = _folder_of(model)
    if folder is not None:
        return has_files_of(archive, folder)
    return config.archive.is_file() and file_sha256(config.archive) == file_sha256(archive)


def _folder_of(model: ModelStatus) -> Path | None:
    """What is served now; None while no worker is READY, which a deploy may be there to mend."""
    try:
        return served_folder(model)
    except NotReadyError:
        return None
