"""LocalClassifier: what the server answers, in this process."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from catdog.results import Prediction
from catdog_serving import CatDogClient, InvalidImageError, LocalClassifier
from catdog_serving.errors import NotReadyError
from tests.support.paths import SAMPLES


@pytest.fixture(scope="module")
def local(archive: Path) -> Iterator[LocalClassifier]:
    with LocalClassifier(archive) as classifier:
        yield classifier


def test_it_answers_what_the_server_answers(local: LocalClassifier, client: CatDogClient) -> None:
    path = SAMPLES / "chelsea.png"
    with_map = local.classify(path, with_map=True)
    assert with_map.map is not None
    for image in (path, str(path), path.read_bytes(), np.asarray(Image.open(path).convert("RGB"))):
        answer, served = local.classify(image), client.classify(image)
        assert (answer.label, answer.box, answer.map) == (served.label, served.box, None)
        assert answer.cat == pytest.approx(served.cat, abs=1e-5)
        assert answer.model == served.model == local.model
    explained = local.explain(path)
    assert explained.box == client.explain(path).box
    assert explained.prediction.box == with_map.box


def test_many_come_in_order_and_a_bad_one_is_an_item(
    local: LocalClassifier, client: CatDogClient
) -> None:
    images = [
        SAMPLES / "chelsea.png",
        b"no image",
        SAMPLES / "gone.png",
        SAMPLES / "coffee.png",
    ] * 5
    both = (each.classify_many(images, concurrency=4) for each in (local, client))
    for here, there in zip(*both, strict=True):
        assert type(here) is type(there)
        if isinstance(here, InvalidImageError):
            assert isinstance(there, InvalidImageError)
            assert (here.kind, here.message) == (there.kind, there.message)
        else:
            assert isinstance(there, Prediction)
            assert here.cat == pytest.approx(there.cat, abs=1e-5)


@pytest.mark.parametrize("method", ["classify", "explain"])
def test_what_is_no_image_is_refused(local: LocalClassifier, method: str) -> None:
    with pytest.raises(InvalidImageError, match="cannot decode 8 bytes"):
        getattr(local, method)(b"no image")
    with pytest.raises(InvalidImageError, match=r"give RGB as \(H, W, 3\)"):
        getattr(local, method)(np.zeros((3, 3)))
    with pytest.raises(FileNotFoundError):
        getattr(local, method)(SAMPLES / "gone.png")


def test_without_an_archive_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="none.mar"):
        LocalClassifier(tmp_path / "none.mar")


def test_threads_that_are_none_are_not_the_archives_fault(archive: Path) -> None:
    with pytest.raises(ValueError, match="threads is -1; give 1 or more, or None"):
        LocalClassifier(archive, threads=-1)


def test_without_an_engines_package_it_says_what_to_install(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(NotReadyError, match="onnxruntime is needed; run: .*serve"):
        LocalClassifier(archive)
