"""Where in an image the cat or the dog is, from the forward pass that classified it.

The network gives a map for cats and one for dogs (`catdog.torch_module.LogitsAndMaps`); this
module chooses the one that fits the answer, scales it, and finds the box.
"""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np

from catdog.labels import CAT_INDICES, DOG_INDICES, GROUPS
from catdog.results import ActivationMap, Box, Prediction
from catdog.transforms import View

_GRID_DECIMALS = 3

# Cells of the map are up to a seventh of the image wide; between their centres the map is
# interpolated at this many points, so that a box's edges do not jump by whole cells.
_POINTS_PER_CELL = 4


def explained_group(prediction: Prediction) -> int:
    """Which of the `GROUPS` an image's map is of: its label's, or the larger mass's."""
    is_cat = prediction.label == "cat" or (
        prediction.label == "neither" and prediction.cat > prediction.dog
    )
    return GROUPS.index(CAT_INDICES if is_cat else DOG_INDICES)


def scale_to_peak(maps: np.ndarray) -> np.ndarray:
    """Scale maps as the network gives them, (..., h, w), each to a largest value of 1.

    Where nothing speaks for the group it stays 0 everywhere.
    """
    peaks = maps.max(axis=(-2, -1), keepdims=True)
    scaled: np.ndarray = maps / np.where(peaks > 0, peaks, 1)
    return scaled


def to_activation_maps(activations: np.ndarray, views: Sequence[View]) -> list[ActivationMap]:
    """Maps in [0, 1], shape (N, h, w), as answers carry them."""
    grids = activations.astype(np.float64).round(_GRID_DECIMALS).tolist()
    return [
        ActivationMap(view.size, view.rectangle, tuple(map(tuple, grid)))
        for view, grid in zip(views, grids, strict=True)
    ]


def locate(
    activations: np.ndarray, views: Sequence[View | None], threshold: float, whole: bool = False
) -> list[Box | None]:
    """Find the animals: the box around the largest connected region above a threshold.

    Args:
        activations: N maps of one shape, (N, h, w), in [0, 1].
        views: What part of its image each covers; None for one that is not to be searched.
        threshold: In (0, 1); regions are where the interpolated map reaches it.
        whole: Whether the views are whole images. Outside them is nothing, and the map falls to
            0 over its outermost half cells; outside a crop the animal goes on.

    Returns:
        N boxes in pixels of the upright original, inside it; None if the map is below the
        threshold everywhere, or was not searched.
    """
    count, rows, columns = activations.shape
    fine = _interpolation(rows, whole) @ activations @ _interpolation(columns, whole).T
    height, width = fine.shape[1:]
    masks = np.zeros((count, height, width + 1), dtype=bool)  # a False behind each row
    np.greater_equal(fine, threshold, out=masks[:, :, :width])
    packed = np.packbits(masks.reshape(count, -1), axis=1, bitorder="little")
    return [
        None
        if view is None
        else _box(int.from_bytes(bits.tobytes(), "little"), (height, width), view)
        for bits, view in zip(packed, views, strict=True)
    ]


def _box(mask: int, shape: tuple[int, int], view: View) -> Box | None:
    """The box of a mask's largest region; `mask` as `_largest_region` takes it."""
    height, width = shape
    region = _largest_region(mask, width + 1)
    if not region:
        return None
    top, left, bottom, right = _edges(region, width + 1)
    x0, y0, x1, y1 = view.rectangle
    x_step = (x1 - x0) / width
    y_step = (y1 - y0) / height
    full_width, full_height = view.size
    return Box(
        max(0, int(x0 + left * x_step)),
        max(0, int(y0 + top * y_step)),
        min(full_width, math.ceil(x0 + right * x_step)),
        min(full_height, math.ceil(y0 + bottom * y_step)),
    )


@cache
def _interpolation(cells: int, whole: bool) -> np.ndarray:
    """Linear interpolation between the centres of cells: (points, cells).

    Outside the outermost centres it is flat, or falls to 0 at the next that is not there.
    """
    points = (np.arange(cells * _POINTS_PER_CELL) + 0.5) / _POINTS_PER_CELL - 0.5
    if not whole:
        points = np.clip(points, 0, cells - 1)
    distances = np.abs(points[:, np.newaxis] - np.arange(cells))
    weights: np.ndarray = np.maximum(0, 1 - distances).astype(np.float32)
    return weights


def _largest_region(mask: int, pitch: int) -> int:
    """The largest region whose points touch by their sides; of equal ones the topmost.

    A mask is one integer: the point in row y and column x is bit y * pitch + x, and a row's
    last column is empty. So a shift moves all points at once, and none into another row: a
    few steps for an image where single points would take hundreds.
    """
    largest = 0
    while mask.bit_count() > largest.bit_count():
        region = mask if _is_one_region(mask, pitch) else _first_region(mask, pitch)
        mask ^= region
        largest = max(largest, region, key=int.bit_count)
    return largest


def _is_one_region(mask: int, pitch: int) -> bool:
    """Whether a mask is surely one region, as most are; False does not say that it is not.

    It is one if a single run of neighbours in a row has no point above it: all others lead up
    to that one. Adding to a run those of its points that have one above carries into the empty
    point behind the run; where nothing arrives, nothing was above.
    """
    supported = mask & mask << pitch
    unsupported_ends = mask << 1 & ~mask & ~(mask + supported)
    return unsupported_ends.bit_count() == 1


def _first_region(mask: int, pitch: int) -> int:
    """The region of the first point from the top left."""
    region, grown = 0, mask & -mask
    while grown != region:
        region = grown
        grown |= (region << 1 | region >> 1 | region << pitch | region >> pitch) & mask
    return region


def _edges(region: int, pitch: int) -> tuple[int, int, int, int]:
    """top, left, bottom, right of a region; the last two are the first outside."""
    top = ((region & -region).bit_length() - 1) // pitch
    bottom = (region.bit_length() - 1) // pitch + 1
    columns, rows = region, 1
    while rows < bottom:  # row 0 gets the points of 2, 4, 8 ... rows
        columns |= columns >> rows * pitch
        rows *= 2
    columns &= (1 << pitch) - 1
    return top, (columns & -columns).bit_length() - 1, bottom, columns.bit_length()
