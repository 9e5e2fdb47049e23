"""RGB image to model input, and the way back to the image's own pixels.

The crop's pixels are bit-equal to torchvision's `Resize` + `CenterCrop` on a PIL image.
Normalising is the engine's work, because it is cheaper inside the network's own graph.
"""

import io
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from PIL import Image

from catdog.decode import DecodedImage, Decoder
from catdog.results import Box

# Both networks halve an image five times; with sides that are multiples of 32 no halving
# rounds, and padding is the same at every size.
STRIDE = 32

# The full image is explained at up to these sides, in pixels. Larger ones find a little more
# and cost a third more of the pass; docs/explanations.md compares them.
FULL_IMAGE_SHORTER_SIDE = 224
FULL_IMAGE_LONGER_SIDE = 448

# The longer side of the canvas that a map is drawn on, in pixels: as PNG even noise stays
# under 4 MB then, and TorchServe's limit for an answer is 6.5 MB.
CANVAS_LONGER_SIDE = 1024

# JPEG's scaled decoding is used only while the shorter side stays at least so many times
# the size that it is resized to: below, it shows in the masses.
_SCALED_DECODING_MARGIN = 2


@dataclass(frozen=True)
class Preprocessing:
    """The numbers of one set of weights, as torchvision's presets have them.

    Attributes:
        resize_size: The shorter side after resizing, in pixels.
        crop_size: The side of the square cut from the middle, in pixels.
        mean: Mean per channel (RGB) of pixels in [0, 1].
        std: Standard deviation per channel (RGB) of pixels in [0, 1].
    """

    resize_size: int
    crop_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        if not 0 < self.crop_size <= self.resize_size:
            raise ValueError(
                f"crop_size must be in 1..resize_size ({self.resize_size}), got {self.crop_size}"
            )

    @property
    def smallest_decoded_side(self) -> int:
        """No side of a large JPEG is decoded smaller than this, in pixels."""
        return _SCALED_DECODING_MARGIN * self.resize_size


class Task(StrEnum):
    """What a request asks for.

    `PREDICTION` takes one pass over the crop; `EXPLANATION` one more over the full image;
    `ANIMALS` up to two more over parts of it; `DRAWING` is an explanation drawn on the image.
    """

    PREDICTION = "prediction"
    EXPLANATION = "explanation"
    ANIMALS = "animals"
    DRAWING = "drawing"


class View(NamedTuple):
    """The rectangle of an image that the network is shown.

    Attributes:
        size: Width and height of the upright original, in pixels.
        rectangle: x0, y0, x1, y1 in those pixels; its edges may lie between two.
    """

    size: tuple[int, int]
    rectangle: tuple[float, float, float, float]


class CenterCrop(NamedTuple):
    """torchvision's Resize + CenterCrop of one image.

    Attributes:
        resized: Width and height after Resize.
        left, top: Where the square begins in that.
        side: The square's side.
    """

    resized: tuple[int, int]
    left: int
    top: int
    side: int

    def view(self, full_size: tuple[int, int]) -> View:
        """What the network sees of an image that is cropped so.

        Args:
            full_size: Width and height of the upright original, which may have been decoded
                smaller than it is.
        """
        x_scale = full_size[0] / self.resized[0]
        y_scale = full_size[1] / self.resized[1]
        return View(
            full_size,
            (
                self.left * x_scale,
                self.top * y_scale,
                (self.left + self.side) * x_scale,
                (self.top + self.side) * y_scale,
            ),
        )


@dataclass(frozen=True)
class ModelInput:
    """One image as the network takes it.

    Attributes:
        crop: The square from the middle, uint8, shape (3, S, S).
        view: What part of the image that is.
        full_image: All of the image, uint8, shape (3, H, W); None for a prediction.
        canvas: The image to draw on, RGB; only for a drawing.
        original: The image whose parts are looked at again, RGB; only for animals.
    """

    crop: np.ndarray
    view: View
    full_image: np.ndarray | None = None
    canvas: Image.Image | None = None
    original: Image.Image | None = None

    @property
    def full_image_view(self) -> View:
        """What part of the image `full_image` is."""
        return full_view(self.view.size)


