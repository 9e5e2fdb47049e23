"""What a file's own structure may cost: it is looked at before any decoder."""

import io
import struct
import time
import zlib
from contextlib import nullcontext

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from catdog.decode import Limits
from catdog.invalid_image import InvalidImage, InvalidReason
from catdog.rgb_conversion import _is_table_profile
from catdog.structure import detect_format, essentials
from catdog.structure.tiff import _PIXEL_TAGS
from catdog_serving.image_formats import folder_formats
from tests.support import bombs, heif_files
from tests.support.bombs import after_header, after_start, cat, riff, riff_chunk, segment
from tests.support.images import LIMITS, decode_image, encode, noise, png, png_chunk, quadrants
from tests.support.lossless_webp import many_groups
from tests.support.paths import SAMPLES
from tests.support.tiff_files import tiled_tiff

# What one image may cost beside its pixels, in CPU seconds; other processes do not count. Each of
# these took 0.5 s to minutes before.
MAX_CPU_S = 1.0
WRITTEN_IN_PLACE = {"TIFF", "HEIF", "AVIF"}


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(decode_image(data, LIMITS, folder_formats()))


def by_pillow(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def test_more_work_than_the_pixels_are_worth_is_refused() -> None:
    for name, data in (bombs.refused() | bombs.refused_in_folders()).items():
        start = time.process_time()
        with pytest.raises(InvalidImage) as caught:
            decoded(data)
        assert time.process_time() - start < MAX_CPU_S, name
        assert caught.value.reason is InvalidReason.TOO_COMPLEX, name
        assert caught.value.message.startswith("the image takes too long to decode: it"), name


def test_what_no_pixel_needs_never_meets_a_decoder() -> None:
    for name, data in bombs.read().items():
        format = detect_format(data)
        assert format
        plain = cat(format)
        start = time.process_time()
        content = essentials(data, format).content
        assert len(content) < len(plain) + 100 or format in WRITTEN_IN_PLACE, name
        assert time.process_time() - start < MAX_CPU_S, name
        assert np.array_equal(decoded(data), decoded(plain)), name


@pytest.mark.parametrize(("brand", "format"), [(b"heic", "HEIF"), (b"avif", "AVIF")])
def test_metadata_of_an_item_is_hidden(brand: bytes, format: str) -> None:
    folder_formats()
    data = bombs.with_exif_item(brand, format)
    with Image.open(io.BytesIO(data)) as whole:
        assert whole.info.get("exif")
    with Image.open(io.BytesIO(essentials(data, format).content)) as image:
        assert not image.info.get("exif")


def test_items_that_share_their_bytes_are_refused_as_that() -> None:
    data = bombs.refused_in_folders()["HEIC, 1,000 extents of the same bytes"]
    with pytest.raises(InvalidImage, match="its items share their bytes"):
        decoded(data)


def test_a_tiff_keeps_only_what_makes_its_pixels() -> None:
    for name, data in bombs.read().items():
        if name.startswith("TIFF"):
            with Image.open(io.BytesIO(essentials(data, "TIFF").content)) as image:
                assert isinstance(image, TiffImageFile)
                assert set(image.tag_v2) <= _PIXEL_TAGS, name


def test_pixels_beyond_the_image_are_not_inflated() -> None:
    """A MB of zeros is a GB; a decoder stops when its rows are full."""
    zeros = zlib.compress(bytes(300_000_000), 9) * 9
    for side, is_read in ((2_500, True), (60_000, False)):
        header = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
        chunks = ((b"IHDR", header), (b"IDAT", zeros), (b"IEND", b""))
        bomb = cat()[:8] + b"".join(png_chunk(*chunk) for chunk in chunks)
        start = time.process_time()
        with nullcontext() if is_read else pytest.raises(InvalidImage):
            decode_image(bomb, Limits(10**7, 20))
        assert time.process_time() - start < MAX_CPU_S, side


def png_in_pieces(png: bytes, size: int) -> bytes:
    """The same PNG, its pixels in chunks of `size` bytes."""
    start = png.index(b"IDAT") - 4
    pixels = png[start + 8 : -16]
    pieces = (pixels[at : at + size] for at in range(0, len(pixels), size))
    return png[:start] + b"".join(png_chunk(b"IDAT", piece) for piece in pieces) + png[-12:]


def flushed_png(image: Image.Image) -> bytes:
    """An RGB PNG whose compressor was flushed after each row, uncompressed."""
    packer = zlib.compressobj(0)
    pixels = np.asarray(image)
    rows = (
        packer.compress(b"\0" + row.tobytes()) + packer.flush(zlib.Z_SYNC_FLUSH) for row in pixels
    )
    header = struct.pack(">IIBBBBB", *image.size, 8, 2, 0, 0, 0)
    return (
        cat()[:8] + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", b"".join(rows) + packer.flush()) + png_chunk(b"IEND", b"")
    )  # fmt: skip


def interlaced_png(image: Image.Image) -> bytes:
    """An RGB PNG in Adam7's seven passes, not compressed."""
    pixels = np.asarray(image)
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
              (1, 0, 2, 1))  # first row and column, and the steps  # fmt: skip
    rows = b"".join(
        b"\0" + row.tobytes() for y, x, down, right in passes for row in pixels[y::down, x::right]
    )
    return png(*image.size, 8, rows, interlaced=True, level=0)


