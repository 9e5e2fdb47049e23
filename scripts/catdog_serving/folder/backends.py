"""The two ways to classify files: over HTTP, or in this process.

Both read files lazily, keep a bounded number of them in memory, and give one
`ImageResult` per path, in order.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from catdog.postprocess import Prediction
from catdog.preprocess import FOLDER_FORMATS, InvalidImage
from catdog_serving.client import CatDogClient
from catdog_serving.errors import InvalidImageError, NotReadyError
from catdog_serving.model_archive import open_archive

if TYPE_CHECKING:
    import numpy as np

LOCAL_BATCH = 8


@dataclass(frozen=True)
class ImageError:
    """Why a file has no prediction: a stable type, and a sentence."""

    type: str
    message: str


@dataclass(frozen=True)
class ImageResult:
    """What became of one file."""

    path: Path
    outcome: Prediction | ImageError


class Backend(ExitStack, ABC):
    """Classifies files; a context manager that closes what it opened."""

    @abstractmethod
    def classify_files(self, paths: Iterable[Path]) -> Iterator[ImageResult]:
        """One result per path, in order."""


class HttpBackend(Backend):
    """Ask a running server, `jobs` requests at a time, so that it can fill its batches."""

    def __init__(self, client: CatDogClient, jobs: int) -> None:
        super().__init__()
        self._client = self.enter_context(client)
        self._pool = self.enter_context(ThreadPoolExecutor(jobs, thread_name_prefix="request"))
        self._jobs = jobs

    def classify_files(self, paths: Iterable[Path]) -> Iterator[ImageResult]:
        waiting: deque[Future[ImageResult]] = deque()
        try:
            for path in paths:
                waiting.append(self._pool.submit(self._classify, path))
                if len(waiting) >= self._jobs:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def _classify(self, path: Path) -> ImageResult:
        content = _read_file(path)
        if isinstance(content, ImageError):
            return ImageResult(path, content)
        try:
            return ImageResult(path, self._client.classify(content))
        except InvalidImageError as error:
            return ImageResult(path, ImageError("InvalidImage", error.message))


class LocalBackend(Backend):
    """Run the archive's network in this process; the next batch is decoded meanwhile."""

    def __init__(self, archive: Path) -> None:
        super().__init__()
        try:
            from catdog.classifier import Classifier
        except ImportError as error:
            raise NotReadyError(
                f"--backend local needs {error.name}; run: pip install 'catdog[serve]'"
            ) from error
        model_dir = self.enter_context(open_archive(archive))
        self._classifier = Classifier.load(model_dir, formats=FOLDER_FORMATS)
        self.callback(self._classifier.close)
        self._reader = self.enter_context(ThreadPoolExecutor(1, thread_name_prefix="reader"))

    def classify_files(self, paths: Iterable[Path]) -> Iterator[ImageResult]:
        prepared: Future[_PreparedBatch] | None = None
        for batch in _batches(paths, LOCAL_BATCH):
            following = self._reader.submit(self._prepare, batch)
            if prepared is not None:
                yield from self._finish(prepared.result())
            prepared = following
        if prepared is not None:
            yield from self._finish(prepared.result())

    def _prepare(self, paths: tuple[Path, ...]) -> "_PreparedBatch":
        contents = [_read_file(path) for path in paths]
        decoded = iter(
            self._classifier.preprocess([c for c in contents if not isinstance(c, ImageError)])
        )
        return _PreparedBatch(
            paths, [c if isinstance(c, ImageError) else next(decoded) for c in contents]
        )

    def _finish(self, batch: "_PreparedBatch") -> Iterator[ImageResult]:
        readable = [item for item in batch.items if not isinstance(item, ImageError)]
        results = iter(self._classifier.postprocess(readable, self._classifier.infer(readable)))
        for path, item in zip(batch.paths, batch.items, strict=True):
            outcome = item if isinstance(item, ImageError) else next(results)
            if isinstance(outcome, InvalidImage):
                outcome = ImageError("InvalidImage", outcome.message)
            yield ImageResult(path, outcome)


@dataclass(frozen=True)
class _PreparedBatch:
    paths: tuple[Path, ...]
    items: "list[np.ndarray | InvalidImage | ImageError]"


def _batches(paths: Iterable[Path], size: int) -> Iterator[tuple[Path, ...]]:
    """Like itertools.batched, which Python 3.11 does not have."""
    iterator = iter(paths)
    while batch := tuple(islice(iterator, size)):
        yield batch


def _read_file(path: Path) -> bytes | ImageError:
    try:
        return path.read_bytes()
    except OSError as error:
        return ImageError("Unreadable", error.strerror or str(error))
