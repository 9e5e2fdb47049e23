"""Thumbnails: small, upright, in order, and None for what is no image."""

import base64
import io
import os
from pathlib import Path

import pytest
from PIL import Image

from catdog_serving.viewer.thumbnail import thumbnails
from tests.support.images import encode, noise, quadrants

ORIENTATION = 0x0112


def decoded(uri: str | None) -> Image.Image:
    assert uri is not None
    head, _, body = uri.partition(",")
    assert head == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(body))).convert("RGB")


def thumbnail_of(tmp_path: Path, content: bytes) -> str | None:
    path = tmp_path / "image"
    path.write_bytes(content)
    (uri,) = thumbnails([path])
    return uri


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_thumbnail_has_its_images_colours_and_shape(tmp_path: Path, format: str) -> None:
    image = decoded(thumbnail_of(tmp_path, encode(quadrants(1200, 800), format)))
    assert image.size == (192, 128)
    for x, y, colour in ((40, 30, (255, 0, 0)), (150, 30, (0, 255, 0)), (40, 100, (0, 0, 255))):
        assert image.getpixel((x, y)) == pytest.approx(colour, abs=30)


def test_the_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # turn by a quarter, clockwise
    content = encode(quadrants(1200, 800), "JPEG", exif=exif)
    image = decoded(thumbnail_of(tmp_path, content))
    assert image.size == (128, 192)
    assert image.getpixel((30, 40)) == pytest.approx((0, 0, 255), abs=30)


def test_small_images_keep_their_size(tmp_path: Path) -> None:
    assert decoded(thumbnail_of(tmp_path, encode(noise(20, 10)))).size == (20, 10)


def test_long_images_are_bounded(tmp_path: Path) -> None:
    assert decoded(thumbnail_of(tmp_path, encode(noise(4000, 10)))).size == (256, 1)


@pytest.mark.parametrize(
    "content", [b"", b"not an image", encode(noise(), "JPEG")[:200], encode(noise(), "PNG")[:90]]
)
def test_broken_images_have_none(tmp_path: Path, content: bytes) -> None:
    assert thumbnail_of(tmp_path, content) is None


def test_the_largest_images_have_one_too(tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(encode(Image.new("1", (11_000, 8_000))))
    (found,) = thumbnails([tmp_path / "large.png"])
    assert found is not None


def test_what_is_no_file_has_none_and_the_order_stays(tmp_path: Path) -> None:
    good = tmp_path / os.fsdecode(b"good-\xff.png")
    good.write_bytes(encode(quadrants()))
    paths = [tmp_path / "gone.jpg", good, tmp_path, Path("nul\x00.jpg"), Path("\ud800.jpg"), good]
    assert [uri is not None for uri in thumbnails(paths)] == [
        *(False, True, False, False, False, True)
    ]


def test_thumbnails_of_photos_are_a_few_kilobytes(photos: list[Path]) -> None:
    sizes = [len(uri or "") for uri in thumbnails(photos[::5])]
    assert all(300 < size < 8000 for size in sizes), sizes
    assert sum(sizes) / len(sizes) < 4000
