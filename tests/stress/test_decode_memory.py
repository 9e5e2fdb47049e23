"""Decoding takes at most what is reserved for it, measured in a process of its own per image."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from catdog.memory_budget import DECODE_BYTES_PER_PIXEL
from tests.support.images import encode
from tests.support.paths import ROOT

SIDE = 4000  # 16 megapixels
# Small things beside the pixels: decoder tables, the file itself read in chunks.
SLACK_BYTES_PER_PIXEL = 1.0

PROGRAM = r"""
import json, re, sys
from pathlib import Path
from catdog.decode import Decoder, Limits
from catdog.transforms import Preprocessing, to_model_input
limits = Limits(52_000_000, 20)
data = Path(sys.argv[1]).read_bytes()
def peak():  # of this program alone; getrusage would give the parent's at the fork
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
decoder = Decoder(limits)
decoder.decode(Path(sys.argv[2]).read_bytes())  # plug-ins loaded
before = peak()
reserve = decoder._memory.reserve
def reserving(size):
    global reserved
    reserved = size
    return reserve(size)
decoder._memory.reserve = reserving
numbers = Preprocessing(256, 224, (0.5,) * 3, (0.5,) * 3)
smallest_side = numbers.smallest_decoded_side if sys.argv[3] == "scaled" else None
with decoder.decoded(data, smallest_side) as decoded:
    to_model_input(decoded, numbers)
print(json.dumps([peak() - before, reserved]))
"""


def image(kind: str) -> bytes:
    gradient = np.add.outer(np.arange(SIDE), np.arange(SIDE))
    rgb = Image.fromarray(
        np.stack([gradient % 256, gradient // 16 % 256, gradient // 64 % 256], 2).astype(np.uint8)
    )
    turned = Image.Exif()
    turned[0x0112] = 6
    grey16 = Image.fromarray((gradient * 8).astype(np.uint16))
    make = {
        "JPEG": lambda: encode(rgb, "JPEG"),
        "JPEG, progressive": lambda: encode(rgb, "JPEG", progressive=True),
        "JPEG, progressive, turned": lambda: encode(rgb, "JPEG", progressive=True, exif=turned),
        "JPEG, turned": lambda: encode(rgb, "JPEG", exif=turned),
        "JPEG, CMYK, turned": lambda: encode(rgb.convert("CMYK"), "JPEG", exif=turned),
        "PNG": lambda: encode(rgb, compress_level=1),
        "PNG, alpha": lambda: encode(rgb.convert("RGBA"), compress_level=1),
        "PNG, alpha, turned": lambda: encode(rgb.convert("RGBA"), compress_level=1, exif=turned),
        "PNG, grey and alpha": lambda: encode(rgb.convert("LA"), compress_level=1),
        "PNG, palette": lambda: encode(rgb.convert("P"), compress_level=1),
        "PNG, 16-bit grey": lambda: encode(grey16, compress_level=1),
        "WEBP": lambda: encode(rgb, "WEBP", quality=50, method=0),
        "WEBP, alpha": lambda: encode(rgb.convert("RGBA"), "WEBP", quality=50, method=0),
        "WEBP, alpha, turned": lambda: encode(
            rgb.convert("RGBA"), "WEBP", quality=50, method=0, exif=turned
        ),
        "PNG, grey and alpha, turned": lambda: encode(
            rgb.convert("LA"), compress_level=1, exif=turned
        ),
        "GIF": lambda: encode(rgb.convert("P"), "GIF"),
        "BMP": lambda: encode(rgb, "BMP"),
    }
    return make[kind]()


KINDS = (
    *("JPEG", "JPEG, progressive", "JPEG, turned", "JPEG, CMYK, turned", "PNG", "PNG, alpha"),
    *("JPEG, progressive, turned", "PNG, alpha, turned", "PNG, grey and alpha", "PNG, palette"),
    *("PNG, 16-bit grey", "WEBP", "WEBP, alpha", "WEBP, alpha, turned", "GIF", "BMP"),
    "PNG, grey and alpha, turned",
)


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        *((kind, "full") for kind in KINDS),
        *((kind, "scaled") for kind in KINDS if kind.startswith("JPEG")),
    ],
)
def test_decoding_stays_within_what_is_reserved(tmp_path: Path, kind: str, how: str) -> None:
    (tmp_path / "large").write_bytes(image(kind))
    (tmp_path / "small").write_bytes(encode(Image.new("RGB", (8, 8)), kind.partition(",")[0]))
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path / "large", tmp_path / "small", how],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    peak, reserved = (value / (SIDE * SIDE) for value in json.loads(result.stdout))
    print(f"\n{kind}, {how}: {peak:.2f} bytes a pixel of {reserved:.2f} reserved")
    assert peak > 0.2  # at least the decoded image itself, or else nothing was measured
    assert peak <= reserved + SLACK_BYTES_PER_PIXEL
    assert reserved <= DECODE_BYTES_PER_PIXEL
