"""The pictures that speed is measured with."""

import io
from pathlib import Path

import pytest
from PIL import Image

from catdog_serving.bench.bench_pictures import COUNT, LONG_SIDE, bench_pictures
from catdog_serving.errors import UsageError
from tests.support.pictures import encode, noise


def test_crops_of_the_samples_are_all_different_and_always_the_same() -> None:
    crops = bench_pictures(None)
    assert crops == bench_pictures(None)
    assert len(set(crops)) == COUNT
    for crop in crops:
        with Image.open(io.BytesIO(crop)) as image:
            assert image.format == "JPEG"
            assert max(image.size) == LONG_SIDE


def test_a_folder_of_ones_own_is_taken_as_it_is(tmp_path: Path) -> None:
    pictures = [encode(noise(seed=seed), "JPEG") for seed in range(3)]
    for number, picture in enumerate(pictures):
        (tmp_path / f"{number}.jpg").write_bytes(picture)
    assert bench_pictures(tmp_path) == pictures


def test_pictures_that_the_server_would_refuse_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no pictures"):
        bench_pictures(tmp_path)
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(UsageError, match=r"broken\.jpg cannot be measured with"):
        bench_pictures(tmp_path)
