"""The ways to classify files: over HTTP here, in this process or on Ray elsewhere.

All read files lazily, keep a bounded number of them in memory, and give one
`ImageResult` per path, in order.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from PIL import Image

from catdog.results import Explanation, ModelId
from catdog_serving.client import CatDogClient
from catdog_serving.errors import InvalidImageError
from catdog_serving.folder.image_result import ImageFailure, ImageResult
from catdog_serving.folder.read_image import read_file
from catdog_serving.ordered_map import ordered_map
from catdog_serving.remote_path import AnyPath
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.serving_config import ServingConfig
from catdog_serving.torchserve.tokens import open_client

# About two minutes: long enough for a server that is started again.
_PATIENT_RETRIES = 30


class Backend(ExitStack, ABC):
    """Classifies files; a context manager that closes what it opened.

    Attributes:
        model: The model that answers.
        jobs: How many images it explains at once.
    """

    model: ModelId
    jobs: int

    @abstractmethod
    def classify_files(self, paths: Iterable[AnyPath]) -> Iterator[ImageResult]:
        """One result per path, in order."""

    @abstractmethod
    def explain(self, content: bytes) -> Explanation | ImageFailure:
        """Say where the animal of one image is; called by up to `jobs` threads."""


class HttpBackend(Backend):
    """Ask a running server, `jobs` requests at a time, so that it can fill its batches."""

    def __init__(
        self, client: CatDogClient, model: ModelId, jobs: int, with_maps: bool = False
    ) -> None:
        super().__init__()
        self.model = model
        self.jobs = jobs
        self._client = self.enter_context(client)
        self._with_maps = with_maps

    @classmethod
    def open(
        cls,
        config_path: Path,
        url: str | None = None,
        jobs: int | None = None,
        with_maps: bool = False,
        token: str | None = None,
    ) -> Self:
        """Ask the server of a configuration, or of a URL.

        Args:
            config_path: The config.properties that fills in what is None.
            url: The server's inference address.
            jobs: Requests under way at once; never more than the queue of the configured
                server holds.
            with_maps: Whether predictions bring their maps.
            token: The key that the server wants; None: see `open_client`.

        Raises:
            NotReadyError, ServerError: If it cannot answer.
        """
        if url is None or jobs is None:
            config = ServingConfig.read(config_path)
            url = url or TorchServe(config).served.inference_url
            jobs = min(jobs or config.default_jobs, config.job_queue_size)
        # It also tells at once, and not after minutes of patience, that there is no server.
        with open_client(url, config_path, token=token) as client:
            model = client.classify(Image.new("RGB", (8, 8))).model
        patient = open_client(
            url, config_path, token=token, retries=_PATIENT_RETRIES, connections=jobs
        )
        return cls(patient, model, jobs, with_maps)

    def classify_files(self, paths: Iterable[AnyPath]) -> Iterator[ImageResult]:
        return ordered_map(self._classify, paths, self.jobs)

    def _classify(self, path: AnyPath) -> ImageResult:
        file, content = read_file(path)
        if isinstance(content, ImageFailure):
            return ImageResult(file, content)
        try:
            answer = self._client.classify(content, self._with_maps)
        except InvalidImageError as error:
            return ImageResult(file, ImageFailure.refused(error.message))
        return ImageResult(file, answer)

    def explain(self, content: bytes) -> Explanation | ImageFailure:
        return explain_content(self._client, content)


def explain_content(client: CatDogClient, content: bytes) -> Explanation | ImageFailure:
    """Have a server explain a file's content, in any format that a folder may hold."""
    try:
        return client.explain(content)
    except InvalidImageError as error:
        return ImageFailure.refused(error.message)
