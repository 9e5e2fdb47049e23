"""Make the backend that the command line asked for."""

from pathlib import Path

from catdog_serving.client import CatDogClient
from catdog_serving.folder.backends import Backend, HttpBackend, LocalBackend
from catdog_serving.operate.serving_config import ServingConfig


def open_backend(
    name: str, config_path: Path, archive: Path | None, url: str | None, jobs: int | None
) -> Backend:
    """Open "http" or "local".

    Args:
        name: Which.
        config_path: The config.properties that fills in what is None.
        archive: For local: the .mar.
        url: For http: the server's inference address.
        jobs: For http: requests under way at once.
    """
    if name == "local":
        return LocalBackend(archive or ServingConfig.read(config_path).archive)
    if url is None or jobs is None:
        config = ServingConfig.read(config_path)
        url = url or config.inference_url
        jobs = jobs or 2 * config.batching["maxWorkers"] * config.batching["batchSize"]
    return HttpBackend(CatDogClient(url, config=config_path), jobs)
