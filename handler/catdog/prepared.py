"""One picture, prepared for the passes that its answer needs."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from PIL import Image

from catdog.geometry import View, center_crop, crop_view, whole_size, whole_view
from catdog.preprocess import Preprocessing, cut_out, to_pixels

# The longer side of a picture that a map is drawn on, in pixels: as PNG even noise stays
# under 4 MB then, and TorchServe's limit for an answer is 6.5 MB.
DRAWN_LONGER_SIDE = 1024


class Wanted(StrEnum):
    """What a request asks for.

    `PREDICTION` takes one pass over the middle square; `EXPLANATION` one more over the
    whole picture; `DRAWING` is an explanation drawn on the picture.
    """

    PREDICTION = "prediction"
    EXPLANATION = "explanation"
    DRAWING = "drawing"


@dataclass(frozen=True)
class Prepared:
    """A decoded picture as the network takes it.

    Attributes:
        pixels: The middle square, uint8, shape (3, S, S).
        view: What part of the picture that is.
        whole: The whole picture, uint8, shape (3, H, W); None for a prediction.
        drawn: The picture to draw on, RGB; only for a drawing.
    """

    pixels: np.ndarray
    view: View
    whole: np.ndarray | None = None
    drawn: Image.Image | None = None

    @property
    def whole_view(self) -> View:
        """What part of the picture `whole` is: all of it."""
        return whole_view(self.view.size)


def prepare(
    image: Image.Image, full_size: tuple[int, int], preprocessing: Preprocessing, wanted: Wanted
) -> Prepared:
    """Prepare an upright RGB picture.

    Args:
        image: The picture, perhaps decoded smaller than it is.
        full_size: Width and height of the upright original.
        preprocessing: The weights' numbers.
        wanted: What its answer will be.
    """
    crop = center_crop(image.size, preprocessing.resize_size, preprocessing.crop_size)
    pixels, view = cut_out(image, crop), crop_view(crop, full_size)
    if wanted is Wanted.PREDICTION:
        return Prepared(pixels, view)
    whole = to_pixels(image.resize(whole_size(full_size), Image.Resampling.BILINEAR))
    return Prepared(pixels, view, whole, _drawn(image) if wanted is Wanted.DRAWING else None)


def _drawn(image: Image.Image) -> Image.Image:
    scale = min(1, DRAWN_LONGER_SIDE / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BILINEAR)
