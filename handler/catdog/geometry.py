"""Which part of a picture the network is shown, in pixels of the upright original.

Every number here undoes what preprocessing did: a box that is found in the network's
coordinates is right in the picture that the sender has.
"""

import math
from typing import NamedTuple

# Both networks halve a picture five times; with sides that are multiples of 32 no halving
# rounds, and padding is the same at every size.
STRIDE = 32

# The whole picture is explained at up to these sides, in pixels. Larger ones find a little more
# and cost a third more of the pass; docs/explanations.md compares them.
WHOLE_SHORTER_SIDE = 224
WHOLE_LONGER_SIDE = 448


class Box(NamedTuple):
    """A rectangle in pixels; x1 and y1 are the first column and row outside."""

    x0: int
    y0: int
    x1: int
    y1: int


def scaled_box(box: Box, size: tuple[int, int], other: tuple[int, int]) -> Box:
    """A box of a picture of `size`, in the same picture at another size; it never gets narrower."""
    x, y = other[0] / size[0], other[1] / size[1]
    return Box(
        int(box.x0 * x),
        int(box.y0 * y),
        min(other[0], math.ceil(box.x1 * x)),
        min(other[1], math.ceil(box.y1 * y)),
    )


class View(NamedTuple):
    """The rectangle of a picture that the network is shown.

    Attributes:
        size: Width and height of the upright original, in pixels.
        rectangle: x0, y0, x1, y1 in those pixels; its edges may lie between two.
    """

    size: tuple[int, int]
    rectangle: tuple[float, float, float, float]


class CenterCrop(NamedTuple):
    """torchvision's Resize + CenterCrop of one picture.

    Attributes:
        resized: Width and height after Resize.
        left, top: Where the square begins in that.
        side: The square's side.
    """

    resized: tuple[int, int]
    left: int
    top: int
    side: int


def center_crop(size: tuple[int, int], resize_size: int, crop_size: int) -> CenterCrop:
    """What torchvision's `Resize(resize_size)` and `CenterCrop(crop_size)` do to a picture.

    Args:
        size: Its width and height.
        resize_size: The shorter side after resizing; the longer one is truncated.
        crop_size: The side of the square from the middle.
    """
    width, height = size
    if width <= height:
        resized = resize_size, int(resize_size * height / width)
    else:
        resized = int(resize_size * width / height), resize_size
    # torchvision's CenterCrop rounds the same way: half to even, as Python does.
    left = round((resized[0] - crop_size) / 2)
    top = round((resized[1] - crop_size) / 2)
    return CenterCrop(resized, left, top, crop_size)


def crop_view(crop: CenterCrop, full_size: tuple[int, int]) -> View:
    """What the network sees of a picture that is prepared with `crop`.

    Args:
        crop: Of the picture as it was decoded, perhaps smaller than it is.
        full_size: Width and height of the upright original.
    """
    x_scale = full_size[0] / crop.resized[0]
    y_scale = full_size[1] / crop.resized[1]
    return View(
        full_size,
        (
            crop.left * x_scale,
            crop.top * y_scale,
            (crop.left + crop.side) * x_scale,
            (crop.top + crop.side) * y_scale,
        ),
    )


def whole_view(full_size: tuple[int, int]) -> View:
    """All of a picture."""
    return View(full_size, (0.0, 0.0, float(full_size[0]), float(full_size[1])))


def whole_size(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height to show a whole picture to a network at: multiples of `STRIDE`.

    The shorter side is at most `WHOLE_SHORTER_SIDE`, the longer at most
    `WHOLE_LONGER_SIDE`; the aspect ratio is kept up to that rounding.
    """
    scale = min(WHOLE_SHORTER_SIDE / min(size), WHOLE_LONGER_SIDE / max(size))
    width, height = (max(1, round(side * scale / STRIDE)) * STRIDE for side in size)
    return width, height
