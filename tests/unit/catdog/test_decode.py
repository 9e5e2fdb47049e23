import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps, PngImagePlugin
from torchvision.transforms import CenterCrop, Compose, Resize

from catdog.decode import (
    FOLDER_FORMATS,
    HTTP_FORMATS,
    DecodedImage,
    Decoder,
    Limits,
    to_upright_rgb,
)
from catdog.invalid_image import InvalidImage, InvalidReason
from catdog.transforms import Preprocessing, read_model_input, to_model_input
from tests.support.images import LIMITS, decode_image, encode, noise, png, png_chunk, quadrants
from tests.support.paths import SAMPLES
from tests.support.reference import reference_pixels

IMAGENET = Preprocessing(256, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def cropped(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    return to_model_input(DecodedImage(image, image.size), preprocessing).crop


def refused(data: bytes, limits: Limits = LIMITS) -> InvalidImage:
    with pytest.raises(InvalidImage) as caught:
        decode_image(data, limits)
    return caught.value


# --- pixels ---------------------------------------------------------------------------------


def test_pixels_equal_torchvisions_on_real_photos(photos: list[Path]) -> None:
    for path in photos:
        ours = read_model_input(path.read_bytes(), Decoder(LIMITS), IMAGENET).crop
        assert np.array_equal(ours, reference_pixels(path)), path.name


@settings(max_examples=60)
@given(width=st.integers(1, 700), height=st.integers(1, 700))
def test_pixels_equal_torchvisions_at_every_size(width: int, height: int) -> None:
    if max(width, height) > 20 * min(width, height):
        return
    image = noise(width, height)
    expected = np.asarray(Compose([Resize(256), CenterCrop(224)])(image)).transpose(2, 0, 1)
    pixels = cropped(image, IMAGENET)
    assert pixels.shape == (3, 224, 224)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert np.array_equal(pixels, expected)


def test_resize_size_is_the_weights_own() -> None:
    image = noise(500, 400)
    v2 = Preprocessing(232, 224, IMAGENET.mean, IMAGENET.std)
    expected = np.asarray(Compose([Resize(232), CenterCrop(224)])(image)).transpose(2, 0, 1)
    assert np.array_equal(cropped(image, v2), expected)


def test_a_crop_larger_than_the_resized_image_is_refused() -> None:
    with pytest.raises(ValueError, match="crop_size"):
        Preprocessing(200, 224, IMAGENET.mean, IMAGENET.std)


@pytest.mark.parametrize(
    ("size", "scaled"),
    [
        ((1023, 4000), (1023, 4000)),  # the shorter side would fall below 2 x 256
        ((1024, 4000), (512, 2000)),
        ((4000, 3000), (1000, 750)),
        ((4097, 8000), (513, 1000)),  # rounded up, as libjpeg does
    ],
)
def test_only_large_jpegs_are_decoded_smaller(
    size: tuple[int, int], scaled: tuple[int, int]
) -> None:
    for format in ("JPEG", "PNG"):
        content = encode(Image.new("RGB", size), format)
        image, full_size = Decoder(LIMITS).decode(content, smallest_side=512)
        assert image.size == (scaled if format == "JPEG" else size)
        assert full_size == size


def test_a_scaled_jpeg_is_turned_upright_too() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encode(quadrants(2400, 1600), "JPEG", exif=exif, quality=95)
    upright, full_size = Decoder(LIMITS).decode(content, smallest_side=512)
    assert upright.size == (800, 1200)
    assert full_size == (1600, 2400)
    corners = [upright.getpixel(place) for place in ((100, 100), (700, 100), (100, 1100))]
    whole = decode_image(content, LIMITS)
    expected = [whole.getpixel(place) for place in ((200, 200), (1400, 200), (200, 2200))]
    assert np.abs(np.subtract(corners, expected)).max() <= 2


# --- formats and modes ----------------------------------------------------------------------


@pytest.mark.parametrize("format", HTTP_FORMATS)
def test_each_http_format_is_decoded(format: str) -> None:
    image = quadrants()
    decoded = decode_image(encode(image, format), LIMITS)
    assert decoded.mode == "RGB"
    assert decoded.size == image.size
    difference = np.abs(np.asarray(decoded).astype(int) - np.asarray(image)).mean()
    assert difference < 6  # JPEG and WebP are lossy


@pytest.mark.parametrize("format", ["TIFF", "AVIF"])
def test_what_is_for_folders_only_is_named_elsewhere(format: str) -> None:
    data = encode(quadrants(), format)
    assert decode_image(data, LIMITS, FOLDER_FORMATS).size == (300, 200)
    error = refused(data)
    assert error.reason is InvalidReason.UNSUPPORTED_FORMAT
    assert error.message.startswith(f"the image is {format}, which is not read here; send JPEG")


def test_heic_is_named_where_it_is_not_read() -> None:
    error = refused(b"\0\0\0\x1cftypmif1\0\0\0\0mif1heicmiaf")
    assert error.reason is InvalidReason.UNSUPPORTED_FORMAT
    assert "HEIC" in error.message


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (64, 64), color) for color in ("red", "blue", "lime")]
    for format in ("GIF", "WEBP"):
        data = encode(frames[0], format, save_all=True, append_images=frames[1:], lossless=True)
        red, green, blue = decode_image(data, LIMITS).getpixel((32, 32))
        assert red > 250
        assert max(green, blue) < 5


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
    header = struct.pack(">IIBBBBB", 8, 8, depth, colour_type, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"tRNS", struct.pack(">H", key) * samples),
              (b"IDAT", zlib.compress(row * 8)), (b"IEND", b""))  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


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


