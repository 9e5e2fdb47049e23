"""Run an archive's network in this process, without a server."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from catdog.invalid_image import InvalidImage, map_valid
from catdog.results import Explanation, Prediction
from catdog_serving.folder.backends import Backend
from catdog_serving.folder.image_result import FileInfo, ImageFailure, ImageResult
from catdog_serving.folder.read_image import read_file
from catdog_serving.local import BATCH, batches, decodable, device_errors, load_classifier
from catdog_serving.ordered_map import ordered_map
from catdog_serving.remote_path import AnyPath

if TYPE_CHECKING:
    from catdog.transforms import ModelInput


class LocalBackend(Backend):
    """Classify in batches; the next batch is read and decoded while one computes."""

    jobs = 1

    def __init__(
        self,
        archive: Path,
        with_maps: bool = False,
        device: str | None = None,
        threads: int | None = None,
        engine: str | None = None,
    ) -> None:
        """Load an archive.

        Args:
            archive: The .mar.
            with_maps: Whether predictions bring their maps.
            device: Where the network runs; see `Classifier.load`.
            threads: CPU threads; None: as the archive's settings say.
            engine: What computes; None: as they say.

        Raises:
            NotReadyError: If there is no archive, or the extra `serve` is not installed.
            RefusedError: If the archive is another user's, or of another catdog.
        """
        super().__init__()
        self._with_maps = with_maps
        self._classifier = load_classifier(archive, device, threads, engine)
        self.callback(self._classifier.close)
        self._files = self.enter_context(ThreadPoolExecutor(BATCH, thread_name_prefix="file"))
        self.model = self._classifier.model

    def classify_files(self, paths: Iterable[AnyPath]) -> Iterator[ImageResult]:
        for batch in ordered_map(self._preprocess, batches(paths, BATCH), 1):
            yield from self._finish(batch)

    def explain(self, content: bytes) -> Explanation | ImageFailure:
        with device_errors():
            (outcome,) = self._classifier.explain([decodable(content)])
        if isinstance(outcome, InvalidImage):
            return ImageFailure.refused(outcome.message)
        return outcome

    def _preprocess(self, paths: tuple[AnyPath, ...]) -> "_Batch":
        # At once: a file on another machine takes longer to come than to decode.
        files, contents = zip(*self._files.map(_read, paths), strict=True)
        return _Batch(files, map_valid(self._classifier.preprocess, contents, ImageFailure))

    def _finish(self, batch: "_Batch") -> Iterator[ImageResult]:
        with device_errors():
            outcomes = map_valid(self._classifier.classify_inputs, batch.inputs, ImageFailure)
        for file, outcome in zip(batch.files, outcomes, strict=True):
            if isinstance(outcome, InvalidImage):
                outcome = ImageFailure.refused(outcome.message)
            elif isinstance(outcome, Prediction) and not self._with_maps:
                outcome = replace(outcome, map=None)
            yield ImageResult(file, outcome)


@dataclass(frozen=True)
class _Batch:
    files: tuple[FileInfo, ...]
    inputs: "list[ModelInput | InvalidImage | ImageFailure]"


def _read(path: AnyPath) -> tuple[FileInfo, bytes | InvalidImage | ImageFailure]:
    file, content = read_file(path)
    return file, content if isinstance(content, ImageFailure) else decodable(content)
