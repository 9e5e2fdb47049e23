"""Small files that take a decoder long: their parts are many, and their pixels few or repeated.

`refused()` and `read()` give name -> bytes. The former have more parts than any encoder writes;
of the latter only the pixels are needed, so they are answered as quickly as the plain image.
"""

import io
import struct
import zlib
from functools import cache

from PIL import Image

from tests.support import heif_files
from tests.support.images import encode, noise, png_chunk, riff, riff_chunk
from tests.support.lossless_webp import fine_transforms, many_groups
from tests.support.paths import SAMPLES
from tests.support.tiff_files import (
    grey_tiff,
    jpeg_in_tiff,
    shared_tags,
    tags_that_share,
    tiff_directory,
    with_tags,
)

HEADER_END = 33  # of a PNG's signature and header
# Eight deflate blocks without a byte, each with code tables of its own (RFC 1951, 3.2.7).
EMPTY_BLOCKS = bytes.fromhex(
    "04c081000000000090ff6b100007020000000040feaf41001c080000000000f9bf060170200000000000e4ff1a" * 2
)


@cache
def cat(format: str = "PNG") -> bytes:
    """The sample that all of these show, where they show anything."""
    return encode(Image.open(SAMPLES / "chelsea.png").convert("RGB"), format)


@cache
def refused() -> dict[str, bytes]:
    """Bombs that get a 4xx that names the reason."""
    jpeg, png, gif = cat("JPEG"), cat(), cat("GIF")
    grey_jpeg = encode(noise().convert("L"), "JPEG")
    large_jpeg = encode(noise(3000, 200).convert("L"), "JPEG", quality=95)
    colours = 13 + 768  # where a GIF's header and palette end
    return {
        "JPEG, 15,000 scans of 48 megapixels": repeated_scan(8000, 6000, 15_000, averages=False),
        "JPEG, 50 scans of averages": repeated_scan(4000, 3000, 50, averages=True),
        "JPEG, not progressive, 300 scans": jpeg[:-2] + jpeg[jpeg.index(b"\xff\xda") : -2] * 300
        + jpeg[-2:],
        "JPEG, 500,000 empty comments": after_start(jpeg, b"\xff\xfe\0\2" * 500_000),
        "JPEG, 20 MB of stuffed zeros": after_start(jpeg, b"\xff\0" * 10_000_000),
        "JPEG, 380,000 quantisation tables": after_start(
            jpeg, segment(0xDB, (b"\0" + bytes(range(1, 65))) * 1000) * 380
        ),
        "JPEG, 25 MB of 0xff in its scan": jpeg_of_data(b"\xff" * 65_535 + b"\0", 25_000_000),
        "JPEG, 1 MB of 0xff in its scan": jpeg[:-2] + b"\xff" * 1_000_000 + jpeg[-2:],
        "JPEG, 25 MB of stuffed zeros in its scan": jpeg_of_data(b"\xff\0", 25_000_000),
        "JPEG, 25 MB of restarts in its scan": jpeg_of_data(b"\xff\xd0", 25_000_000),
        "JPEG, 1 MB of restarts in its scan": jpeg_of_data(b"\xff\xd0", 1_000_000),
        "JPEG, 9 passes that refine noise": refinements(400, 300, 9),
        "JPEG, without its end, 300 scans": jpeg[:-2] + jpeg[jpeg.index(b"\xff\xda") : -2] * 300,
        "JPEG, 20 MB of 0xff in its scan": jpeg[:-2] + b"\xff" * 20_000_000 + jpeg[-2:],
        "JPEG, arithmetic coding": jpeg.replace(b"\xff\xc0", b"\xff\xc9", 1),
        "PNG, 5,000,000 empty blocks of pixels": after_header(
            png, png_chunk(b"IDAT", b"\x78\x01" + b"\0\0\0\xff\xff" * 5_000_000)
        ),
        "PNG, 25 MB of empty blocks with tables": png_of_stream(2500, EMPTY_BLOCKS * 270_000),
        "GIF, 25 MB of codes for one pixel": b"GIF89a\1\0\1\0\0\0\0,\0\0\0\0\1\0\1\0\0\2"
        + (b"\xff" + bytes(255)) * 98_000 + b"\0;",
        "TIFF, more tags than are counted": shared_tags(10_200, 10_000_000) + bytes(9_000_000),
        "TIFF, a tile of 1,600 megapixels": tiff_directory({256: 16, 257: 16, 322: 40_000,
                                                            323: 40_000}),
        "PNG, 100,000 empty chunks": after_header(png, png_chunk(b"aaAa", b"") * 100_000),
        "PNG, 100,000 empty pieces of pixels": after_header(png, png_chunk(b"IDAT", b"") * 100_000),
        "GIF, a comment of 3,000,000 blocks": gif[:colours] + b"!\xfe" + b"\1a" * 3_000_000 + b"\0"
        + gif[colours:],
        "GIF, 2,000,000 empty extensions": gif[:colours] + b"!\xff\0" * 2_000_000 + gif[colours:],
        "WebP, 3,000,000 chunks": riff(extended_header(0) + b"abcd\0\0\0\0" * 3_000_000
                                       + cat("WEBP")[12:]),
        "WebP, 300,000 frames": animation(300_000, b""),
        "WebP, 3,000,000 chunks in a frame": animation(1, b"abcd\0\0\0\0" * 3_000_000),
        "WebP, 16,384 long groups of code tables": many_groups(512, 16_384, long=True),
        "WebP, 16,384 groups of code tables": many_groups(512, 16_384, long=False),
        "WebP, 50,000 groups of code tables": many_groups(1000, 50_000, long=True),
        "WebP, 50,000 groups that no pixel uses": many_groups(64, 50_000, True, used=False),
        "WebP, 5,000 groups that no pixel uses": many_groups(64, 5_000, True, used=False),
        "WebP, 5,000 groups of its alpha": in_alpha(many_groups(64, 5_000, True, used=False)),
        "WebP, 250,000 predictors": fine_transforms(2000),
        "BMP, 51 megapixels of line ends": run_length_bmp(8000, 6400, b"\1\0\0\0" * 6400),
        "BMP, 6,000,000 runs without a pixel": run_length_bmp(500, 500, b"\0\2\0\0" * 6_000_000),
        "TIFF, tags that share 10 MB": shared_tags(60_000, 10_000_000),
        "TIFF, 10,000 tiles of a pixel": grey_tiff(
            100, 100, bytes(64), {322: 1, 323: 1, 324: [8] * 10_000, 325: [1] * 10_000}
        ),
        "TIFF, 60,000 tiles of 16 x 16 for 100 x 100": grey_tiff(
            100, 100, bytes(256), {322: 16, 323: 16, 324: [8] * 60_000, 325: [256] * 60_000}
        ),
        "TIFF, 60,000 strips for 100 rows": grey_tiff(
            100, 100, bytes(10_000), {273: [8] * 60_000, 279: [100] * 60_000, 278: 1}
        ),
        "TIFF, 20,000 strips in disorder": grey_tiff(
            1000, 20_000, bytes(1000), {273: [8] * 20_000, 279: [900] * 20_000, 278: 1}
        ),
        "TIFF, a progressive JPEG inside": jpeg_in_tiff(
            3000, 2000, encode(Image.new("L", (3000, 2000)), "JPEG", progressive=True)
        ),
        "TIFF, a JPEG of 100 scans inside": jpeg_in_tiff(
            300, 200, grey_jpeg[:-2] + grey_jpeg[grey_jpeg.index(b"\xff\xda") : -2] * 100
            + grey_jpeg[-2:]
        ),
        "TIFF, 100 strips that are the same JPEG": jpeg_in_tiff(3000, 20_000, large_jpeg, 100),
        "TIFF, 2 MB of empty deflate blocks": grey_tiff(
            64, 64, b"\x78\x01" + b"\0\0\0\xff\xff" * 400_000 + zlib.compress(bytes(4096))[2:],
            {259: 8}
        ),
        "TIFF, 5 MB of empty blocks, of no length": grey_tiff(
            2500, 2500, b"\x78\x01" + EMPTY_BLOCKS * 50_000 + zlib.compress(bytes(6_250_000))[2:],
            {259: 8}, counts=False
        ),
        "TIFF, 5 MB of empty blocks with tables": grey_tiff(
            2500, 2500, b"\x78\x01" + EMPTY_BLOCKS * 50_000 + zlib.compress(bytes(6_250_000))[2:],
            {259: 8}
        ),
        "TIFF, 25 MB of LZW codes for a pixel": grey_tiff(1, 1, b"\x80" * 25_000_000, {259: 5}),
        "TIFF, a palette of 5,000,000 colours": grey_tiff(
            64, 64, bytes(4096), {320: [0] * 5_000_000}
        ),
    }  # fmt: skip


