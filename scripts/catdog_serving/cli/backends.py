"""The ways to classify and explain that a command line can choose."""

import os
from pathlib import Path

from catdog.cpu import ENGINE_VARIABLE
from catdog.model_info import check_engine
from catdog_serving.errors import ServerUnavailableError, UsageError
from catdog_serving.folder.backends import Backend, HttpBackend
from catdog_serving.folder.local_backend import LocalBackend
from catdog_serving.on_ray.ray_backend import RayBackend
from catdog_serving.torchserve.serving_config import ServingConfig


def open_backend(
    name: str,
    config: Path,
    archive: Path | None,
    url: str | None,
    jobs: int | None,
    with_maps: bool = False,
    address: str | None = None,
    token: str | None = None,
) -> Backend:
    """Open "http", "local" or "ray"; the configuration fills in what is None.

    Raises:
        NotReadyError, ServerError: If it cannot answer.
    """
    if name == "http":
        try:
            return HttpBackend.open(config, url, jobs, with_maps, token)
        except ServerUnavailableError as error:
            if error.status is not None:  # one answered, though not as catdog does
                raise
            raise ServerUnavailableError(f"{error}, or do without: --backend local") from error
    archive = archive or ServingConfig.read(config).archive
    if name == "ray":
        return RayBackend(archive, address, jobs, with_maps)
    return LocalBackend(archive, with_maps, engine=wished_engine())


def wished_engine() -> str | None:
    """The engine that the environment chooses, if it does.

    Raises:
        UsageError: If there is none of that name.
    """
    wished = os.environ.get(ENGINE_VARIABLE) or None
    if wished:
        try:
            check_engine(wished)
        except ValueError as error:
            raise UsageError(f"{ENGINE_VARIABLE}: {error}") from error
    return wished
