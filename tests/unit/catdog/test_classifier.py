from pathlib import Path

import pytest
from PIL import Image

from catdog.classifier import Classifier
from catdog.decode import Decoder
from catdog.invalid_image import InvalidImage
from catdog.results import Prediction
from tests.support.images import encode
from tests.support.model_dirs import colour_classifier

RED, GREEN, BLUE = (encode(Image.new("RGB", (80, 60), c)) for c in ("red", "lime", "blue"))


def labels(results: list[Prediction | InvalidImage]) -> list[str]:
    return [r.reason.value if isinstance(r, InvalidImage) else r.label for r in results]


def test_results_come_in_order_with_the_archives_identity(tmp_path: Path) -> None:
    classifier, engine = colour_classifier(tmp_path)
    results = classifier.classify([RED, GREEN, BLUE, RED])
    assert labels(results) == ["cat", "dog", "neither", "cat"]
    assert engine.batches == [4]
    first = results[0]
    assert isinstance(first, Prediction)
    assert (first.model.network, first.model.weights, first.version) == (
        "resnet152",
        "IMAGENET1K_V1",
        "7.0",
    )


def test_answers_name_the_precision_that_computed(tmp_path: Path) -> None:
    classifier, engine = colour_classifier(tmp_path)
    engine.precision = "bf16"  # such as on a GPU; the archive's fact is another
    decoder = Decoder(classifier.settings.limits)
    again = Classifier(tmp_path, classifier.info, classifier.settings, engine, 1, decoder)
    (result,) = again.classify([RED])
    assert isinstance(result, Prediction)
    assert (result.model.precision, again.info.precision) == ("bf16", "fp32")


def test_one_corrupt_image_fails_alone(tmp_path: Path) -> None:
    classifier, engine = colour_classifier(tmp_path)
    alone = classifier.classify([RED])[0]
    results = classifier.classify([b"junk", RED, b"", GREEN])
    assert labels(results) == ["undecodable", "cat", "empty", "dog"]
    assert results[1] == alone
    assert engine.batches == [1, 2]


@pytest.mark.parametrize("images", [[], [b"junk"], [b"", b"junk"]])
def test_a_batch_without_a_valid_image_runs_no_network(tmp_path: Path, images: list[bytes]) -> None:
    classifier, engine = colour_classifier(tmp_path)
    assert len(classifier.classify(images)) == len(images)
    assert engine.batches == []


def test_a_refusal_keeps_neither_bytes_nor_frames_alive(tmp_path: Path) -> None:
    classifier, _ = colour_classifier(tmp_path)
    (refused,) = classifier.classify([b"junk"])
    assert isinstance(refused, InvalidImage)
    assert refused.__traceback__ is None
    assert refused.__cause__ is None
