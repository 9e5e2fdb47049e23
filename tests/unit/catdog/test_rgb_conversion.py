"""Every mode, depth and transparency as 8-bit RGB."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from catdog.decode import (
    FOLDER_FORMATS,
    Limits,
    to_upright_rgb,
)
from catdog.invalid_image import InvalidImage
from tests.support.images import LIMITS, decode_image, encode, png, png_chunk, quadrants


def refused(data: bytes, limits: Limits = LIMITS) -> InvalidImage:
    with pytest.raises(InvalidImage) as caught:
        decode_image(data, limits)
    return caught.value


def test_palette_and_grey_become_rgb() -> None:
    image = quadrants()
    for mode in ("P", "L", "1"):
        converted = image.convert(mode)
        decoded = decode_image(encode(converted), LIMITS)
        assert np.array_equal(np.asarray(decoded), np.asarray(converted.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_goes_over_white(mode: str) -> None:
    image = Image.new("RGBA", (40, 40), (0, 0, 0, 0)).convert(mode)
    assert decode_image(encode(image), LIMITS).getpixel((5, 5)) == (255, 255, 255)
    half = Image.new("RGBA", (40, 40), (0, 0, 0, 128)).convert(mode)
    assert decode_image(encode(half), LIMITS).getpixel((5, 5)) == (127, 127, 127)


def test_a_transparent_palette_colour_is_white() -> None:
    image = Image.new("P", (40, 40), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(1, (20, 0, 40, 40))
    decoded = decode_image(encode(image, "GIF", transparency=0), LIMITS)
    assert decoded.getpixel((5, 5)) == (255, 255, 255)
    assert decoded.getpixel((30, 5)) == (200, 100, 50)


def test_16_bit_grey_keeps_its_high_byte() -> None:
    levels = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    decoded = np.asarray(decode_image(encode(Image.fromarray(levels)), LIMITS))
    assert np.array_equal(decoded[..., 0], levels >> 8)
    assert np.array_equal(decoded[..., 0], decoded[..., 2])


def test_16_bit_grey_transparency_is_white() -> None:
    levels = np.full((8, 8), 512, dtype=np.uint16)
    levels[:, 4:] = 1024
    data = encode(Image.fromarray(levels))
    at = data.index(b"IDAT") - 4
    transparency = png_chunk(b"tRNS", struct.pack(">H", 512))
    decoded = decode_image(data[:at] + transparency + data[at:], LIMITS)
    assert decoded.getpixel((0, 0)) == (255, 255, 255)
    assert decoded.getpixel((7, 0)) == (4, 4, 4)


def keyed_png(depth: int, colour_type: int, key: int, sample: int) -> bytes:
    """8 x 8 pixels, all of whose samples are this, as well as those of the transparent colour."""
    samples = 1 if colour_type == 0 else 3
    bits = f"{sample:0{depth}b}" * samples * 8
    row = b"\0" + int(bits, 2).to_bytes(len(bits) // 8)
    colour = (b"tRNS", struct.pack(">H", key) * samples)
    return png(8, 8, depth, row * 8, colour_type, more=[colour])


@pytest.mark.parametrize(
    ("depth", "colour_type", "key", "sample", "shown"),
    [
        (16, 2, 0x1200, 0x0000, 0),  # the other way round in Pillow
        (16, 2, 0x1234, 0x1234, 255),
        (16, 2, 0x1234, 0x1235, 0x12),
        (16, 2, 0x3412, 0x1212, 0x12),
        (16, 0, 0x1234, 0x1234, 255),
        (16, 0, 0x1234, 0x1235, 0x12),
        (8, 2, 0x12, 0x12, 255),
        (8, 0, 0x12, 0x13, 0x13),
        (4, 0, 1, 1, 255),
        (4, 0, 1, 2, 34),
        (2, 0, 1, 1, 255),
        (2, 0, 3, 1, 85),
        (1, 0, 0, 0, 255),
        (1, 0, 1, 0, 0),
    ],
)
def test_a_pngs_transparent_colour_is_white_and_no_other(
    depth: int, colour_type: int, key: int, sample: int, shown: int
) -> None:
    data = keyed_png(depth, colour_type, key, sample)
    for image in (decode_image(data, LIMITS), to_upright_rgb(Image.open(io.BytesIO(data)))):
        assert image.getcolors() == [(64, (shown,) * 3)]


def bmp_with_alpha(image: Image.Image, alpha: int) -> bytes:
    """A 32-bit BMP (its fifth header) with a mask for alpha, which is the same everywhere."""
    red, green, blue = image.split()
    pixels = Image.merge("RGBA", (blue, green, red, Image.new("L", image.size, alpha)))
    rows = pixels.transpose(Image.Transpose.FLIP_TOP_BOTTOM).tobytes()
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHII", 124, *image.size, 1, 32, 3, len(rows)) + bytes(16)
    header += struct.pack("<4I", *masks) + b"BGRs" + bytes(64)
    return b"BM" + struct.pack("<IHHI", 14 + 124 + len(rows), 0, 0, 14 + 124) + header + rows


def test_a_bmp_whose_alpha_is_nowhere_is_opaque() -> None:
    for alpha, expected in ((0, quadrants()), (255, quadrants()), (1, None)):
        decoded = decode_image(bmp_with_alpha(quadrants(), alpha), LIMITS)
        whole = expected or Image.new("RGB", (300, 200), "white")
        assert np.abs(np.asarray(decoded).astype(int) - np.asarray(whole)).max() <= 1


def test_a_png_of_no_alpha_anywhere_is_white() -> None:
    decoded = decode_image(encode(Image.new("RGBA", (8, 8), (9, 9, 9, 0))), LIMITS)
    assert decoded.getcolors() == [(64, (255, 255, 255))]


def test_16_bit_rgb_keeps_its_high_byte() -> None:
    rows = b"".join(b"\0" + struct.pack(">3H", 0x12FF, 0x8000, 0xFE01) * 4 for _ in range(4))
    image = decode_image(png(4, 4, bit_depth=16, rows=rows), LIMITS)
    assert image.getpixel((1, 1)) == (0x12, 0x80, 0xFE)


def test_32_bit_and_float_images_are_refused() -> None:
    deep = Image.fromarray(np.full((8, 8), 1 << 20, dtype=np.int32))
    floating = Image.fromarray(np.full((8, 8), 0.5, dtype=np.float32))
    for image in (deep, floating):
        with pytest.raises(InvalidImage, match="send 8-bit RGB"):
            decode_image(encode(image, "TIFF"), LIMITS, FOLDER_FORMATS)


def test_cmyk_without_a_profile_uses_the_plain_formula() -> None:
    image = quadrants().convert("CMYK")
    decoded = decode_image(encode(image, "JPEG", quality=100), LIMITS)
    assert np.abs(np.asarray(decoded).astype(int) - np.asarray(quadrants())).mean() < 2


def test_cmyk_with_a_broken_profile_still_decodes() -> None:
    image = quadrants().convert("CMYK")
    for_rgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (b"rubbish" * 40, for_rgb):
        data = encode(image, "JPEG", quality=100, icc_profile=profile)
        decoded = decode_image(data, LIMITS)
        assert np.abs(np.asarray(decoded).astype(int) - np.asarray(quadrants())).mean() < 2


MODES = ("1", "L", "P", "PA", "LA", "La", "RGB", "RGBX", "RGBA", "RGBa", "CMYK", "YCbCr", "HSV")


@pytest.mark.parametrize("mode", [*MODES, "LAB"])
def test_an_image_of_any_mode_becomes_rgb(mode: str) -> None:
    through = {"La": "LA", "RGBa": "RGBA", "PA": "P"}
    if mode == "LAB":
        profiles = [ImageCms.createProfile(name) for name in ("sRGB", "LAB")]
        image = ImageCms.profileToProfile(quadrants(), *profiles, outputMode="LAB")
        assert image
    else:
        image = quadrants().convert(through.get(mode, "RGB")).convert(mode)
    expected = quadrants().convert("L" if mode in ("1", "L", "LA", "La") else "RGB").convert("RGB")
    if mode == "1":
        expected = quadrants().convert("1").convert("RGB")
    difference = np.abs(np.asarray(to_upright_rgb(image)).astype(int) - np.asarray(expected))
    assert difference.max() <= (25 if mode == "LAB" else 2)  # 8-bit LAB is coarse
