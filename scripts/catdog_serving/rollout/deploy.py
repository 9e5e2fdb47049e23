"""catdog deploy: another archive takes over, or everything stays as it was.

The archive is checked in this process, comes up as the next version beside the old one,
answers its golden images over HTTP, becomes the default, and is watched for a while. Then
the old version is drained and removed. Any failure on the way goes back.
"""

from dataclasses import dataclass
from pathlib import Path

from catdog.model_info import ModelInfo
from catdog_serving.errors import NotReadyError, RefusedError
from catdog_serving.model_archive import (
    check_owner,
    copy_archive,
    file_sha256,
    has_files_of,
    next_version,
    pack_folder,
    private_copy,
)
from catdog_serving.monitoring.metrics import scrape
from catdog_serving.rollout.canary import TrafficWindow, check_served_golden, watch_canary
from catdog_serving.rollout.free_memory import check_memory
from catdog_serving.rollout.switch import (
    OnStep,
    checked_folder,
    default_version,
    drain,
    operator,
    served_folder,
    staged_archive,
    switch,
)
from catdog_serving.torchserve.management import ManagementClient, ModelStatus
from catdog_serving.torchserve.server import READY_TIMEOUT_S, TorchServe
from catdog_serving.torchserve.serving_config import ServingConfig

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


def deploy(
    server: TorchServe,
    archive: Path,
    times: DeployTimes = DeployTimes(),
    *,
    on_step: OnStep = lambda _: None,
) -> str:
    """Serve another archive, with as many workers as now, without a lost request.

    Afterwards it is model-store/catdog.mar, which a restart serves, and what was served before
    is catdog.previous.mar. Both are stamped with the version that config.properties names, as
    TorchServe's own launcher takes batch settings from there for no other.

    Args:
        server: One that `catdog serve` or `TorchServe.start` started.
        archive: The .mar, wherever it is; it may be the model store's own catdog.mar.
        times: How long to wait and to watch.
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
        return take_over(server, management, archive, times, on_step)


def take_over(
    server: TorchServe,
    management: ManagementClient,
    archive: Path,
    times: DeployTimes,
    on_step: OnStep,
) -> str:
    """The story of a deploy, from the file to the version that is left."""
    config = server.config
    earlier = scrape(config.metrics_url)
    # `catdog package` may replace the archive at any time: from here on it is this copy.
    checked = checked_folder(config) / archive.name
    private_copy(archive, checked)
    on_step(f"archive  {archive}, SHA-256 {file_sha256(checked)}")
    info = _verified(checked)
    on_step(f"checked  {_described(info)}; its golden images get their masses")
    old = default_version(management)
    new = next_version(model.version for model in management.versions())
    workers = max(1, len(old.workers))
    check_memory(old, workers)
    files = _new_files(config, checked, old)
    with staged_archive(config) as staged:
        copy_archive(checked, staged, new)
        with switch(server, management, old.version, new, files=files, on_step=on_step):
            management.register(staged.name, config.version_settings(staged, workers))
            server.wait_ready(workers, version=new, timeout_s=times.ready)
            on_step(f"ready    version {new} beside {old.version}, workers: {workers}")
            check_served_golden(server, checked, info, old, new)
            on_step("asked    the golden images get the same masses over HTTP")
            start = scrape(config.metrics_url)
            management.set_default(new)
            on_step(f"default  version {new}")
            before = TrafficWindow.between(earlier, start)
            seen = watch_canary(server, management, new, before, start, times.watch)
            on_step(f"watched  {seen}")
            drain(management, old.version)
    on_step(f"removed  version {old.version}, which had nothing left to do")
    return new


def _verified(archive: Path) -> ModelInfo:
    from catdog_serving.build.verify import verify_archive

    try:
        return verify_archive(archive)
    except NotReadyError as error:  # it is there, so it is no archive
        raise RefusedError(str(error)) from error


def _described(info: ModelInfo) -> str:
    return f"{info.model.name}, {info.runtime} {info.precision}"


def _new_files(config: ServingConfig, archive: Path, old: ModelStatus) -> dict[Path, Path]:
    """Lay the two archives beside their places, as they will be: a full disk shows in time."""
    previous, current = (config.model_store / f".catdog-{n}.mar" for n in ("previous", "current"))
    version = config.named_version
    files = {current: config.archive}
    folder = _folder_of(old)
    if folder is not None and not has_files_of(config.archive, folder):
        # `catdog package` has written over what is served.
        pack_folder(folder, previous, version)
        files = {previous: config.previous_archive} | files
    elif config.archive.is_file():
        copy_archive(config.archive, previous, version)
        files = {previous: config.previous_archive} | files
    copy_archive(archive, current, version)
    return files


def _folder_of(model: ModelStatus) -> Path | None:
    """What is served now; None while no worker is READY, which a deploy may be there to mend."""
    try:
        return served_folder(model)
    except NotReadyError:
        return None