def read_model_input(
    data: bytes | bytearray,
    decoder: Decoder,
    preprocessing: Preprocessing,
    task: Task = Task.PREDICTION,
    count: int = 1,
) -> ModelInput:
    """Decode and transform an image: the one road from bytes to pixels.

    Serving, folders, calibration, golden images and the bench all take it, so all see the
    same pixels.

    Args:
        data: The file's content.
        decoder, preprocessing, task: How it is read, and what for.
        count: Of how many images of one request it is one; they share their pixels.

    Raises:
        InvalidImage: If the bytes are not an image within the decoder's limits.
    """
    with decoder.decoded(data, preprocessing.smallest_decoded_side, count) as decoded:
        return to_model_input(decoded, preprocessing, task)


def to_model_input(
    decoded: DecodedImage, preprocessing: Preprocessing, task: Task = Task.PREDICTION
) -> ModelInput:
    """Transform a decoded image into what its task needs."""
    image, full_size = decoded
    place = center_crop(image.size, preprocessing.resize_size, preprocessing.crop_size)
    crop, view = resize_and_crop(image, place), place.view(full_size)
    if task is Task.PREDICTION:
        return ModelInput(crop, view)
    full_image = to_chw_uint8(image.resize(full_image_size(full_size), Image.Resampling.BILINEAR))
    canvas = _canvas(image) if task is Task.DRAWING else None
    original = _canvas(image) if task is Task.ANIMALS else None
    return ModelInput(crop, view, full_image, canvas, original)


def region_input(image: Image.Image, region: Box, full_size: tuple[int, int]) -> np.ndarray:
    """A part of an image as it is shown to a network: uint8, shape (3, H, W), see `STRIDE`.

    Args:
        image: The image, perhaps smaller than it is.
        region: In pixels of the upright original.
        full_size: The original's width and height.
    """
    place = region.scaled(full_size, image.size)
    size = full_image_size((place.x1 - place.x0, place.y1 - place.y0))
    return to_chw_uint8(image.resize(size, Image.Resampling.BILINEAR, box=place))


def full_view(size: tuple[int, int]) -> View:
    """All of an image of that size."""
    return View(size, (0.0, 0.0, float(size[0]), float(size[1])))


def center_crop(size: tuple[int, int], resize_size: int, crop_size: int) -> CenterCrop:
    """What torchvision's `Resize(resize_size)` and `CenterCrop(crop_size)` do to an image.

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


def resize_and_crop(image: Image.Image, place: CenterCrop) -> np.ndarray:
    """Resize an RGB image and cut a square out: uint8, shape (3, side, side), contiguous."""
    resized = image.resize(place.resized, Image.Resampling.BILINEAR)
    square = (place.left, place.top, place.left + place.side, place.top + place.side)
    return to_chw_uint8(resized.crop(square))


def to_chw_uint8(image: Image.Image) -> np.ndarray:
    """An RGB image's pixels, uint8, shape (3, height, width), contiguous."""
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def full_image_size(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height to show a full image to a network at: multiples of `STRIDE`.

    The shorter side is at most `FULL_IMAGE_SHORTER_SIDE`, the longer at most
    `FULL_IMAGE_LONGER_SIDE`; the aspect ratio is kept up to that rounding.
    """
    scale = min(FULL_IMAGE_SHORTER_SIDE / min(size), FULL_IMAGE_LONGER_SIDE / max(size))
    width, height = (max(1, round(side * scale / STRIDE)) * STRIDE for side in size)
    return width, height


def full_image_sizes() -> tuple[tuple[int, int], ...]:
    """Each width and height that `full_image_size` gives, 27 in all."""
    shorter, longer = (side // STRIDE for side in (FULL_IMAGE_SHORTER_SIDE, FULL_IMAGE_LONGER_SIDE))
    upright = [(shorter, side) for side in range(shorter, longer + 1)]
    upright += [(side, longer) for side in range(1, shorter)]
    found = {*upright, *((height, width) for width, height in upright)}
    return tuple(sorted((width * STRIDE, height * STRIDE) for width, height in found))


def fit_size(
    size: tuple[int, int], shorter_side: float = math.inf, longer_side: float = math.inf
) -> tuple[int, int]:
    """The largest size of the same shape within two limits; never larger than it is.

    Args:
        size: Width and height, in pixels.
        shorter_side: At most, in pixels.
        longer_side: At most, in pixels.
    """
    scale = min(1, shorter_side / min(size), longer_side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def encode_png(image: Image.Image) -> bytes:
    """An image as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)  # a higher one takes 10 x as long
    return buffer.getvalue()


def _canvas(image: Image.Image) -> Image.Image:
    size = fit_size(image.size, longer_side=CANVAS_LONGER_SIDE)
    return image.resize(size, Image.Resampling.BILINEAR)
