"""A cat beside a dog: both are found for who asks, by at most two more passes."""

from pathlib import Path

import pytest
from PIL import Image

from catdog.classifier import Classifier
from catdog.results import Animal, Explanation
from catdog.transforms import Task
from tests.support.images import encode
from tests.support.model_dirs import ColourEngine, colour_classifier

# Cats are red, dogs green, and blue is neither: see `Colours`.


def strip(*colours: str) -> bytes:
    """Squares of 64 x 64 pixels side by side, as PNG."""
    image = Image.new("RGB", (64 * len(colours), 64))
    for number, colour in enumerate(colours):
        image.paste(Image.new("RGB", (64, 64), colour), (64 * number, 0))
    return encode(image, "PNG")


@pytest.fixture
def colours(tmp_path: Path) -> tuple[Classifier, ColourEngine]:
    return colour_classifier(tmp_path)


def explained(classifier: Classifier, image: bytes) -> Explanation:
    (found,) = classifier.explain([image], Task.ANIMALS)
    assert isinstance(found, Explanation)
    return found


@pytest.mark.parametrize(
    ("image", "labels"),
    [
        (("red", "red", "red", "blue", "lime"), {"cat", "dog"}),
        (("red", "blue", "lime", "lime", "lime"), {"cat", "dog"}),
        (("red", "blue"), {"cat"}),
        (("lime",), {"dog"}),
        (("blue", "blue"), set()),
    ],
)
def test_each_animal_is_found_on_its_side(
    colours: tuple[Classifier, ColourEngine], image: tuple[str, ...], labels: set[str]
) -> None:
    classifier, engine = colours
    found = explained(classifier, strip(*image))
    assert found.animals is not None
    assert {animal.label for animal in found.animals} == labels
    for animal in found.animals:
        middle = (animal.box.x0 + animal.box.x1) / 2
        assert image[int(middle / 64)] == {"cat": "red", "dog": "lime"}[animal.label]
        assert animal.certainty > 0.9
    if found.animals:  # the label's comes first, with the explanation's box
        assert found.animals[0].label == found.prediction.label
        assert found.animals[0].box == found.box
    assert len(engine.shapes) == 2 + len(labels)


def test_regions_that_overlap_are_of_one_animal(
    colours: tuple[Classifier, ColourEngine],
) -> None:
    classifier, engine = colours
    found = explained(classifier, strip("#ff8000"))  # a red that is half as green
    assert found.animals is not None
    assert [animal.label for animal in found.animals] == ["cat"]
    assert len(engine.shapes) == 3


def test_an_explanation_that_does_not_ask_takes_no_more_passes(
    colours: tuple[Classifier, ColourEngine],
) -> None:
    classifier, engine = colours
    (found,) = classifier.explain([strip("red", "red", "red", "blue", "lime")])
    assert isinstance(found, Explanation)
    assert found.animals is None
    assert "animals" not in found.to_dict()
    assert len(engine.shapes) == 2


def test_animals_survive_the_way_over_http_and_move_with_the_size(
    colours: tuple[Classifier, ColourEngine],
) -> None:
    found = explained(colours[0], strip("red", "red", "red", "blue", "lime"))
    assert Explanation.from_dict(found.to_dict()) == found
    assert found.animals is not None
    doubled = found.scaled((640, 128)).animals
    assert doubled == tuple(
        Animal(one.label, one.box.scaled((320, 64), (640, 128)), one.certainty)
        for one in found.animals
    )
