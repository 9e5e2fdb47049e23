import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from catdog.activation_map import locate, scale_to_peak
from catdog.transforms import full_view

UNIT = full_view((100, 100))


def test_nothing_that_speaks_for_the_group_is_a_map_of_zeros_and_no_box() -> None:
    activation = scale_to_peak(np.zeros((7, 7), dtype=np.float32))
    assert activation.max() == 0
    assert locate(activation, UNIT, 0.3) is None


def test_the_box_is_of_the_largest_region_not_of_the_highest_peak() -> None:
    activation = np.zeros((10, 10), dtype=np.float32)
    activation[1:5, 1:6] = 0.8
    activation[8, 8] = 1
    box = locate(activation, UNIT, 0.4)
    assert box is not None
    for found, edge in zip(box, (10, 10, 60, 50), strict=True):
        assert abs(found - edge) <= 3  # the interpolated edge of a step lies beside it


@given(
    arrays(np.bool_, st.tuples(st.integers(1, 8), st.integers(1, 8)), elements=st.booleans()),
    st.tuples(st.integers(1, 500), st.integers(1, 500)),
)
def test_the_region_is_the_one_that_scipy_finds(mask: np.ndarray, size: tuple[int, int]) -> None:
    """Any pattern of cells: the interpolated map labelled by scipy, the largest region's box."""
    from scipy import ndimage

    from catdog.activation_map import _interpolation

    activation = mask.astype(np.float32)
    box = locate(activation, full_view(size), 0.5)
    fine = _interpolation(mask.shape[0]) @ activation @ _interpolation(mask.shape[1]).T
    labelled, count = ndimage.label(fine >= 0.5)
    if count == 0:
        assert box is None
        return
    areas = ndimage.sum_labels(fine >= 0.5, labelled, range(1, count + 1))
    boxes = ndimage.find_objects(labelled)
    largest = [
        (
            int(found[1].start * size[0] / fine.shape[1]),
            int(found[0].start * size[1] / fine.shape[0]),
            int(np.ceil(found[1].stop * size[0] / fine.shape[1] - 1e-9)),
            int(np.ceil(found[0].stop * size[1] / fine.shape[0] - 1e-9)),
        )
        for found, area in zip(boxes, areas, strict=True)
        if area == areas.max()
    ]
    assert any(np.abs(np.subtract(box, one)).max() <= 1 for one in largest)
