"""What may be given as an image, and what of it goes to a server."""

import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from catdog.decode import DEFAULT_LIMITS, DEFAULT_MEMORY_BYTES, Limits
from catdog.invalid_image import InvalidImage, InvalidReason
from catdog.results import Box, Prediction
from catdog_serving import CatDogClient, InvalidImageError, image_formats
from catdog_serving.extras import install_hint
from catdog_serving.image_formats import folder_decoder, folder_formats
from catdog_serving.image_source import ImageSource, read_source, to_upload
from tests.support.answers import ANSWER
from tests.support.client_answers import Script
from tests.support.http_servers import http_server
from tests.support.images import LIMITS, decode_image, encode, noise, quadrants
from tests.support.paths import ROOT
from tests.support.stub_backend import prediction


def heic(image: Image.Image) -> bytes:
    assert "HEIF" in folder_formats()  # registers Pillow's plugin
    return encode(image, "HEIF", quality=-1)  # lossless


def avif(image: Image.Image) -> bytes:
    return encode(image, "AVIF", quality=100)


def pixels(content: bytes, formats: tuple[str, ...]) -> np.ndarray:
    return np.asarray(decode_image(content, LIMITS, formats)).astype(int)


def test_every_source_shows_the_same_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = quadrants()
    content = encode(image, "PNG")
    (tmp_path / "a.png").write_bytes(content)
    monkeypatch.setenv("HOME", str(tmp_path))
    sources: list[ImageSource] = [
        content, bytearray(content), io.BytesIO(content), tmp_path / "a.png", "~/a.png",
        str(tmp_path / "a.png"), image, np.asarray(image),
    ]  # fmt: skip
    for source in sources:
        assert np.array_equal(pixels(read_source(source), ("PNG",)), np.asarray(image))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((3, 8, 8), np.uint8),
        np.zeros((8, 8, 3), np.float32), np.zeros((0, 8, 3), np.uint8),
    ],
    ids=lambda array: f"{array.shape} {array.dtype}",
)  # fmt: skip
def test_another_array_is_refused_in_words(array: np.ndarray) -> None:
    with pytest.raises(InvalidImageError, match=r"give RGB as \(H, W, 3\) and uint8"):
        read_source(array)


@pytest.mark.parametrize("path", ["a\0b", "~nobody-of-this-name/x"])
def test_a_path_that_cannot_be_one_is_an_item_too(path: str) -> None:
    (refused,) = CatDogClient("http://127.0.0.1:1", retries=0).classify_many([path])
    assert isinstance(refused, InvalidImageError)
    assert refused.kind == "Unreadable"


def test_what_is_no_image_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="binary mode"):
        read_source(io.StringIO("text"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="got a int; an image is a path"):
        read_source(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [heic, avif, lambda image: encode(image, "TIFF")])
def test_the_client_sends_other_formats_as_png_and_scales_the_box_back(make) -> None:  # type: ignore[no-untyped-def]
    script = Script((200, ANSWER | {"box": [0, 0, 1536, 1024]}))
    with http_server(script) as url, CatDogClient(url, retries=0) as client:
        answer = client.classify(make(quadrants(3000, 2000)))
    ((_, _, body),) = script.requests
    assert Image.open(io.BytesIO(body)).size == (1536, 1024)
    assert answer.box == Box(0, 0, 3000, 2000)


def test_a_path_that_is_missing_is_an_item_of_many(tmp_path: Path) -> None:
    good = tmp_path / "a.png"
    good.write_bytes(encode(noise()))
    script = Script((200, ANSWER))
    with http_server(script) as url, CatDogClient(url, retries=0) as client:
        first, second, third = client.classify_many([good, tmp_path / "gone.png", str(tmp_path)])
        with pytest.raises(FileNotFoundError):
            client.classify(tmp_path / "gone.png")
    assert isinstance(first, Prediction)
    for refused, why in ((second, "No such file or directory"), (third, "Is a directory")):
        assert isinstance(refused, InvalidImageError)
        assert refused.kind == "Unreadable"
        assert why in refused.message


def test_what_the_server_takes_is_sent_as_it_is() -> None:
    for content in (encode(noise(), "JPEG"), encode(noise(), "PNG"), b"no image", b""):
        assert to_upload(content) == (content, None, None)


@pytest.mark.parametrize("make", [heic, avif, lambda image: encode(image, "TIFF")])
def test_heic_avif_and_tiff_are_sent_as_png_with_the_same_pixels(make) -> None:  # type: ignore[no-untyped-def]
    content = make(quadrants())
    upload = to_upload(content)
    assert upload.content.startswith(b"\x89PNG")
    assert np.array_equal(pixels(upload.content, ("PNG",)), pixels(content, folder_formats()))


def test_a_large_one_is_made_smaller_first() -> None:
    upload = to_upload(encode(noise(3000, 2000), "TIFF"))
    assert Image.open(io.BytesIO(upload.content)).size == (1536, 1024)
    answer = replace(prediction("cat", 0.8, 0.1), box=Box(0, 100, 1536, 512))
    assert upload.in_own_pixels(answer).box == (0, 195, 3000, 1000)


def test_a_broken_one_is_refused_here() -> None:
    for content in (b"II*\x00rubbish", heic(noise())[:2000]):
        with pytest.raises(InvalidImage):
            to_upload(content)


def test_without_pillow_heif_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = heic(noise())
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    image_formats._register_heic.cache_clear()
    with pytest.raises(InvalidImage) as refused:
        to_upload(content)
    image_formats._register_heic.cache_clear()
    assert install_hint("heic") in refused.value.message


def test_one_limit_and_one_memory_for_all_that_decode_here() -> None:
    """A TIFF too large for the server is too large to be converted for it, in the same words."""
    config = yaml.safe_load((ROOT / "config/model-config.yaml").read_text(encoding="utf-8"))
    settings = config["handler"]
    assert Limits(settings["max_pixels"], settings["max_aspect_ratio"]) == DEFAULT_LIMITS
    assert settings["decode_memory_mb"] * 1_000_000 == DEFAULT_MEMORY_BYTES
    content = encode(Image.new("1", (7800, 7800)), "TIFF", compression="group4")
    with pytest.raises(InvalidImage) as local:
        folder_decoder().decode(content)
    with pytest.raises(InvalidImage) as uploaded:
        to_upload(content)
    assert uploaded.value.message == local.value.message
    assert local.value.reason is InvalidReason.TOO_MANY_PIXELS
    narrow = folder_decoder(Limits(10_000, 5))
    assert narrow._memory is folder_decoder()._memory
