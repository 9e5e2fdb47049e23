"""Boxes must lie in the image that the sender has, whatever was done to it before the network."""

import io
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from torchvision.transforms import CenterCrop, Compose, Resize

from catdog.results import Box, Explanation
from catdog.transforms import STRIDE, center_crop, full_image_size
from tests.support.images import encode
from tests.support.model_dirs import colour_classifier

SIZES = st.tuples(st.integers(35, 700), st.integers(35, 700))  # none longer than 20 to 1
ORIENTATIONS = st.sampled_from([*range(9), 9])  # 0 and 9 mean nothing: upright

# How a viewer stores an upright image under each EXIF orientation: the inverse of what turns
# it upright again.
STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@given(size=SIZES, resize=st.sampled_from([232, 256]))
@settings(max_examples=60)
def test_the_view_is_where_torchvisions_crop_comes_from(size: tuple[int, int], resize: int) -> None:
    """Images whose values are their own coordinates, through torchvision's transforms."""
    width, height = size
    view = center_crop(size, resize, 224).view(size)
    transform = Compose([Resize(resize), CenterCrop(224)])
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    x0, y0, x1, y1 = view.rectangle
    for coordinates, low, high, axis in ((columns, x0, x1, 1), (rows, y0, y1, 0)):
        crop = np.asarray(transform(Image.fromarray(coordinates.astype(np.float32))))
        line = crop.mean(axis=1 - axis)  # coordinate of each column, or row, of the crop
        step = (high - low) / 224
        # Away from the image's edges, where there is nothing to average with.
        middle = slice(56, 168)
        expected = low + step * (np.arange(224)[middle] + 0.5)
        off = (line[middle] - expected) / step  # in pixels of the crop
        assert abs(off.mean()) <= 0.03
        assert np.abs(off).max() <= 0.15  # what resampling leaves of a straight line


@given(size=st.tuples(st.integers(1, 8000), st.integers(1, 8000)))
def test_a_whole_image_is_shown_at_sides_that_no_halving_rounds(size: tuple[int, int]) -> None:
    width, height = full_image_size(size)
    assert width % STRIDE == height % STRIDE == 0
    assert min(width, height) <= 224
    assert max(width, height) <= 448
    if max(size) <= 1.5 * min(size) and min(size) >= 100:
        assert abs(width / height * size[1] / size[0] - 1) <= 0.11  # the rounding's part


Explain = Callable[[bytes], Explanation]


@pytest.fixture(scope="module")
def explain(tmp_path_factory: pytest.TempPathFactory) -> Explain:
    classifier, _ = colour_classifier(tmp_path_factory.mktemp("colour"), gain=1 / 4)

    def explain_one(image: bytes) -> Explanation:
        (result,) = classifier.explain([image])
        assert isinstance(result, Explanation)
        return result

    return explain_one


def stored(upright: Image.Image, orientation: int, file_format: str) -> bytes:
    """A file that a viewer shows as `upright`."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    raw = upright.transpose(STORED[orientation]) if orientation in STORED else upright
    return encode(raw, file_format, exif=exif, quality=95)


@given(
    size=SIZES,
    orientation=ORIENTATIONS,
    corner=st.tuples(st.booleans(), st.booleans()),
    file_format=st.sampled_from(["JPEG", "PNG"]),
)
@settings(max_examples=80)
def test_the_box_lies_on_the_animal_in_the_upright_image(
    explain: Explain,
    size: tuple[int, int],
    orientation: int,
    corner: tuple[bool, bool],
    file_format: str,
) -> None:
    """A red quarter of a black image, whatever its size, format and orientation."""
    width, height = size
    left = width // 2 if corner[0] else 0
    top = height // 2 if corner[1] else 0
    animal = (left, top, left + width // 2, top + height // 2)
    upright = Image.new("RGB", size)
    upright.paste("red", animal)
    explanation = explain(stored(upright, orientation, file_format))
    assert explanation.map.size == size
    assert explanation.map.view == (0, 0, width, height)
    columns, rows = (side // STRIDE for side in full_image_size(size))
    assert_near(explanation.box, animal, (width / columns, height / rows))
    # The prediction's own box, of what the middle square shows of the animal.
    view = explanation.prediction.map.view
    seen = tuple(np.clip(animal, np.tile(view[:2], 2), np.tile(view[2:], 2)))
    assert_near(
        explanation.prediction.box, seen, ((view[2] - view[0]) / 7, (view[3] - view[1]) / 7)
    )


def assert_near(box: Box | None, animal: Sequence[float], cell: tuple[float, float]) -> None:
    """Each edge is at most one cell of the map, and a pixel, from the animal's."""
    assert box is not None
    for found, true, step in zip(box, animal, cell * 2, strict=True):
        assert abs(found - true) <= step + 1


@given(size=st.tuples(st.integers(2050, 2300), st.integers(2050, 2300)), orientation=ORIENTATIONS)
@settings(max_examples=12)
def test_a_jpeg_that_is_decoded_smaller_keeps_its_own_coordinates(
    explain: Explain, size: tuple[int, int], orientation: int
) -> None:
    content = stored(Image.new("RGB", size, "red"), orientation, "JPEG")
    explanation = explain(content)
    with Image.open(io.BytesIO(content)) as image:
        assert explanation.map.size == ImageOps.exif_transpose(image).size == size
    assert explanation.box == (0, 0, *size)
