import io
import sys
from dataclasses import replace

import numpy as np
import pytest
import yaml
from PIL import Image

from catdog.decode import DEFAULT_LIMITS, DEFAULT_MEMORY_BYTES, Limits
from catdog.invalid_image import InvalidImage, InvalidReason
from catdog.results import Box
from catdog_serving.extras import install_hint
from catdog_serving.folder import read_image
from catdog_serving.folder.image_result import INVALID_IMAGE, ImageFailure
from catdog_serving.folder.read_image import (
    Upload,
    folder_decoder,
    folder_formats,
    to_upload,
)
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


def test_what_the_server_takes_is_sent_as_it_is() -> None:
    for content in (encode(noise(), "JPEG"), encode(noise(), "PNG"), b"no image", b""):
        assert to_upload(content) == (content, None, None)


@pytest.mark.parametrize("make", [heic, avif, lambda image: encode(image, "TIFF")])
def test_heic_avif_and_tiff_are_sent_as_png_with_the_same_pixels(make) -> None:  # type: ignore[no-untyped-def]
    content = make(quadrants())
    upload = to_upload(content)
    assert isinstance(upload, Upload)
    assert upload.content.startswith(b"\x89PNG")
    assert np.array_equal(pixels(upload.content, ("PNG",)), pixels(content, folder_formats()))


def test_a_large_one_is_made_smaller_first() -> None:
    upload = to_upload(encode(noise(3000, 2000), "TIFF"))
    assert isinstance(upload, Upload)
    assert Image.open(io.BytesIO(upload.content)).size == (1536, 1024)
    answer = replace(prediction("cat", 0.8, 0.1), box=Box(0, 100, 1536, 512))
    assert upload.in_own_pixels(answer).box == (0, 195, 3000, 1000)


def test_a_broken_one_is_an_error_and_no_exception() -> None:
    for content in (b"II*\x00rubbish", heic(noise())[:2000]):
        assert isinstance(to_upload(content), ImageFailure)


def test_without_pillow_heif_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = heic(noise())
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    read_image._register_heic.cache_clear()
    upload = to_upload(content)
    read_image._register_heic.cache_clear()
    assert isinstance(upload, ImageFailure)
    assert install_hint("heic") in upload.message


def test_one_limit_and_one_memory_for_all_that_decode_here() -> None:
    """A TIFF too large for the server is too large to be converted for it, in the same words."""
    config = yaml.safe_load((ROOT / "config/model-config.yaml").read_text(encoding="utf-8"))
    settings = config["handler"]
    assert Limits(settings["max_pixels"], settings["max_aspect_ratio"]) == DEFAULT_LIMITS
    assert settings["decode_memory_mb"] * 1_000_000 == DEFAULT_MEMORY_BYTES
    content = encode(Image.new("1", (7800, 7800)), "TIFF", compression="group4")
    with pytest.raises(InvalidImage) as local:
        folder_decoder().decode(content)
    assert to_upload(content) == ImageFailure(INVALID_IMAGE, local.value.message)
    assert local.value.reason is InvalidReason.TOO_MANY_PIXELS
    narrow = folder_decoder(Limits(10_000, 5))
    assert narrow._memory is folder_decoder()._memory
