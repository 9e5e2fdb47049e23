import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, PngImagePlugin
from torchvision.transforms import CenterCrop, Compose, Resize

from catdog.decode import (
    FOLDER_FORMATS,
    HTTP_FORMATS,
    DecodedImage,
    Decoder,
    Limits,
    format_name,
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
    named = f"the {format_name(format)} is cut off"
    assert error.message == f"{named}: its last rows are missing; send the whole file"


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
