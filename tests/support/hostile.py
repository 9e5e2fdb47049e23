"""Hostile inputs made by code: each must get its own 4xx or a right answer, and hurt nobody.

`corpus()` gives name -> bytes. What is listed in `VALID` may be answered 200.
"""

import io
import struct
import zipfile
import zlib

import numpy as np
from PIL import Image

from tests.support.images import PNG_SIGNATURE, encode, noise, png, png_chunk, quadrants
from tests.support.paths import SAMPLES


def corpus() -> dict[str, bytes]:
    """At least 60 inputs, by name."""
    return (
        _tiny() | _truncations() | _bit_flips() | _bombs() | _shapes() | _odd_jpegs() | _odd_pngs()
        | _animations() | _tiffs() | _other_files() | _polyglots()
    )  # fmt: skip


def _jpeg() -> bytes:
    return encode(Image.open(SAMPLES / "chelsea.png").convert("RGB"), "JPEG")


def _tiny() -> dict[str, bytes]:
    return {
        "0 bytes": b"",
        "1 byte": b"\xff",
        "a newline": b"\n",
        "JPEG's first marker": b"\xff\xd8",
        "PNG's signature": PNG_SIGNATURE,
        "GIF's signature": b"GIF89a",
        "BMP's signature": b"BM",
        "RIFF without WebP": b"RIFF\x10\0\0\0WAVE",
        "zeros": bytes(1000),
        "0xff": b"\xff" * 1000,
    }


def _truncations() -> dict[str, bytes]:
    whole = {
        "JPEG": _jpeg(),
        "PNG": (SAMPLES / "chelsea.png").read_bytes(),
        "WEBP": encode(quadrants(), "WEBP", quality=90),
        "GIF": encode(noise().convert("P"), "GIF"),
        "BMP": encode(quadrants(), "BMP"),
    }
    return {
        f"{name} cut at {part:.0%}": data[: int(len(data) * part)]
        for name, data in whole.items()
        for part in (0.02, 0.3, 0.9)
    }


def _bit_flips() -> dict[str, bytes]:
    random = np.random.default_rng(3)
    found = {}
    for name, data in (("JPEG", _jpeg()), ("PNG", (SAMPLES / "coffee.png").read_bytes())):
        for copy in range(4):
            flipped = bytearray(data)
            for place in random.integers(20, len(data), 20):
                flipped[place] ^= 1 << int(random.integers(8))
            found[f"{name} with 20 flipped bits, {copy}"] = bytes(flipped)
    return found


def _bombs() -> dict[str, bytes]:
    gif = bytearray(encode(Image.new("P", (1, 1)), "GIF"))
    gif[6:10] = struct.pack("<HH", 65_535, 65_535)
    text = zlib.compress(bytes(50_000_000), 9)
    body = png(64, 64, 8, b"\0" * 64 * 193)
    header = len(PNG_SIGNATURE) + 25
    return {
        "PNG, 50,000,000 zeros in the rows of 64 x 64": png(64, 64, 8, bytes(50_000_000)),
        "PNG, 60,000 x 60,000 claimed": png(60_000, 60_000, 8, b""),
        "PNG, 2^31 x 2^31 claimed": png(2**31 - 1, 2**31 - 1, 8, b""),
        "PNG, 10,000 x 10,000 of one colour": encode(Image.new("1", (10_000, 10_000))),
        "GIF, 65,535 x 65,535 claimed": bytes(gif),
        "PNG, 50 MB of compressed text": body[:header]
        + png_chunk(b"zTXt", b"Comment\0\0" + text)
        + body[header:],
        "BMP, 2^31 - 1 wide": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 100, 0, 0, 54, 40, 2**31 - 1,
                                                  2**31 - 1, 1, 24, 0, 0, 0, 0, 0, 0),
    }  # fmt: skip


def _shapes() -> dict[str, bytes]:
    return {
        "1 x 60,000": encode(Image.new("RGB", (1, 60_000))),
        "60,000 x 1": encode(Image.new("RGB", (60_000, 1))),
        "0 x 0 PNG": png(0, 0, 8, b""),
        "1 x 1": encode(Image.new("RGB", (1, 1))),
        "GIF of 0 x 0": b"GIF89a\0\0\0\0\0\0\0;",
    }