@cache
def refused_in_folders() -> dict[str, bytes]:
    """The same for the formats that only folders take."""
    small = heif_files.item_of(encode(Image.new("RGB", (128, 128), (90, 80, 70)), "HEIF"))
    large = heif_files.item_of(encode(noise(512, 512), "HEIF"))
    av1 = heif_files.item_of(encode(noise(256, 256), "AVIF", speed=10))
    flat = heif_files.item_of(encode(Image.new("RGB", (2000, 2000)), "AVIF", speed=10))
    heic, avif = b"heic", b"avif"
    plan = heif_files.Item(
        b"grid", b"\0\1\0\0" + struct.pack(">II", 128, 128), [heif_files.size(128, 128)], [2]
    )
    return {
        "HEIC, 9 large tiles of a small image": heif_files.grid(large, 3, 3, 128, 128, heic),
        "HEIC, 900 tiles of a small image": heif_files.grid(small, 30, 30, 128, 128, heic),
        "HEIC, 1,024 tiles": heif_files.grid(small, 32, 32, 4096, 4096, heic),
        "HEIC, a grid of grids": heif_files.build(heic, [plan, plan._replace(tiles=[3]), small]),
        "HEIC, 1,000,000 boxes": heif_files.build(heic, [small], more=b"\0\0\0\x08abcd" * 10**6),
        "HEIC, 1,000 extents of the same bytes": heif_files.build(
            heic, [large._replace(extents=1_000)]
        ),
        "AVIF, 5 frames": heif_files.build(avif, [av1._replace(payload=av1.payload * 5)]),
        "AVIF, 500 frames": heif_files.build(avif, [av1._replace(payload=av1.payload * 500)]),
        "AVIF, 5,000,000 blocks": heif_files.build(
            avif, [av1._replace(payload=b"\x12\0" * 5_000_000 + av1.payload)]
        ),
        "AVIF, 4 megapixels that call themselves 64 x 64": heif_files.build(
            avif, [flat._replace(properties=[heif_files.size(64, 64), *flat.properties[1:]])]
        ),
    }


