"""A backend that answers by the file's name, for tests of everything around backends."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from catdog.results import (
    ActivationMap,
    Box,
    Breed,
    ClassProbability,
    Explanation,
    Label,
    ModelId,
    Prediction,
)
from catdog_serving.folder.backends import Backend
from catdog_serving.folder.image_result import INVALID_IMAGE, ImageFailure, ImageResult
from catdog_serving.folder.read_image import read_file
from catdog_serving.remote_path import AnyPath

MODEL = ModelId("net", "ids", "fp32")


def prediction(label: Label, cat: float, dog: float, model: ModelId = MODEL) -> Prediction:
    breed = None if label == "neither" else Breed("tabby [red]", 281, 0.5, 0.5 * cat)
    top = (ClassProbability(281, "tabby", cat),)
    return Prediction(label, cat, dog, 1 - cat - dog, breed, top, None, model, "1.0")


class NameBackend(Backend):
    """Really reads each file; "bad" in its name fails, "cat" is a cat, all else is neither."""

    def __init__(self, model: ModelId = MODEL) -> None:
        super().__init__()
        self.model = model
        self.jobs = 1
        self.asked: list[AnyPath] = []

    def explain(self, content: bytes) -> Explanation | ImageFailure:
        return ImageFailure(INVALID_IMAGE, "this backend explains nothing")

    def classify_files(self, paths: Iterable[AnyPath]) -> Iterator[ImageResult]:
        for path in paths:
            self.asked.append(path)
            file, content = read_file(path)
            if isinstance(content, ImageFailure):
                yield ImageResult(file, content)
            elif "bad" in path.name:
                yield ImageResult(file, ImageFailure(INVALID_IMAGE, "cannot decode"))
            elif "cat" in path.name:
                yield ImageResult(file, prediction("cat", 0.8, 0.1, self.model))
            else:
                yield ImageResult(file, prediction("neither", 0.1, 0.0, self.model))


class GreenBackend(NameBackend):
    """Every image is a cat in the right half of 100 x 60 pixels."""

    def explain(self, content: bytes) -> Explanation | ImageFailure:
        if content == b"bad":
            return ImageFailure("InvalidImage", "cannot decode")
        heat_map = ActivationMap((100, 60), (0, 0, 100, 60), ((0.0, 1.0),))
        return Explanation(prediction("cat", 0.9, 0.05), Box(50, 0, 100, 60), heat_map)


def touch(folder: Path, *names: str) -> None:
    """Make files with their own names as content."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(name))