def test_what_a_png_has_beside_its_pixels_costs_it_nothing() -> None:
    """Long texts and profiles that Pillow refuses, and checksums that nobody needs."""
    plain = encode(quadrants())
    text = PngImagePlugin.PngInfo()
    text.add_text("workflow", "x" * 2_000_000, zip=True)
    wrong = bytearray(png_chunk(b"tEXt", b"a\0b"))
    wrong[-1] ^= 1
    for data in (
        encode(quadrants(), pnginfo=text),
        encode(quadrants(), icc_profile=bytes(1_200_000)),
        plain[:33] + bytes(wrong) + plain[33:],
    ):
        assert np.array_equal(decode_image(data, LIMITS), quadrants())


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


def test_an_opened_image_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for format in ("JPEG", "PNG", "TIFF"):
        data = encode(quadrants(), format, exif=exif)
        upright = to_upright_rgb(Image.open(io.BytesIO(data)))
        assert np.array_equal(np.asarray(upright), decode_image(data, LIMITS, FOLDER_FORMATS))


def test_an_opened_image_that_cannot_be_read_is_invalid() -> None:
    cut = Image.open(io.BytesIO(encode(noise(), "PNG")[:5000]))
    for image in (cut, Image.new("F", (40, 30))):
        with pytest.raises(InvalidImage):
            to_upright_rgb(image)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_made_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(quadrants(), "JPEG", exif=exif, quality=95)
    decoded = decode_image(data, LIMITS)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert np.array_equal(np.asarray(decoded), np.asarray(expected))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's remark on this very file
