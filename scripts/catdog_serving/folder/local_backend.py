"""Run an archive's network in this process, without a server."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from catdog.engines import DeviceLostError, OutOfDeviceMemoryError
from catdog.invalid_image import InvalidImage
from catdog.results import Explanation, Prediction, map_valid
from catdog_serving.errors import NotReadyError, RefusedError
from catdog_serving.extras import install_hint
from catdog_serving.folder.backends import Backend
from catdog_serving.folder.image_result import INVALID_IMAGE, FileInfo, ImageFailure, ImageResult
from catdog_serving.folder.read_image import folder_decoder, missing_decoder, read_file
from catdog_serving.model_archive import open_archive
from catdog_serving.remote_path import AnyPath

if TYPE_CHECKING:
    from catdog.transforms import ModelInput

BATCH = 8


class LocalBackend(Backend):
    """Classify in batches; the next batch is read and decoded while one computes."""

    jobs = 1

    def __init__(
        self,
        archive: Path,
        with_maps: bool = False,
        device: str | None = None,
        threads: int | None = None,
    ) -> None:
        """Load an archive.

        Args:
            archive: The .mar.
            with_maps: Whether predictions bring their maps.
            device: Where the network runs; see `Classifier.load`.
            threads: CPU threads; None: as the archive's settings say.

        Raises:
            NotReadyError: If there is no archive, or the extra `serve` is not installed.
            RefusedError: If the archive is another user's, or of another catdog.
        """
        super().__init__()
        self._with_maps = with_maps
        try:
            from catdog.classifier import Classifier
        except ImportError as error:
            raise NotReadyError(
                f"--backend local needs {error.name}; run: {install_hint('serve')}"
            ) from error
        # Nothing is read from the folder later: an actor that is killed leaves none behind.
        with open_archive(archive) as model_dir, _device_errors():
            try:
                self._classifier = Classifier.load(
                    model_dir, device, folder_decoder, threads=threads
                )
                if self._classifier.device != "cpu":
                    self._classifier.warm_up(BATCH)
            except (ValueError, FileNotFoundError) as error:
                raise wrong_version(archive, error) from error
        self.callback(self._classifier.close)
        self._reader = self.enter_context(ThreadPoolExecutor(1, thread_name_prefix="reader"))
        self._files = self.enter_context(ThreadPoolExecutor(BATCH, thread_name_prefix="file"))
        self.model = self._classifier.model

    def classify_files(self, paths: Iterable[AnyPath]) -> Iterator[ImageResult]:
        ahead: Future[_Batch] | None = None
        for batch in _batches(paths, BATCH):
            following = self._reader.submit(self._preprocess, batch)
            if ahead is not None:
                yield from self._finish(ahead.result())
            ahead = following
        if ahead is not None:
            yield from self._finish(ahead.result())

    def explain(self, content: bytes) -> Explanation | ImageFailure:
        missing = missing_decoder(content)
        if missing:
            return missing
        with _device_errors():
            (outcome,) = self._classifier.explain([content])
        if isinstance(outcome, InvalidImage):
            return ImageFailure(INVALID_IMAGE, outcome.message)
        return outcome

    def _preprocess(self, paths: tuple[AnyPath, ...]) -> "_Batch":
        # At once: a file on another machine takes longer to come than to decode.
        files, contents = zip(*self._files.map(_read, paths), strict=True)
        return _Batch(files, map_valid(self._classifier.preprocess, contents, ImageFailure))

    def _finish(self, batch: "_Batch") -> Iterator[ImageResult]:
        with _device_errors():
            outcomes = map_valid(self._classifier.classify_inputs, batch.inputs, ImageFailure)
        for file, outcome in zip(batch.files, outcomes, strict=True):
            if isinstance(outcome, InvalidImage):
                outcome = ImageFailure(INVALID_IMAGE, outcome.message)
            elif isinstance(outcome, Prediction) and not self._with_maps:
                outcome = replace(outcome, map=None)
            yield ImageResult(file, outcome)


@contextmanager
def _device_errors() -> Iterator[None]:
    """What a GPU cannot do, as an error of commands."""
    try:
        yield
    except (DeviceLostError, OutOfDeviceMemoryError) as error:
        raise NotReadyError(str(error)) from error


def wrong_version(archive: Path, error: Exception) -> RefusedError:
    """What an archive of another catdog is answered with."""
    return RefusedError(
        f"{archive} is not for this version of catdog: {error}; build it again with: catdog package"
    )


@dataclass(frozen=True)
class _Batch:
    files: tuple[FileInfo, ...]
    inputs: "list[ModelInput | InvalidImage | ImageFailure]"


def _read(path: AnyPath) -> tuple[FileInfo, bytes | ImageFailure]:
    file, content = read_file(path)
    if not isinstance(content, ImageFailure):
        content = missing_decoder(content) or content
    return file, content


def _batches(paths: Iterable[AnyPath], size: int) -> Iterator[tuple[AnyPath, ...]]:
    """Like itertools.batched, which Python 3.11 does not have."""
    iterator = iter(paths)
    while batch := tuple(islice(iterator, size)):
        yield batch
