"""Classify in this process, without a server: an archive, with the client's methods.

    with LocalClassifier("model-store/catdog.mar") as classifier:
        print(classifier.classify("chelsea.png").label)

A first image takes no longer than the others; loading takes seconds, so make one and keep it. It
may be used by several threads, which take turns.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeAlias, TypeVar

from catdog.engines import DeviceLostError, OutOfDeviceMemoryError
from catdog.invalid_image import InvalidImage, map_valid
from catdog.model_info import check_engine
from catdog.results import Explanation, Prediction
from catdog.transforms import Task
from catdog_serving.errors import InvalidImageError, NotReadyError, RefusedError
from catdog_serving.extras import install_hint
from catdog_serving.image_formats import folder_decoder, missing_decoder
from catdog_serving.image_source import ImageSource, read_source, unreadable
from catdog_serving.model_archive import open_archive
from catdog_serving.ordered_map import ordered_map

if TYPE_CHECKING:
    from catdog.classifier import Classifier
    from catdog.transforms import ModelInput

BATCH = 8
Item = TypeVar("Item")
_Input: TypeAlias = "ModelInput | InvalidImage | InvalidImageError"


class LocalClassifier:
    """An archive's network in this process.

    Args:
        archive: The .mar.
        device: "cpu" or "cuda:N"; None: a GPU, if the archive is packed for one and it is there.
        threads: CPU threads; None: as the archive's settings say.
        engine: What computes, such as "openvino"; None: as they say.

    Attributes:
        model: The model that answers.

    Raises:
        NotReadyError: If there is no archive, or the extra `serve` is not installed.
        RefusedError: If the archive is another user's, or of another catdog.
        ValueError: If there is no such engine, or `threads` is below 1.
    """

    def __init__(
        self,
        archive: str | PathLike[str],
        *,
        device: str | None = None,
        threads: int | None = None,
        engine: str | None = None,
    ) -> None:
        self._classifier = load_classifier(Path(archive).expanduser(), device, threads, engine)
        self._turn = threading.Lock()
        self.model = self._classifier.model

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End its threads."""
        self._classifier.close()

    def classify(self, image: ImageSource, with_map: bool = False) -> Prediction:
        """Classify one image.

        Args:
            image: What `CatDogClient.classify` takes.
            with_map: Keep the prediction's map.

        Raises:
            InvalidImageError: If it cannot be decoded, or is too large.
            OSError: If a path cannot be read.
        """
        (result,) = self._finish(self._prepare([read_source(image)]), with_map)
        if isinstance(result, InvalidImageError):
            raise result
        return result

    def explain(self, image: ImageSource, with_animals: bool = False) -> Explanation:
        """Classify one image, and find the animal in all of it.

        Args:
            image: What `classify` takes.
            with_animals: Find a cat beside a dog too; takes up to two more passes.

        Raises:
            InvalidImageError, OSError: As `classify` does.
        """
        task = Task.ANIMALS if with_animals else Task.EXPLANATION
        inputs = self._classifier.preprocess([decodable(read_source(image))], [task])
        with self._turn, device_errors():
            (outcome,) = self._classifier.explain_inputs(inputs)
        if isinstance(outcome, InvalidImage):
            raise InvalidImageError(outcome.message, kind="InvalidImage")
        return outcome

    def classify_many(
        self, images: Iterable[ImageSource], concurrency: int = BATCH
    ) -> Iterator[Prediction | InvalidImageError]:
        """Classify a stream of images in batches; the next is decoded while one computes.

        Args:
            images: What `classify` takes; the stream may be endless.
            concurrency: Images in a batch, at most 8.

        Yields:
            For each image its prediction, or the error of one that is none or cannot be read.
        """
        parts = batches(images, min(concurrency, BATCH))
        for inputs in ordered_map(self._read_and_prepare, parts, 1):
            yield from self._finish(inputs)

    def _read_and_prepare(self, batch: Sequence[ImageSource]) -> list[_Input]:
        contents = [_read_or_refuse(image) for image in batch]
        return map_valid(self._prepare, contents, InvalidImageError)

    def _prepare(self, contents: Sequence[bytes]) -> list[_Input]:
        return list(self._classifier.preprocess([decodable(content) for content in contents]))

    def _finish(
        self, inputs: Sequence[_Input], with_map: bool = False
    ) -> Iterator[Prediction | InvalidImageError]:
        with self._turn, device_errors():
            outcomes = map_valid(self._classifier.classify_inputs, inputs, InvalidImageError)
        for outcome in outcomes:
            if isinstance(outcome, InvalidImage):
                outcome = InvalidImageError(outcome.message, kind="InvalidImage")
            elif isinstance(outcome, Prediction) and not with_map:
                outcome = replace(outcome, map=None)
            yield outcome


def load_classifier(
    archive: Path, device: str | None, threads: int | None, engine: str | None = None
) -> "Classifier":
    """Load an archive as `LocalClassifier` does.

    Nothing is read from the unpacked folder later: a process that is killed leaves none behind.
    """
    if engine:
        check_engine(engine)
    if threads is not None and threads < 1:
        raise ValueError(f"threads is {threads}; give 1 or more, or None")
    try:
        from catdog.classifier import Classifier
    except ImportError as error:
        raise _missing_package(error) from error
    with open_archive(archive) as model_dir, device_errors():
        try:
            classifier = Classifier.load(
                model_dir, device, folder_decoder, threads=threads, engine=engine
            )
            if classifier.device != "cpu":
                classifier.warm_up(BATCH)
        except (ValueError, FileNotFoundError) as error:
            raise wrong_version(archive, error) from error
        except ImportError as error:  # the engine's own
            raise _missing_package(error) from error
    return classifier


def _missing_package(error: ImportError) -> NotReadyError:
    return NotReadyError(f"to compute here, {error.name} is needed; run: {install_hint('serve')}")


def wrong_version(archive: Path, error: Exception) -> RefusedError:
    """What an archive of another catdog is answered with."""
    return RefusedError(
        f"{archive} is not for this version of catdog: {error}; build it again with: catdog package"
    )


def decodable(content: bytes) -> bytes | InvalidImage:
    """The content, or what is missing here to decode it."""
    return missing_decoder(content) or content


@contextmanager
def device_errors() -> Iterator[None]:
    """What a GPU cannot do, as an error of ours."""
    try:
        yield
    except (DeviceLostError, OutOfDeviceMemoryError) as error:
        raise NotReadyError(str(error)) from error


def batches(items: Iterable[Item], size: int) -> Iterator[tuple[Item, ...]]:
    """Like itertools.batched, which Python 3.11 does not have."""
    iterator = iter(items)
    while batch := tuple(islice(iterator, size)):
        yield batch


def _read_or_refuse(image: ImageSource) -> bytes | InvalidImageError:
    try:
        return read_source(image)
    except InvalidImageError as error:
        return error
    except OSError as error:
        return unreadable(image, error)