def _odd_jpegs() -> dict[str, bytes]:
    jpeg = _jpeg()
    start_of_frame = jpeg.index(b"\xff\xc0")
    lossless = jpeg[:start_of_frame] + b"\xff\xc3" + jpeg[start_of_frame + 2 :]
    twelve_bits = bytearray(jpeg)
    twelve_bits[start_of_frame + 4] = 12
    return {
        "JPEG, CMYK": encode(quadrants().convert("CMYK"), "JPEG"),
        "JPEG, lossless": lossless,
        "JPEG, 12 bits": bytes(twelve_bits),
        "JPEG, progressive": encode(quadrants(), "JPEG", progressive=True),
        "JPEG, EXIF of 0xff": encode(quadrants(), "JPEG", exif=b"Exif\0\0MM\0*" + b"\xff" * 60),
        "JPEG, EXIF that points at itself": encode(
            quadrants(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 0x8769,
                                                                         4, 1, 8, 8)
        ),
        "JPEG, EXIF orientation 99": encode(quadrants(), "JPEG", exif=_orientation(99)),
        "JPEG, colour profile of rubbish": encode(
            quadrants().convert("CMYK"), "JPEG", icc_profile=b"\0\0\x02\x0cADBE" + b"\xff" * 500
        ),
        "JPEG, 60,000 bytes of comments": jpeg[:2] + b"\xff\xfe\xea\x60" + bytes(59_998) + jpeg[2:],
        "JPEG without its tables": jpeg.replace(b"\xff\xdb", b"\xff\xfe", 1),
    }  # fmt: skip


def _orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def _odd_pngs() -> dict[str, bytes]:
    good = png(64, 64, 8, (b"\0" + bytes(range(192))) * 64)
    header = len(PNG_SIGNATURE) + 25
    wrong_sum = bytearray(good)
    wrong_sum[-5] ^= 1
    return {
        "PNG, colour profile of rubbish": good[:header]
        + png_chunk(b"iCCP", b"x\0\0" + zlib.compress(b"\xff" * 1000))
        + good[header:],
        "PNG, palette missing": png(8, 8, 8, bytes(72), colour_type=3),
        "PNG, wrong checksum": bytes(wrong_sum),
        "PNG, bit depth 7": png(8, 8, 7, bytes(200)),
        "PNG, rows missing": png(64, 64, 8, b"\0" * 193),
        "PNG, twice its header": good[:header] + good[len(PNG_SIGNATURE) : header] + good[header:],
    }  # fmt: skip


def _animations() -> dict[str, bytes]:
    frames = [Image.new("RGB", (64, 64), (n, 0, 0)) for n in range(100)]
    return {
        "WEBP, 100 frames": encode(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        "GIF, 100 frames": encode(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "PNG, 100 frames": encode(frames[0], "PNG", save_all=True, append_images=frames[1:]),
    }


def _tiffs() -> dict[str, bytes]:
    pages = [Image.new("L", (8, 8), n) for n in range(200)]
    return {
        "TIFF": encode(quadrants(), "TIFF"),
        "TIFF, 200 directories": encode(pages[0], "TIFF", save_all=True, append_images=pages[1:]),
        "TIFF whose directory points at itself": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
    }


def _other_files() -> dict[str, bytes]:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image.jpg", bytes(10_000_000))
    return {
        "HTML": b"<!doctype html><script>alert(1)</script>",
        "zip": packed.getvalue(),
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "PDF": b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF",
        "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/etc/passwd) run\nshowpage\n",
        "PPM": b"P6 8 8 255\n" + bytes(192),
        "ICO": b"\0\0\1\0\1\0" + bytes(16) + b"\x89PNG",
        "pickle": b"\x80\x04cposix\nsystem\n(X\x04\0\0\0exittR.",
        "ELF": b"\x7fELF" + bytes(100),
        "JSON": b'{"instances": [{"b64": "AAAA"}]}',
        "MP4": b"\0\0\0\x18ftypmp42" + bytes(100),
        "AVIF": b"\0\0\0\x1cftypavif" + bytes(100),
    }


def _polyglots() -> dict[str, bytes]:
    jpeg = _jpeg()
    return {
        "JPEG with a zip behind it": jpeg + _other_files()["zip"],
        "JPEG with HTML behind it": jpeg + b"<script>alert(1)</script>",
        "GIF that is JavaScript": b"GIF89a/*" + bytes(20) + b"*/=1;alert(1)//",
        "HTML before a JPEG": b"<html>" + jpeg,
        "two JPEGs": jpeg + jpeg,
    }
