"""PIL images that are given to the client: what the server gets shows the same."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from catdog.decode import Decoder, Limits
from catdog_serving import (
    CatDogClient,
    InvalidImageError,
)
from catdog_serving.image_source import ImageSource
from tests.support.answers import ANSWER
from tests.support.client_answers import Script
from tests.support.http_servers import http_server


def sent_pixels(image: ImageSource) -> Image.Image:
    """The image that a server gets."""
    script = Script((200, ANSWER))
    with http_server(script) as url, CatDogClient(url, retries=0) as client:
        client.classify(image)
    ((_, _, body),) = script.requests
    return Decoder(Limits(10**6, 20)).decode(body).image


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_pil_image_is_sent_upright(tmp_path: Path, orientation: int) -> None:
    """Whether it comes from a file or was worked on since."""
    image = Image.effect_noise((30, 20), 80).convert("RGB")
    exif = image.getexif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    image.save(path, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(path))
    for opened in (Image.open(path), Image.open(path).convert("L").convert("RGB")):
        sent = sent_pixels(opened)
        assert sent.size == expected.size
        near = np.asarray(sent.convert("L"), int) - np.asarray(expected.convert("L"), int)
        assert abs(near).max() <= 1
    assert sent_pixels(expected).tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"]
)
def test_a_pil_image_of_any_mode_shows_its_colour(mode: str) -> None:
    red = Image.new("RGBA", (8, 8), (255, 0, 0, 255))
    grey = mode in ("1", "L", "LA", "La")
    if mode in ("La", "PA", "RGBa"):
        image = red.convert({"La": "LA", "PA": "P", "RGBa": "RGBA"}[mode]).convert(mode)
    else:
        image = (red if mode in ("LA", "RGBA") else red.convert("RGB")).convert(mode)
    assert image.mode == mode
    (r, g, b) = sent_pixels(image).getpixel((3, 3))  # type: ignore[misc]
    if mode == "1":
        assert r == g == b
    else:
        expected = (76, 76, 76) if grey else (255, 0, 0)
        assert max(abs(x - y) for x, y in zip((r, g, b), expected, strict=True)) <= 3


def test_a_lab_image_shows_its_colour() -> None:
    """Of its own: Pillow makes it through a colour profile."""
    lab = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    image = ImageCms.applyTransform(Image.new("RGB", (8, 8), (200, 30, 60)), lab)
    assert image is not None
    sent = np.asarray(sent_pixels(image), int)
    assert abs(sent - (200, 30, 60)).max() <= 4


@pytest.mark.parametrize("mode", ["F", "I"])
def test_a_pil_image_of_unknown_range_is_refused_without_a_request(mode: str) -> None:
    script = Script((200, ANSWER))
    with http_server(script) as url, CatDogClient(url) as client:
        with pytest.raises(InvalidImageError, match="send 8-bit RGB"):
            client.classify(Image.new(mode, (8, 8), 70_000))
        (refused,) = client.classify_many([Image.new(mode, (8, 8), 70_000)])
    assert isinstance(refused, InvalidImageError)
    assert script.requests == []


def test_a_16_bit_grey_image_is_not_white() -> None:
    image = Image.fromarray(np.full((8, 8), 0x80FF, np.uint16))
    assert sent_pixels(image).getpixel((3, 3)) == (128, 128, 128)
