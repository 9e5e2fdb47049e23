"""Make the backend that the command line asked for."""

from pathlib import Path

from PIL import Image

from catdog.results import ModelId
from catdog_serving.client import CatDogClient
from catdog_serving.folder.backends import Backend, HttpBackend
from catdog_serving.torchserve.serving_config import ServingConfig
from catdog_serving.torchserve.tokens import open_client

# About two minutes: long enough for a server that is started again.
_PATIENT_RETRIES = 30


def open_backend(
    name: str,
    config_path: Path,
    archive: Path | None,
    url: str | None,
    jobs: int | None,
    with_maps: bool = False,
    address: str | None = None,
) -> Backend:
    """Open "http", "local" or "ray".

    Args:
        name: Which.
        config_path: The config.properties that fills in what is None.
        archive: For local and ray: the .mar.
        url: For http: the server's inference address.
        jobs: For http: requests under way at once; never more than the queue of the
            configured server holds. For ray: actors.
        with_maps: Whether predictions bring their maps.
        address: For ray: of a cluster; None for a Ray on this machine.

    Raises:
        NotReadyError, ServerUnavailableError: If it cannot answer.
    """
    if name == "local":
        from catdog_serving.folder.local_backend import LocalBackend

        return LocalBackend(archive or ServingConfig.read(config_path).archive, with_maps)
    if name == "ray":
        from catdog_serving.on_ray.ray_backend import RayBackend

        archive = archive or ServingConfig.read(config_path).archive
        return RayBackend(archive, address, jobs, with_maps)
    if url is None or jobs is None:
        config = ServingConfig.read(config_path)
        url = url or config.inference_url
        jobs = min(jobs or config.default_jobs, config.job_queue_size)
    with open_client(url, config_path) as client:
        model = _ask_model(client)
    return HttpBackend(
        open_client(url, config_path, retries=_PATIENT_RETRIES, connections=jobs),
        model,
        jobs,
        with_maps,
    )


def _ask_model(client: CatDogClient) -> ModelId:
    """Which model answers there, by its answer for a tiny image.

    It also tells at once, and not after minutes of patience, that there is no server.
    """
    image = Image.new("RGB", (8, 8))
    return client.classify(image).model
