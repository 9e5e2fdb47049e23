"""Where in an image the cat or the dog is, from the forward pass that classified it.

With logits z, probabilities p, the last feature map F (C, h, w), the last layer W
(1000, C), the winning group G of classes and its mass M, the derivative of log M by the
logits is g_k = p_k [k in G] / M - p_k, and the map is relu(sum_c (W^T g)_c F_c). Both
networks average F over its area before the last layer, so this is Grad-CAM (Selvaraju et
al., 2017, https://arxiv.org/abs/1610.02391) of log M at the last feature map, up to a
factor that scaling to [0, 1] takes away: no second model and no backward pass.
"""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from threadpoolctl import ThreadpoolController

from catdog.labels import CAT_INDICES, DOG_INDICES
from catdog.results import ActivationMap, Box, Prediction
from catdog.transforms import View

_GRID_DECIMALS = 3

# Cells of the map are up to a seventh of the image wide; between their centres the map is
# interpolated at this many points, so that a box's edges do not jump by whole cells.
_POINTS_PER_CELL = 4


def explained_group(prediction: Prediction) -> range:
    """The classes that an image's map is of: its label's, or the larger mass's."""
    is_cat = prediction.label == "cat" or (
        prediction.label == "neither" and prediction.cat > prediction.dog
    )
    return CAT_INDICES if is_cat else DOG_INDICES


def activation_maps(
    logits: np.ndarray,
    probabilities: np.ndarray,
    features: np.ndarray,
    last_layer: np.ndarray,
    groups: Sequence[range],
) -> np.ndarray:
    """Compute the map of each image of a batch.

    Args:
        logits: Raw scores, shape (N, 1000).
        probabilities: Their softmax, float64, shape (N, 1000).
        features: The last feature map, shape (N, C, h, w).
        last_layer: The weights from averaged features to logits, float32, shape (1000, C).
        groups: For each image the class indices to explain, such as CAT_INDICES.

    Returns:
        float32, shape (N, h, w), in [0, 1]; the largest value of each map is 1, or 0 where
        nothing speaks for the group.

    Raises:
        ValueError: If the shapes do not fit.
    """
    count, channels, height, width = features.shape
    expected = (probabilities.shape[1], channels)
    if last_layer.shape != expected:
        raise ValueError(f"expected a last layer of shape {expected}, got {last_layer.shape}")
    gradients = _log_mass_gradients(logits, probabilities, groups)
    flat = features.reshape(count, channels, height * width)
    with _one_thread().limit(limits=1, user_api="blas"):
        weights = gradients @ last_layer  # (N, C)
        maps = np.maximum(weights[:, np.newaxis] @ flat, 0)  # (N, 1, h * w)
    peaks = maps.max(axis=2, keepdims=True)
    scaled: np.ndarray = np.divide(maps, peaks, out=np.zeros_like(maps), where=peaks > 0)
    return scaled.reshape(count, height, width)


@cache
def _one_thread() -> ThreadpoolController:
    """Holds numpy's matrix products to one thread: they take a fraction of a millisecond.

    More threads would wait for each other by spinning, on the cores that the network, the
    decoders and the server need: a server of efficientnet_lite0 lost 30 % of its throughput.
    """
    return ThreadpoolController()


def _log_mass_gradients(
    logits: np.ndarray, probabilities: np.ndarray, groups: Sequence[range]
) -> np.ndarray:
    """d log M / d logits over 1 - M, for each image's group: float32, shape (N, 1000).

    p_k / M - p_k is (1 - M) times the softmax inside the group, and -p_k is -(1 - M) times
    the softmax outside. Without the factor an image that is surely a cat has a map too:
    with it, the gradient of a mass that rounds to 1 is 0 everywhere.
    """
    gradients = np.empty_like(probabilities)
    for row, scores, probability, group in zip(
        gradients, logits, probabilities, groups, strict=True
    ):
        inside = np.zeros(len(row), dtype=bool)
        inside[group.start : group.stop] = True
        row[inside] = _softmax_of_part(scores[inside], probability[inside])
        row[~inside] = -_softmax_of_part(scores[~inside], probability[~inside])
    return gradients.astype(np.float32)


def _softmax_of_part(scores: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The softmax over some classes, from that over all; from their logits where it rounds to 0."""
    total = probabilities.sum()
    if total == 0:
        shifted = scores.astype(np.float64)
        probabilities = np.exp(shifted - shifted.max())
        total = probabilities.sum()
    part: np.ndarray = probabilities / total
    return part


def to_activation_map(activation: np.ndarray, view: View) -> ActivationMap:
    """A map of `activation_maps`, shape (h, w), as an answer carries it."""
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
