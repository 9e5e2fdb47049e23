"""The images that speed is measured with."""

import io
from pathlib import Path

import pytest
from PIL import Image

from catdog_serving.bench.bench_images import COUNT, LONG_SIDE, bench_images
from catdog_serving.errors import UsageError
from tests.support.images import encode, noise


def test_crops_of_the_samples_are_all_different_and_always_the_same() -> None:
    crops = bench_images(None)
    assert crops == bench_images(None)
    assert len(set(crops)) == COUNT
    for crop in crops:
        with Image.open(io.BytesIO(crop)) as image:
            assert image.format == "JPEG"
            assert max(image.size) == LONG_SIDE


def test_a_folder_of_ones_own_is_taken_as_it_is(tmp_path: Path) -> None:
    images = [encode(noise(seed=seed), "JPEG") for seed in range(3)]
    for number, image in enumerate(images):
        (tmp_path / f"{number}.jpg").write_bytes(image)
    assert bench_images(tmp_path) == images


def test_images_that_the_server_would_refuse_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no images"):
        bench_images(tmp_path)
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(UsageError, match=r"broken\.jpg cannot be measured with"):
        bench_images(tmp_path)
