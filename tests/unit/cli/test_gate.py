"""`--evaluate DIR`: what labelled images let pass."""

from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from catdog.results import ClassProbability, ModelId, Prediction
from catdog_serving.cli import gate
from catdog_serving.errors import NotReadyError, RefusedError
from catdog_serving.folder.backends import Backend
from catdog_serving.folder.image_result import FileInfo, ImageFailure, ImageResult

MODEL = ModelId("net", "mine", "fp32")


class Named(Backend):
    """Says what a file's name says; "torn" is no image."""

    def __init__(self, archive: Path, engine: str | None) -> None:
        super().__init__()
        assert archive.name == "x.mar"

    def classify_files(self, paths: Iterable[Path]) -> Iterator[ImageResult]:  # type: ignore[override]
        for path in paths:
            yield ImageResult(FileInfo(path), self._outcome(path.stem.split("-")[0]))

    def _outcome(self, name: str) -> Prediction | ImageFailure:
        if name == "torn":
            return ImageFailure("InvalidImage", "it is cut off")
        cat, dog = {"cat": (0.9, 0.1), "dog": (0.1, 0.9), "neither": (0.01, 0.02)}[name]
        top = (ClassProbability(0, "tench", 0.1),)
        return Prediction(name, cat, dog, 1 - cat - dog, None, top, None, MODEL, "1.0")

    def explain(self, content: bytes) -> ImageFailure:
        raise NotImplementedError


def album(folder: Path, **answers: list[str]) -> Path:
    for truth, names in answers.items():
        (folder / truth).mkdir()
        for number, name in enumerate(names):
            (folder / truth / f"{name}-{number}.jpg").write_bytes(b"x")
    return folder


@pytest.mark.parametrize(
    ("answers", "complaint"),
    [
        ({"cats": ["cat"] * 9, "dogs": ["dog"] * 9}, None),
        ({"cats": ["cat"] * 9, "dogs": ["dog"] * 9 + ["cat"] * 2}, None),
        ({"cats": ["dog"] * 9, "dogs": ["cat"] * 9}, r"^0 of 18 cats and dogs .* than the 0\.9 "),
        ({"cats": ["cat"], "dogs": ["dog"], "neither": ["neither"]}, None),
        ({"cats": ["cat"], "dogs": ["dog"], "neither": ["cat"]}, r"^2 of 3 labels are right"),
        ({"cats": ["cat"], "dogs": ["dog", "torn"]}, r"torn-1\.jpg .* classified: it is cut off"),
    ],
)
def test_an_archive_that_is_often_wrong_is_refused(
    answers: dict[str, list[str]],
    complaint: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gate, "LocalBackend", Named)
    check = gate.accuracy_gate(album(tmp_path, **answers), 0.9)
    with pytest.raises(RefusedError, match=complaint) if complaint else nullcontext():
        check(Path("x.mar"))


def test_a_folder_that_is_not_fit_is_said_before_anything_is_built(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="has no folder cats"):
        gate.accuracy_gate(tmp_path, 0.9)
    gate.accuracy_gate(None, 0.9)(tmp_path)