@cache
def read() -> dict[str, bytes]:
    """Bombs that are answered as the plain image is."""
    jpeg, png = cat("JPEG"), cat()
    exif = shared_tags(5000, 60_000)
    tags = tiff_directory(dict.fromkeys(range(5400), 0))  # of 12 bytes
    long_exif = shared_tags(60_000, 5_000_000) + bytes(5_000_000)
    return {
        "JPEG, EXIF tags that share 60 kB": after_start(jpeg, segment(0xE1, b"Exif\0\0" + exif)),
        "JPEG, EXIF named 10,000 times": after_start(
            jpeg, segment(0xE1, b"Exif\0\0" * 10_000) * 20
        ),
        "PNG, EXIF named 1,000,000 times": after_header(
            png, png_chunk(b"eXIf", b"Exif\0\0" * 1_000_000)
        ),
        "JPEG, EXIF in 390 segments": after_start(
            jpeg, segment(0xE1, b"Exif\0\0" + bytes(65_000)) * 390
        ),
        "JPEG, 2 MB of 0xff before a marker": after_start(jpeg, b"\xff" * 2_000_000),
        "JPEG, EXIF full of tags in 380 segments": after_start(
            jpeg, segment(0xE1, b"Exif\0\0" + tags) * 380
        ),
        "PNG, EXIF full of tags in 32 chunks": after_header(
            png, png_chunk(b"eXIf", tiff_directory(dict.fromkeys(range(65535), 0))) * 32
        ),
        "PNG, 24 profiles of 1 MB of newlines": after_header(
            png, png_chunk(b"tEXt", b"Raw profile type exif\0" + b"\n" * 10**6) * 24
        ),
        "PNG, 24 profiles of 1 MB of digits": after_header(
            png, png_chunk(b"iTXt", b"Raw profile type exif\0\0\0\0\0" + b"\n\n\n" + b"4" * 10**6)
            * 24
        ),
        "PNG, 24 texts of 1 MB of XMP": after_header(
            png, png_chunk(b"tEXt", b"XML:com.adobe.xmp\0" + b"tiff:Orientation" * 62_000) * 24
        ),
        "PNG, 9,000 texts of 1 MB": after_header(
            png, png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(10**6)))
            * 9_000
        ),
        "PNG, EXIF tags that share 5 MB": after_header(png, png_chunk(b"eXIf", long_exif)),
        "PNG, 2,000 texts of 900 kB": after_header(
            png, png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(900_000))) * 2000
        ),
        "TIFF, 120,000 fractions": with_tags(
            cat("TIFF"), [(282, 5, 60_000), (283, 5, 60_000)], b"\1\0\0\0" * 120_000
        ),
        "TIFF, 9,900 small tags": with_tags(
            cat("TIFF"), [(1000 + n, 3, 1) for n in range(9_900)], b""
        ),
        "TIFF, EXIF of 5,000 tags that share 10 MB": with_tags(
            cat("TIFF"), [(0x8769, 4, 1)],
            struct.pack("<H", 5_000) + tags_that_share(5_000, 10_000_000) + bytes(10_000_000)
        ),
        "HEIC, EXIF tags that share 400 kB": with_exif_item(b"heic", "HEIF"),
        "AVIF, EXIF tags that share 400 kB": with_exif_item(b"avif", "AVIF"),
        "WebP, EXIF tags that share 5 MB": riff(
            extended_header(8) + cat("WEBP")[12:] + riff_chunk(b"EXIF", long_exif)
        ),
    }  # fmt: skip


