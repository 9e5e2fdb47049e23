"""Where in an image the cat or the dog is, from the forward pass that classified it.

The network gives a map for cats and one for dogs (`catdog.torch_module.LogitsAndMaps`); this
module chooses the one that fits the answer, scales it, and finds the box.
"""

import math
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


def scale_to_peak(activation: np.ndarray) -> np.ndarray:
    """Scale a group's map as the network gives it, (h, w), to a largest value of 1.

    Where nothing speaks for the group it stays 0 everywhere.
    """
    peak = activation.max()
    scaled: np.ndarray = activation / peak if peak > 0 else np.zeros_like(activation)
    return scaled


def to_activation_map(activation: np.ndarray, view: View) -> ActivationMap:
    """A map in [0, 1], shape (h, w), as an answer carries it."""
    rows = activation.astype(np.float64).round(_GRID_DECIMALS).tolist()
    return ActivationMap(view.size, view.rectangle, tuple(map(tuple, rows)))


def locate(activation: np.ndarray, view: View, threshold: float) -> Box | None:
    """Find the animal: the box around the largest connected region above a threshold.

    Args:
        activation: A map, shape (h, w), in [0, 1].
        view: What part of the image it covers.
        threshold: In (0, 1); regions are where the interpolated map reaches it.

    Returns:
        In pixels of the upright original, inside it; None if the map is below the
        threshold everywhere.
    """
    rows, columns = activation.shape
    fine = _interpolation(rows) @ activation @ _interpolation(columns).T
    region = _largest_region(fine >= threshold)
    if region is None:
        return None
    top, left, bottom, right = region
    x0, y0, x1, y1 = view.rectangle
    x_step = (x1 - x0) / fine.shape[1]
    y_step = (y1 - y0) / fine.shape[0]
    width, height = view.size
    return Box(
        max(0, int(x0 + left * x_step)),
        max(0, int(y0 + top * y_step)),
        min(width, math.ceil(x0 + right * x_step)),
        min(height, math.ceil(y0 + bottom * y_step)),
    )


@cache
def _interpolation(cells: int) -> np.ndarray:
    """Linear interpolation between the centres of cells, flat outside: (points, cells)."""
    points = (np.arange(cells * _POINTS_PER_CELL) + 0.5) / _POINTS_PER_CELL - 0.5
    below = np.clip(np.floor(points), 0, cells - 1).astype(int)
    above = np.minimum(below + 1, cells - 1)
    share = np.clip(points - below, 0, 1)
    matrix = np.zeros((len(points), cells), dtype=np.float32)
    matrix[np.arange(len(points)), below] += 1 - share
    matrix[np.arange(len(points)), above] += share
    return matrix


def _largest_region(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """top, left, bottom, right of the largest region whose points touch by their sides.

    Rows are cut into runs of neighbours, and runs that overlap in the next row are joined
    (union-find): a few dozen steps where single points would take hundreds.
    """
    runs = _runs(mask)
    if not runs:
        return None
    parents = list(range(len(runs)))

    def root(run: int) -> int:
        while parents[run] != run:
            run = parents[run]
        return run

    above = 0
    for number, (row, start, end) in enumerate(runs):
        while runs[above][0] < row - 1 or (runs[above][0] == row - 1 and runs[above][2] <= start):
            above += 1
        touching = above
        while runs[touching][0] == row - 1 and runs[touching][1] < end:
            parents[root(number)] = root(touching)
            touching += 1
    regions: dict[int, list[tuple[int, int, int]]] = {}
    for number, run in enumerate(runs):
        regions.setdefault(root(number), []).append(run)
    largest = max(regions.values(), key=lambda region: sum(end - start for _, start, end in region))
    rows, starts, ends = zip(*largest, strict=True)
    return rows[0], min(starts), rows[-1] + 1, max(ends)


def _runs(mask: np.ndarray) -> list[tuple[int, int, int]]:
    """row, first column, column behind the last of each run of True, from the top left."""
    height, width = mask.shape
    flat = np.zeros(height * (width + 1) + 1, dtype=bool)  # a False before and behind each row
    flat[1:].reshape(height, width + 1)[:, :width] = mask
    edges = np.flatnonzero(flat[1:] != flat[:-1]).tolist()
    starts, ends = edges[::2], edges[1::2]
    return [
        (start // (width + 1), start % (width + 1), end - start // (width + 1) * (width + 1))
        for start, end in zip(starts, ends, strict=True)
    ]
