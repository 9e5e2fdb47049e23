"""How often a cat beside a dog is found, and how often a second animal where there is one.

50 photos of cats and 50 of dogs, one of each side by side, in both orders; then each photo alone.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from catdog.classifier import Classifier
from catdog.results import Animal, Explanation
from catdog.transforms import Task
from catdog_serving.model_archive import open_archive
from tests.support.images import encode


@pytest.fixture(scope="module")
def classifier(archive: Path) -> Iterator[Classifier]:
    with open_archive(archive) as model_dir:
        loaded = Classifier.load(model_dir)
        yield loaded
        loaded.close()


def animals_of(classifier: Classifier, image: bytes) -> tuple[Animal, ...]:
    (explanation,) = classifier.explain([image], Task.ANIMALS)
    assert isinstance(explanation, Explanation)
    assert explanation.animals is not None
    return explanation.animals


def side_by_side(left: Path, right: Path) -> tuple[bytes, int]:
    """Two photos at the left one's height, and where the right one begins."""
    with Image.open(left) as one, Image.open(right) as other:
        width = max(1, round(other.width * one.height / other.height))
        both = Image.new("RGB", (one.width + width, one.height))
        both.paste(one.convert("RGB"))
        resized = other.convert("RGB").resize((width, one.height), Image.Resampling.BILINEAR)
        both.paste(resized, (one.width, 0))
        return encode(both, "PNG"), one.width


def test_both_are_found_on_their_own_halves_and_no_second_one_in_a_photo_of_one(
    classifier: Classifier, photos: list[Path]
) -> None:
    found = 0
    for cat, dog in zip(photos[:50], photos[50:], strict=True):
        for order in ((cat, dog), (dog, cat)):
            image, split = side_by_side(*order)
            sides = {
                animal.label: (animal.box.x0 + animal.box.x1) / 2 < split
                for animal in animals_of(classifier, image)
            }
            found += sides == {"cat": order[0] == cat, "dog": order[0] == dog}
    alone = sum(len(animals_of(classifier, photo.read_bytes())) <= 1 for photo in photos)
    print(f"\nboth found in {found} of 100 pairs, no second animal in {alone} of 100 photos")
    assert found >= 80
    assert alone >= 90
