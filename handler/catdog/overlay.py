"""Draw a map and a box over the image that they are of, for people to look at."""

from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from catdog.decode import Decoder
from catdog.results import ActivationMap, Box

OPACITY = 0.6  # of the map where it is 1

# From nothing over dark red and orange to light yellow: brighter means more, in grey too
# (anchors of matplotlib's "inferno").
_COLOURS = np.array([(66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164)])
_BOX_COLOUR = (0, 229, 255)


def decode_to_draw(decoder: Decoder, content: bytes, longer_side: int) -> Image.Image:
    """Decode an image for people to look at, with a map and a box over it.

    Args:
        decoder: Of the formats and limits that apply.
        content: The file's.
        longer_side: In pixels, at most.

    Returns:
        The upright image, RGB; what is no larger keeps its size.

    Raises:
        InvalidImage: If the bytes are not an image within the limits.
    """
    image = decoder.decode(content, longer_side).image
    image.thumbnail((longer_side, longer_side), Image.Resampling.BILINEAR)
    return image


def draw_overlay(
    image: Image.Image, activation_map: ActivationMap, box: Box | None, opacity: float = OPACITY
) -> Image.Image:
    """Draw a map, and a box round the animal.

    Args:
        image: The upright image, RGB, at any scale.
        activation_map: Its map.
        box: In pixels of the original, as the map's view; None draws no box.
        opacity: Of the map where it is 1, in [0, 1].

    Returns:
        A new image of the same size.
    """
    drawn_map = draw_map(activation_map, image.size)
    opacities = drawn_map.getchannel("A").point(lambda level: round(level * opacity))
    drawn = Image.composite(drawn_map.convert("RGB"), image, opacities)
    if box is not None:
        x_scale = image.width / activation_map.size[0]
        y_scale = image.height / activation_map.size[1]
        line = max(2, min(image.size) // 120)
        edges = (
            box.x0 * x_scale,
            box.y0 * y_scale,
            max(box.x0 * x_scale, box.x1 * x_scale - 1),
            max(box.y0 * y_scale, box.y1 * y_scale - 1),
        )
        pen = ImageDraw.Draw(drawn)
        pen.rectangle(edges, outline="black", width=line + 2)
        pen.rectangle(edges, outline=_BOX_COLOUR, width=line)
    return drawn


def overlay_style() -> dict[str, Any]:
    """How maps and boxes are drawn, as plain values, for pages that draw them themselves.

    Returns:
        `colours`: red, green, blue in 0..255 from where the map is 0 to where it is 1;
        `opacity` where it is 1; `box`: the colour of boxes.
    """
    return {
        "colours": _colour_table()[::5].tolist(),
        "opacity": OPACITY,
        "box": "#{:02x}{:02x}{:02x}".format(*_BOX_COLOUR),
    }


def draw_map(activation_map: ActivationMap, size: tuple[int, int]) -> Image.Image:
    """The map in colours at an image's size, RGBA: opaque where it is 1, clear where it is 0."""
    levels = _map_levels(activation_map, size)
    drawn = Image.fromarray(_colour_table()[np.asarray(levels)])
    drawn.putalpha(levels)
    return drawn


def _map_levels(activation_map: ActivationMap, size: tuple[int, int]) -> Image.Image:
    """The map at an image's size, mode L: 255 where it is 1, 0 outside its view."""
    grid = (np.asarray(activation_map.grid) * 255).round().astype(np.uint8)
    x_scale, y_scale = size[0] / activation_map.size[0], size[1] / activation_map.size[1]
    x0, y0, x1, y1 = activation_map.view
    left, top = round(x0 * x_scale), round(y0 * y_scale)
    view = (max(1, round(x1 * x_scale) - left), max(1, round(y1 * y_scale) - top))
    canvas = Image.new("L", size)
    canvas.paste(Image.fromarray(grid).resize(view, Image.Resampling.BICUBIC), (left, top))
    return canvas


def _colour_table() -> np.ndarray:
    """256 colours, uint8, shape (256, 3)."""
    levels, anchors = np.linspace(0, 1, 256), np.linspace(0, 1, len(_COLOURS))
    channels = [np.interp(levels, anchors, _COLOURS[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=1).round().astype(np.uint8)
