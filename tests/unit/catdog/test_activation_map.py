import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from catdog.activation_map import _interpolation, locate, scale_to_peak, to_activation_maps
from catdog.results import Box
from catdog.transforms import View, full_view

UNIT = full_view((100, 100))


def test_nothing_that_speaks_for_the_group_is_a_map_of_zeros_and_no_box() -> None:
    activations = scale_to_peak(np.zeros((1, 7, 7), dtype=np.float32))
    assert activations.max() == 0
    assert locate(activations, [UNIT], 0.3) == [None]


def test_each_map_is_scaled_to_its_own_peak() -> None:
    maps = np.random.default_rng(0).random((3, 2, 7, 9), dtype=np.float32)
    maps[1, 0] = 0
    scaled = scale_to_peak(maps)
    assert scaled.dtype == np.float32
    assert scaled.max(axis=(2, 3)).tolist() == [[1, 1], [0, 1], [1, 1]]
    assert np.array_equal(scaled[2, 1], maps[2, 1] / maps[2, 1].max())


def test_the_box_is_of_the_largest_region_not_of_the_highest_peak() -> None:
    activation = np.zeros((10, 10), dtype=np.float32)
    activation[1:5, 1:6] = 0.8
    activation[8, 8] = 1
    (box,) = locate(activation[np.newaxis], [UNIT], 0.4)
    assert box is not None
    for found, edge in zip(box, (10, 10, 60, 50), strict=True):
        assert abs(found - edge) <= 3  # the interpolated edge of a step lies beside it


def test_what_is_not_to_be_searched_has_no_box() -> None:
    assert locate(np.ones((2, 7, 7), dtype=np.float32), [None, UNIT], 0.3) == [
        None,
        Box(0, 0, 100, 100),
    ]


def test_at_the_edge_of_a_whole_image_a_weak_map_is_no_part_of_the_box() -> None:
    """Where the map is 0.15 along the edges, it reaches 0.1 over less than all of their cells."""
    activation = np.full((5, 5), 0.15, dtype=np.float32)
    activation[2, 2] = 1
    boxes = [locate(activation[np.newaxis], [UNIT], 0.1, whole) for whole in (False, True)]
    assert boxes == [[Box(0, 0, 100, 100)], [Box(5, 5, 95, 95)]]
    assert locate(np.ones((1, 5, 5), np.float32), [UNIT], 0.1, True) == [Box(0, 0, 100, 100)]


def box_by_scipy(activation: np.ndarray, view: View, threshold: float, whole: bool) -> Box | None:
    """One map alone, its regions labelled point by point; of equally large ones the first."""
    down, across = (_interpolation(cells, whole) for cells in activation.shape)
    fine = down @ activation @ across.T
    labelled, count = ndimage.label(fine >= threshold)
    if count == 0:
        return None
    areas = np.bincount(labelled.ravel())[1:]
    rows, columns = ndimage.find_objects(labelled)[areas.argmax()]
    x0, y0, x1, y1 = view.rectangle
    x_step, y_step = (x1 - x0) / fine.shape[1], (y1 - y0) / fine.shape[0]
    return Box(
        max(0, int(x0 + columns.start * x_step)),
        max(0, int(y0 + rows.start * y_step)),
        min(view.size[0], math.ceil(x0 + columns.stop * x_step)),
        min(view.size[1], math.ceil(y0 + rows.stop * y_step)),
    )


SPIRAL = np.array(
    [
        [1, 1, 1, 1, 1, 1, 1],
        [0, 0, 0, 0, 0, 0, 1],
        [1, 1, 1, 1, 1, 0, 1],
        [1, 0, 0, 0, 1, 0, 1],
        [1, 0, 1, 1, 1, 0, 1],
        [1, 0, 0, 0, 0, 0, 1],
        [1, 1, 1, 1, 1, 1, 1],
    ],
    dtype=np.float32,
)
CHECKERBOARD = (np.indices((7, 14)).sum(axis=0) % 2).astype(np.float32)


@given(
    arrays(
        np.float32,
        array_shapes(min_dims=3, max_dims=3, max_side=14),
        elements=st.sampled_from([0, 0.25, 0.5, 1]) | st.floats(0, 1, width=32),
    ),
    st.tuples(st.integers(1, 500), st.integers(1, 500)),
    st.sampled_from([0.1, 0.5, 0.9]),
    st.booleans(),
)
@example(np.stack([SPIRAL, SPIRAL.T, SPIRAL[::-1]]), (451, 300), 0.6, False)
@example(CHECKERBOARD[np.newaxis], (451, 300), 0.6, True)
def test_boxes_are_of_the_regions_that_scipy_finds_alone_and_in_a_batch(
    activations: np.ndarray, size: tuple[int, int], threshold: float, whole: bool
) -> None:
    view = View(size, (-0.25, 0.1 * size[1], 0.9 * size[0], size[1] + 0.25))
    expected = [box_by_scipy(one, view, threshold, whole) for one in activations]
    assert locate(activations, [view] * len(activations), threshold, whole) == expected
    alone = [locate(one[np.newaxis], [view], threshold, whole)[0] for one in activations]
    assert alone == expected


@pytest.mark.parametrize("shape", [(7, 7), (7, 14), (12, 7)])
def test_boxes_of_blobs_as_networks_give_them(shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(1).normal(0, 1, (200, *shape))
    blobs = np.maximum(ndimage.gaussian_filter(noise, (0, 1, 1)), 0).astype(np.float32)
    activations = scale_to_peak(blobs)
    views = [View((500, 375), (57.1 + n / 7, 0, 442.9, 375)) for n in range(len(blobs))]
    boxes = locate(activations, views, 0.1)
    assert boxes == [
        box_by_scipy(one, view, 0.1, False) for one, view in zip(activations, views, strict=True)
    ]


def test_answers_carry_maps_of_three_decimals() -> None:
    activations = scale_to_peak(np.random.default_rng(2).random((3, 2, 4), dtype=np.float32))
    for shown, one in zip(to_activation_maps(activations, [UNIT] * 3), activations, strict=True):
        assert (shown.size, shown.view) == (UNIT.size, UNIT.rectangle)
        rows = one.astype(np.float64).round(3).tolist()
        assert shown.grid == tuple(tuple(row) for row in rows)
