import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from catdog.transforms import Preprocessing
from catdog_serving.build.calibration import (
    MAX_CALIBRATION,
    MAX_HELD_OUT,
    CalibrationImages,
    read_calibration_images,
    read_images_to_compare,
)
from catdog_serving.errors import NotReadyError
from tests.support.images import LIMITS, encode, noise

TINY = Preprocessing(16, 8, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def fill(folder: Path, count: int) -> Path:
    folder.mkdir(exist_ok=True)
    for seed in range(count):
        (folder / f"{seed:03}.png").write_bytes(encode(noise(16, 16, seed)))
    return folder


def read(folder: Path) -> CalibrationImages:
    return read_calibration_images(folder, TINY, LIMITS)


def test_half_calibrates_and_the_others_are_held_out(tmp_path: Path) -> None:
    images = read(fill(tmp_path, 21))
    assert images.calibration.shape == (10, 3, 8, 8)
    assert images.held_out.shape == (11, 3, 8, 8)
    everything = np.concatenate([images.calibration, images.held_out])
    assert len(np.unique(everything, axis=0)) == 21


def test_names_and_folders_do_not_change_the_split(tmp_path: Path) -> None:
    first = fill(tmp_path / "first", 24)
    second = tmp_path / "second"
    for number, path in enumerate(sorted(first.iterdir())):
        target = second / f"album {number % 3}" / f"{99 - number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    one, other = read(first), read(second)
    assert np.array_equal(one.calibration, other.calibration)
    assert np.array_equal(one.held_out, other.held_out)


def test_a_copy_is_not_another_image(tmp_path: Path) -> None:
    fill(tmp_path, 19)
    shutil.copy(tmp_path / "000.png", tmp_path / "copy of 000.png")
    with pytest.raises(NotReadyError, match="has 19 different images"):
        read(tmp_path)


def test_more_images_than_needed_are_left_out(tmp_path: Path) -> None:
    images = read(fill(tmp_path, MAX_CALIBRATION + MAX_HELD_OUT + 5))
    assert len(images.calibration) == MAX_CALIBRATION
    assert len(images.held_out) == MAX_HELD_OUT


def test_unreadable_images_are_skipped_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, 20)
    (tmp_path / "broken.jpg").write_text("no image")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    with caplog.at_level(logging.WARNING):
        images = read(tmp_path)
    assert len(images.calibration) == len(images.held_out) == 10
    assert f"skipped 2 images of {tmp_path}" in caplog.text


def test_images_to_compare_with_are_taken_from_the_same_ones(tmp_path: Path) -> None:
    split = read(fill(tmp_path, 20))
    compared = read_images_to_compare(tmp_path, TINY, LIMITS)
    assert np.array_equal(compared, np.concatenate([split.calibration, split.held_out]))
    for path in tmp_path.iterdir():
        path.write_text("no image")
    with pytest.raises(NotReadyError, match="has no image that can be used, and 1 that cannot"):
        read_images_to_compare(tmp_path, TINY, LIMITS)


def test_too_few_say_how_many_are_needed_and_why(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    (tmp_path / "broken.jpg").write_text("no image")
    with pytest.raises(NotReadyError, match="3 different.* and 1 that .* at least 20: half to"):
        read(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="no file or folder"):
        read(tmp_path / "none")