def test_broken_exif_counts_as_upright() -> None:
    plain = encode(quadrants(), "JPEG")
    broken = encode(quadrants(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff" + b"\xff" * 50)
    assert np.array_equal(
        np.asarray(decode_image(broken, LIMITS)), np.asarray(decode_image(plain, LIMITS))
    )


def test_a_samples_pixels_survive_every_lossless_format() -> None:
    sample = Image.open(SAMPLES / "chelsea.png").convert("RGB")
    expected = np.asarray(sample)
    for format in ("PNG", "BMP"):
        assert np.array_equal(np.asarray(decode_image(encode(sample, format), LIMITS)), expected)


# --- refusals -------------------------------------------------------------------------------


def test_no_bytes_are_empty() -> None:
    assert refused(b"").reason is InvalidReason.EMPTY


def test_text_is_not_an_image() -> None:
    error = refused(b"hello, world")
    assert error.reason is InvalidReason.UNDECODABLE
    assert error.message == "cannot decode 12 bytes as an image; send JPEG, PNG or WebP"


@pytest.mark.parametrize("format", HTTP_FORMATS)
def test_a_file_that_is_cut_off_is_told_so(format: str) -> None:
    for image in (noise(), quadrants()):
        data = encode(image, format)
        for part in (0.4, 0.6, 0.9):
            error = refused(data[: int(part * len(data))])
            assert error.reason is InvalidReason.CUT_OFF
    assert error.message == "the image is cut off: its last rows are missing; send the whole file"


JPEG_LAYOUTS: tuple[dict[str, object], ...] = (
    {},
    {"progressive": True},
    {"restart_marker_blocks": 4},
    {"quality": 95, "subsampling": 0},
)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("layout", JPEG_LAYOUTS)
def test_a_jpeg_without_its_end_marker_is_read(layout: dict[str, object], mode: str) -> None:
    """Its last rows are there, or else it says so: libjpeg would fill them up."""
    with Image.open(SAMPLES / "chelsea.png") as sample:
        for size in ((451, 300), (900, 600)):
            data = encode(sample.resize(size).convert(mode), "JPEG", **layout)
            for smallest_side in (None, 150):
                whole = Decoder(LIMITS).decode(data, smallest_side)
                for missing in (1, 2):
                    read = Decoder(LIMITS).decode(data[:-missing], smallest_side)
                    assert np.array_equal(np.asarray(read.image), np.asarray(whole.image))
            for left in (len(data) - 400, len(data) // 2, data.index(b"\xff\xda") + 20):
                assert refused(data[:left]).reason is InvalidReason.CUT_OFF


def test_a_large_progressive_jpeg_that_is_cut_off_is_told_so() -> None:
    """Of its last scan, where only the finest details are."""
    with Image.open(SAMPLES / "chelsea.png") as sample:
        data = encode(sample.resize((1800, 1200)), "JPEG", progressive=True)
    assert refused(data[:-400]).reason is InvalidReason.CUT_OFF


def test_a_restart_interval_that_is_missing_is_told() -> None:
    """Cut exactly between two intervals, where a decoder waits for the next number only."""
    data = encode(noise(160, 96), "JPEG", restart_marker_rows=1)
    restart = data.rindex(b"\xff\xd4")
    for left in (restart, restart + 1, restart + 2):
        assert refused(data[:left]).reason is InvalidReason.CUT_OFF


def test_a_camera_jpeg_with_a_second_image_is_decoded_scaled_too() -> None:
    large = noise(2100, 1400)
    data = encode(large, "MPO", save_all=True, append_images=[noise(160, 120)])
    assert Image.open(io.BytesIO(data)).format == "MPO"
    scaled = Decoder(LIMITS).decode(data, smallest_side=256)
    assert scaled.image.size == (525, 350)
    assert scaled.full_size == large.size


def test_too_many_pixels_are_refused_before_decoding() -> None:
    claimed = png(60_000, 60_000, bit_depth=8, rows=b"")  # 3.6 gigapixels, of which none is there
    assert refused(claimed).reason is InvalidReason.TOO_MANY_PIXELS
    error = refused(encode(noise(101, 100)), Limits(max_pixels=10_000, max_aspect_ratio=20))
    assert error.reason is InvalidReason.TOO_MANY_PIXELS
    assert "101 x 100" in error.message
    assert "10000" in error.message


def test_the_pixel_limit_itself_is_allowed() -> None:
    data = encode(noise(100, 100))
    assert decode_image(data, Limits(max_pixels=10_000, max_aspect_ratio=1)).size == (100, 100)


def test_extreme_shapes_are_refused() -> None:
    for size in ((1, 60_000), (21, 1)):
        error = refused(encode(Image.new("L", size)))
        assert error.reason is InvalidReason.EXTREME_SHAPE
    assert decode_image(encode(Image.new("L", (20, 1))), LIMITS).size == (20, 1)


@settings(max_examples=300)
@given(data=st.binary(max_size=200))
def test_random_bytes_are_an_image_or_invalid(data: bytes) -> None:
    for prefix in (b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF", b"BM"):
        try:
            image = decode_image(prefix + data, LIMITS)
        except InvalidImage:
            continue
        assert image.mode == "RGB"
