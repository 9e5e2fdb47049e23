"""Thumbnails: small, upright, in order, and None for what is no image; links: never scripts."""

import base64
import io
import os
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes, urljoin

import pytest
from PIL import Image

from catdog_serving.image_formats import folder_decoder
from catdog_serving.viewer.gallery import file_link, gallery_items, thumbnail
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
    return thumbnail(path, folder_decoder())


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


@pytest.mark.parametrize(("size", "shown"), [((20, 10), (20, 10)), ((4000, 200), (256, 13))])
def test_small_images_keep_their_size_and_long_ones_are_bounded(
    tmp_path: Path, size: tuple[int, int], shown: tuple[int, int]
) -> None:
    assert decoded(thumbnail_of(tmp_path, encode(noise(*size)))).size == shown


@pytest.mark.parametrize(
    "content", [b"", b"not an image", encode(noise(), "JPEG")[:200], encode(noise(), "PNG")[:90]]
)
def test_broken_images_have_none(tmp_path: Path, content: bytes) -> None:
    assert thumbnail_of(tmp_path, content) is None


def test_the_largest_images_have_one_too(tmp_path: Path) -> None:
    assert thumbnail_of(tmp_path, encode(Image.new("1", (7_200, 7_200)))) is not None


def test_what_is_no_file_has_none_and_the_order_stays(tmp_path: Path) -> None:
    good = tmp_path / os.fsdecode(b"good-\xff.png")
    good.write_bytes(encode(quadrants()))
    paths = [tmp_path / "gone.jpg", good, tmp_path, Path("nul\x00.jpg"), Path("\ud800.jpg"), good]
    items = gallery_items([{"path": str(path)} for path in paths], tmp_path / "report.html")
    assert [item["thumbnail"] is not None for item in items] == [
        *(False, True, False, False, False, True)
    ]


def test_thumbnails_of_photos_are_a_few_kilobytes(photos: list[Path]) -> None:
    decoder = folder_decoder()
    sizes = [len(thumbnail(path, decoder) or "") for path in photos[::5]]
    assert all(300 < size < 8000 for size in sizes), sizes
    assert sum(sizes) / len(sizes) < 4000


def test_items_get_thumbnails_and_links_and_failures_links_alone(tmp_path: Path) -> None:
    (tmp_path / "here.png").write_bytes(encode(noise()))
    items = [{"path": str(tmp_path / name)} for name in ("here.png", "gone.png")]
    failed = {**items[0], "error": {"type": "InvalidImage"}}
    here, gone, failure = gallery_items([*items, failed], tmp_path / "report.html")
    assert here["thumbnail"].startswith("data:image/webp;base64,")
    assert gone["thumbnail"] is failure["thumbnail"] is None
    assert (here["link"], gone["link"], failure["link"]) == (
        *("./here.png", "./gone.png", "./here.png"),
    )


def test_a_link_leads_from_the_page_to_the_image(tmp_path: Path) -> None:
    name = os.fsdecode(b"a b#c?d%41&\"'<\xff\xc3\xa9.jpg")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / name).touch()
    link = file_link(str(tmp_path / "photos" / name), str(tmp_path / "reports"))
    assert link is not None
    followed = urljoin(f"file://{tmp_path}/reports/report.html", link)
    assert Path(os.fsdecode(unquote_to_bytes(followed.removeprefix("file://")))).is_file()


@pytest.mark.parametrize("name", ["javascript:alert(1)", "data:text/html,x", "//host/x", "C:\\x"])
def test_a_link_never_has_a_scheme_or_host(name: str) -> None:
    link = file_link(name, os.getcwd())
    assert link is not None
    assert re.fullmatch(r"\./[A-Za-z0-9_.~%/-]*", link)
    assert not link.startswith(".//")


def test_a_name_that_no_file_can_have_gets_no_link() -> None:
    assert file_link("\ud800.jpg", os.getcwd()) is None
