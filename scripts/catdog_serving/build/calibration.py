"""The images of `--calibration DIR`: to calibrate int8 with, and to measure int8 and bf16 with."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from catdog.decode import FOLDER_FORMATS, Decoder, Limits
from catdog.invalid_image import InvalidImage
from catdog.transforms import Preprocessing, read_model_input
from catdog_serving.errors import NotReadyError
from catdog_serving.find_images import ImageFiles
from catdog_serving.model_archive import file_sha256

log = logging.getLogger(__name__)

# More than enough: efficientnet_lite0 agreed as well with 5, 10 and 25 as with 50
# (docs/int8.md), and ResNet-152 takes 0.4 s for each.
MAX_CALIBRATION = 100
# 98 % of 300 are all but 6. ResNet-152 answers them twice, which takes about a minute on 2 cores.
MAX_HELD_OUT = 300
# With 10 held out, one other winner is 90 % already: fewer say nothing about 98 %.
MIN_PICTURES = 20


@dataclass(frozen=True)
class CalibrationImages:
    """Pixels as the network takes them; no image is in both.

    Attributes:
        calibration: uint8, shape (C, 3, S, S).
        held_out: uint8, shape (H, 3, S, S).
    """

    calibration: np.ndarray
    held_out: np.ndarray


def read_calibration_images(
    folder: Path, preprocessing: Preprocessing, limits: Limits
) -> CalibrationImages:
    """Read a folder's images and split them.

    They are taken in the order of their contents' SHA-256, so that the split depends
    on no name and no date, and two copies of an image count as one. The first half,
    at most `MAX_CALIBRATION`, is for calibration; of the rest, at most `MAX_HELD_OUT`
    are held out. What cannot be read is skipped, and its number logged.

    Args:
        folder: Searched recursively; every file in it is read once for its hash.
        preprocessing: The weights' own numbers.
        limits: Larger images are skipped too.

    Raises:
        NotReadyError: If there is no such folder, or fewer than `MIN_PICTURES` in it.
    """
    most = MAX_CALIBRATION + MAX_HELD_OUT
    usable, unreadable = _read_usable(folder, preprocessing, limits, most)
    if len(usable) < MIN_PICTURES:
        raise NotReadyError(
            f"{folder} has {len(usable)} different images that can be used, and {unreadable} "
            f"that cannot be read; int8 needs at least {MIN_PICTURES}: half to calibrate with, "
            "the others to measure with. Choose images like those that will be classified"
        )
    count = min(MAX_CALIBRATION, len(usable) // 2)
    return CalibrationImages(np.stack(usable[:count]), np.stack(usable[count:]))


def read_images_to_compare(
    folder: Path, preprocessing: Preprocessing, limits: Limits
) -> np.ndarray:
    """Read at most `MAX_HELD_OUT` of a folder's images, for what needs no calibration.

    Returns:
        Pixels, uint8, shape (N, 3, S, S).

    Raises:
        NotReadyError: If there is no such folder, or no image in it that can be used.
    """
    usable, unreadable = _read_usable(folder, preprocessing, limits, MAX_HELD_OUT)
    if not usable:
        raise NotReadyError(
            f"{folder} has no image that can be used, and {unreadable} that cannot be read"
        )
    return np.stack(usable)


def _read_usable(
    folder: Path, preprocessing: Preprocessing, limits: Limits, most: int
) -> tuple[list[np.ndarray], int]:
    """The crops of the first images that can be read; how many before them cannot is logged."""
    decoder = Decoder(limits, FOLDER_FORMATS)
    usable: list[np.ndarray] = []
    paths, unreadable = _in_order_of_contents(folder)
    for path in paths:
        if len(usable) == most:
            break
        try:
            usable.append(read_model_input(path.read_bytes(), decoder, preprocessing).crop)
        except (InvalidImage, OSError):
            unreadable += 1
    if unreadable and usable:
        log.warning("skipped %d images of %s that cannot be read", unreadable, folder)
    return usable, unreadable


def _in_order_of_contents(folder: Path) -> tuple[list[Path], int]:
    """One path for each different content, sorted by hash; and how many could not be opened."""
    by_hash: dict[str, Path] = {}
    unreadable = 0
    for path in cast("Iterable[Path]", ImageFiles(folder)):
        try:
            by_hash[file_sha256(path)] = path
        except OSError:
            unreadable += 1
    return [by_hash[sha256] for sha256 in sorted(by_hash)], unreadable