def honest_files() -> dict[str, bytes]:
    """Every format and mode, with the metadata and layouts that encoders give them."""
    frames = [noise(40, 30, seed) for seed in range(3)]
    comment = Image.open(io.BytesIO(cat()))
    coffee = Image.open(SAMPLES / "coffee.png").convert("RGB")
    with_alpha = coffee.resize((600, 400))
    with_alpha.putalpha(255)
    return {
        "JPEG": encode(quadrants(), "JPEG", comment="a comment", dpi=(72, 72)),
        "JPEG, progressive": encode(noise(), "JPEG", progressive=True),
        "JPEG, not subsampled": encode(noise(), "JPEG", progressive=True, subsampling=0),
        "JPEG, grey": encode(noise().convert("L"), "JPEG", progressive=True),
        "JPEG, RGB components": encode(noise(), "JPEG", keep_rgb=True),
        "JPEG, restart markers": encode(noise(), "JPEG", restart_marker_blocks=1),
        "JPEG, a second image": encode(noise(), "MPO", save_all=True, append_images=frames),
        "JPEG, 0xff behind its end": cat("JPEG") + b"\xff" * 100_000,
        "JPEG, 0xff in what is not read": after_start(
            cat("JPEG"), segment(0xE5, b"\xff" * 65_000) * 2
        ),
        "PNG, interlaced text": encode(comment, "PNG", dpi=(300, 300)),
        "PNG, pixels in pieces of 256 bytes": png_in_pieces(encode(noise(130, 130)), 256),
        "PNG, a megabyte": encode(noise(640, 640)),
        "PNG, a megabyte, a block for each row": flushed_png(noise(300, 2_000)),
        "PNG, no end": encode(noise())[:-16],
        "PNG, not compressed": encode(noise(), compress_level=0),
        "PNG, interlaced": interlaced_png(noise(90, 60)),
        "PNG, palette": encode(quadrants().convert("P"), "PNG", bits=4),
        "PNG, animated": encode(frames[0], "PNG", save_all=True, append_images=frames[1:]),
        "GIF": encode(noise().convert("P"), "GIF", comment=b"hello" * 100),
        "GIF, interlaced": encode(noise().convert("P"), "GIF", interlace=1),
        "GIF, animated": encode(frames[0], "GIF", save_all=True, append_images=frames[1:], loop=0),
        "WebP": encode(noise(), "WEBP", icc_profile=bytes(500)),
        "WebP, lossless": encode(noise(), "WEBP", lossless=True),
        "WebP, lossless, method 0": encode(noise(), "WEBP", lossless=True, method=0),
        "WebP, lossless photo": encode(coffee.resize((600, 400)), "WEBP", lossless=True, method=6),
        "WebP, alpha": encode(with_alpha, "WEBP", alpha_quality=100),
        "WebP, animated": encode(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        "BMP": encode(noise(), "BMP"),
        "BMP, runs": bombs.run_length_bmp(200, 150, b"".join(
            b"\xc8" + bytes([row]) + b"\0\0" for row in range(150))),
        "AVIF": encode(noise(), "AVIF", speed=10),
        "AVIF, alpha": encode(with_alpha, "AVIF", speed=10),
        "AVIF, animated": encode(frames[0], "AVIF", save_all=True, append_images=[noise(40, 30)]),
        "HEIC": encode(noise(), "HEIF"),
        "HEIC, alpha": encode(with_alpha, "HEIF"),
        "HEIC, tiles": heif_files.grid(
            heif_files.item_of(encode(noise(128, 128), "HEIF")), 3, 4, 500, 300, b"heic"
        ),
        "HEIC, other data behind it": encode(noise(), "HEIF") + b"SEFT, and more",
        "TIFF": encode(noise(), "TIFF", compression="tiff_lzw"),
        "TIFF, deflate": encode(noise(), "TIFF", compression="tiff_adobe_deflate"),
        "TIFF, JPEG": encode(noise(), "TIFF", compression="jpeg"),
        "TIFF, packed bits": encode(noise().convert("L"), "TIFF", compression="packbits"),
        "TIFF, fax": encode(quadrants().convert("1"), "TIFF", compression="group4"),
        "TIFF, CMYK with a profile": encode(
            noise().convert("CMYK"), "TIFF", icc_profile=bytes(500)
        ),
        "TIFF, palette": encode(quadrants().convert("P"), "TIFF", compression="tiff_lzw"),
        "TIFF, alpha": encode(with_alpha, "TIFF", compression="tiff_lzw"),
        "TIFF, two pages": encode(noise(), "TIFF", save_all=True, append_images=[noise()]),
        "TIFF, large": encode(noise(30, 400), "TIFF", big_tiff=True),
        "TIFF, tiles": tiled_tiff(),
        "TIFF, strips of a row": encode(noise(30, 400), "TIFF", strip_size=90),
    }  # fmt: skip


def test_honest_files_keep_every_pixel() -> None:
    for name, data in honest_files().items():
        assert np.array_equal(decoded(data), by_pillow(data)), name


def test_a_profile_that_is_a_program_is_not_run() -> None:
    """ICC's multi-process elements: 35 kB of them took a minute for 8 x 8 pixels."""
    image = quadrants(40, 40).convert("CMYK")
    program = b"mpet" + bytes(28)
    plain = encode(image, "JPEG", quality=100)
    at = 128 + 4 + 2 * 12
    for names in ((b"D2B0", b"A2B0"), (b"A2B0", b"A2B0")):  # the second A2B0 is a table
        kinds = (program, b"mft2" + bytes(28))
        tags = b"".join(
            struct.pack(">4sII", name, at + 32 * number, 32) for number, name in enumerate(names)
        )
        profile = bytes(128) + struct.pack(">I", 2) + tags + b"".join(kinds)
        assert not _is_table_profile(profile)
        data = encode(image, "JPEG", quality=100, icc_profile=profile)
        assert np.array_equal(decoded(data), decoded(plain))


def test_what_a_decoder_keeps_beside_the_pixels_is_known() -> None:
    image = noise(64, 48)
    coefficients = 2 * 3 * 64 * 48
    for options, expected in (({}, 0), ({"progressive": True}, coefficients)):
        assert essentials(encode(image, "JPEG", **options), "JPEG").working_bytes == expected
    for animated in ({}, {"save_all": True, "append_images": [noise(64, 48, 1)]}):
        lossless, lossy = (
            encode(image, "WEBP", lossless=each, **animated) for each in (True, False)
        )
        most = 5_600 * len(lossless)
        assert 5_600 <= essentials(lossless, "WEBP").working_bytes <= most
        assert essentials(lossy, "WEBP").working_bytes == 0
    for groups in (2, 300, 4096):
        found = essentials(many_groups(512, groups, long=True), "WEBP")
        assert found.working_bytes == 5_600 * groups


# --- the orientation ------------------------------------------------------------------------


def exif(orientation: int, order: str = "<") -> bytes:
    start = b"II*\0" if order == "<" else b"MM\0*"
    tag = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    return start + struct.pack(order + "IH", 8, 1) + tag + bytes(4)


XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
RAW_PROFILE = b"\nexif\n      34\n" + exif(6).hex().encode()


def oriented_files() -> dict[str, bytes]:
    """The cat on its side (orientation 6), said in every place that Pillow looks at."""
    jpeg, png, webp = cat("JPEG"), cat(), cat("WEBP")
    international = b"XML:com.adobe.xmp\0\0\0\0\0"
    xmp_name = b"http://ns.adobe.com/xap/1.0/\0"
    return {
        "JPEG, EXIF": after_start(jpeg, segment(0xE1, b"Exif\0\0" + exif(6))),
        "JPEG, EXIF, big endian": after_start(jpeg, segment(0xE1, b"Exif\0\0" + exif(6, ">"))),
        "JPEG, EXIF, its name twice": after_start(
            jpeg, segment(0xE1, b"Exif\0\0Exif\0\0" + exif(6))
        ),
        "JPEG, XMP": after_start(jpeg, segment(0xE1, xmp_name + XMP)),
        "PNG, EXIF": after_header(png, png_chunk(b"eXIf", exif(6))),
        "PNG, EXIF behind the pixels": png[:-12] + png_chunk(b"eXIf", exif(6)) + png[-12:],
        "PNG, XMP": after_header(png, png_chunk(b"iTXt", international + XMP)),
        "PNG, XMP as plain text": after_header(
            png, png_chunk(b"tEXt", b"XML:com.adobe.xmp\0" + XMP)
        ),
        "PNG, EXIF twice, the last counts": after_header(
            png, png_chunk(b"eXIf", exif(3)) + png_chunk(b"eXIf", exif(6))
        ),
        "PNG, raw profile": after_header(
            png, png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(RAW_PROFILE))
        ),
        "WebP, EXIF": riff(bombs.extended_header(8) + webp[12:] + riff_chunk(b"EXIF", exif(6))),
        "WebP, XMP": riff(bombs.extended_header(4) + webp[12:] + riff_chunk(b"XMP ", XMP)),
        "TIFF": encode(Image.open(io.BytesIO(png)), "TIFF", tiffinfo={0x0112: 6}),
        "TIFF, LZW": encode(
            Image.open(io.BytesIO(png)), "TIFF", compression="tiff_lzw", tiffinfo={0x0112: 6}
        ),
        "AVIF, turned by its properties": encode(
            Image.open(io.BytesIO(png)), "AVIF", speed=10, exif=b"Exif\0\0" + exif(6)
        ),
    }


def test_the_orientation_is_found_where_pillow_finds_it() -> None:
    width, height = Image.open(io.BytesIO(cat())).size
    for name, data in oriented_files().items():
        pixels = decoded(data)
        assert pixels.shape == (width, height, 3), name  # turned
        assert np.array_equal(pixels, by_pillow(data)), name


def test_exif_counts_more_than_xmp() -> None:
    upright = after_start(oriented_files()["JPEG, XMP"], segment(0xE1, b"Exif\0\0" + exif(1)))
    assert np.array_equal(decoded(upright), decoded(cat("JPEG")))