def after_start(jpeg: bytes, more: bytes) -> bytes:
    return jpeg[:2] + more + jpeg[2:]


def after_header(png: bytes, more: bytes) -> bytes:
    return png[:HEADER_END] + more + png[HEADER_END:]


def png_of_stream(side: int, empty: bytes) -> bytes:
    """A black RGBA PNG, with deflate blocks that give nothing before its pixels."""
    pixels = empty + zlib.compress(bytes((1 + 4 * side) * side))[2:]
    header = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    return (
        cat()[:8] + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"\x78\x01" + pixels)
        + png_chunk(b"IEND", b"")
    )  # fmt: skip


def segment(marker: int, payload: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(payload) + 2) + payload


def jpeg_of_data(data: bytes, size: int, side: int = 64) -> bytes:
    """A square JPEG with this again and again in its scan, `size` bytes in all."""
    jpeg = encode(Image.new("RGB", (side, side), (90, 100, 110)), "JPEG")
    return jpeg[:-2] + data * (size // len(data)) + jpeg[-2:]


def refinements(width: int, height: int, count: int) -> bytes:
    """A progressive JPEG of noise, with its last refinement of all details once more and more."""
    jpeg = encode(noise(width, height), "JPEG", progressive=True, quality=85)
    start = jpeg.rindex(b"\xff\xda")
    tables = jpeg.rindex(b"\xff\xc4", 0, start)
    return jpeg[:-2] + jpeg[tables:-2] * count + jpeg[-2:]


def repeated_scan(width: int, height: int, count: int, averages: bool) -> bytes:
    """A progressive JPEG of one colour, with its shortest scan of one kind once more and more."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (90, 100, 110)).save(
        buffer, "JPEG", progressive=True, quality=50
    )
    jpeg = buffer.getvalue()
    scans, at = [], 2
    while jpeg[at + 1] != 0xD9:
        end = at + 2 + struct.unpack(">H", jpeg[at + 2 : at + 4])[0]
        if jpeg[at + 1] == 0xDA:
            spectral_start, refines = jpeg[end - 3], jpeg[end - 1] >> 4
            while not (jpeg[end] == 0xFF and jpeg[end + 1] not in (0, *range(0xD0, 0xD8))):
                end += 1
            if (spectral_start == 0) is averages and (refines or not averages):
                scans.append((end - at, at, end))
        at = end
    _, start, end = min(scans)
    return jpeg[:end] + jpeg[start:end] * count + jpeg[end:]


def with_exif_item(brand: bytes, format: str) -> bytes:
    """An image whose EXIF, an item that describes it, has 500 tags that share 400 kB."""
    exif = b"\0\0\0\6Exif\0\0" + shared_tags(500, 400_000) + bytes(400_000)
    items = [heif_files.item_of(cat(format)), heif_files.Item(b"Exif", exif, describes=[1])]
    return heif_files.build(brand, items)


def run_length_bmp(width: int, height: int, runs: bytes) -> bytes:
    """An 8-bit BMP with a palette and run-length encoding."""
    start = 54 + 1024
    return (
        b"BM" + struct.pack("<IHHI", start + len(runs), 0, 0, start)
        + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 256, 0)
        + bytes(range(256)) * 4 + runs
    )  # fmt: skip


def extended_header(flags: int) -> bytes:
    """WebP's VP8X chunk for an image of the cat's size."""
    width, height = Image.open(io.BytesIO(cat())).size
    sizes = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    return riff_chunk(b"VP8X", bytes((flags, 0, 0, 0)) + sizes)


def in_alpha(lossless: bytes) -> bytes:
    """A lossy WebP of 64 x 64 pixels whose alpha is the stream of a lossless one of that size."""
    lossy = encode(Image.new("RGB", (64, 64)), "WEBP")[12:]
    header = riff_chunk(b"VP8X", b"\x10\0\0\0" + b"\x3f\0\0" * 2)
    return riff(header + riff_chunk(b"ALPH", b"\1" + lossless[25:]) + lossy)


def animation(frames: int, inside: bytes) -> bytes:
    """A WebP animation of frames of one pixel, with more chunks inside each."""
    pixel = encode(Image.new("RGB", (1, 1)), "WEBP", lossless=True)[12:]
    frame = riff_chunk(b"ANMF", bytes(12) + b"\1\0\0\0" + pixel + inside)
    return riff(extended_header(2) + riff_chunk(b"ANIM", bytes(6)) + frame * frames)
