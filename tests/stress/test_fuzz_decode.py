"""20,000 mutated images through decode_image: an image or InvalidImage, in time, nothing else."""

import time
import warnings
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from catdog.invalid_image import InvalidImage
from catdog_serving.image_formats import folder_formats
from tests.support import bombs, heif_files
from tests.support.images import LIMITS, decode_image, encode, noise, quadrants
from tests.support.lossless_webp import many_groups
from tests.support.paths import SAMPLES
from tests.support.tiff_files import tiled_tiff

MUTATIONS = 20_000
MAX_CPU_S = 2.0  # of one; the machine's other work does not count


def seeds() -> list[bytes]:
    """Small images of every format and mode."""
    exif = Image.Exif()
    exif[0x0112] = 6
    small = Image.open(SAMPLES / "chelsea.png").convert("RGB").resize((90, 60))
    frames = [noise(40, 30, seed) for seed in range(3)]
    return [
        encode(small, "JPEG", exif=exif),
        encode(small, "JPEG", progressive=True),
        encode(small.convert("CMYK"), "JPEG"),
        encode(small.convert("L"), "JPEG"),
        encode(small, "PNG"),
        encode(small.convert("P"), "PNG"),
        encode(small.convert("LA"), "PNG"),
        encode(Image.new("I;16", (40, 30), 9), "PNG"),
        encode(quadrants(40, 30).convert("RGBA"), "PNG"),
        encode(small, "WEBP"),
        encode(small.convert("RGBA"), "WEBP", lossless=True),
        encode(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        encode(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        encode(small.convert("P"), "GIF", transparency=3),
        encode(small, "BMP"),
        encode(small.convert("1"), "BMP"),
        encode(small, "TIFF", compression="tiff_lzw"),
        encode(small.convert("CMYK"), "TIFF"),
        encode(small, "TIFF", compression="jpeg"),
        encode(small, "TIFF", compression="tiff_adobe_deflate", exif=exif),
        encode(small.convert("1"), "TIFF", compression="group4"),
        encode(small, "TIFF", big_tiff=True),
        tiled_tiff(),
        encode(small, "MPO", save_all=True, append_images=[noise(40, 30)]),
        encode(small, "JPEG", progressive=True)[:-2],
        encode(small, "JPEG", restart_marker_blocks=2)[:-2],
        encode(small, "WEBP", lossless=True, method=6),
        encode(small.convert("RGBA"), "WEBP", quality=40, alpha_quality=100),
        many_groups(64, 60, long=True),
        many_groups(300, 3, long=True),  # large enough to be looked into
        bombs.run_length_bmp(20, 15, b"".join(b"\x14" + bytes([n]) + b"\0\0" for n in range(15))),
        encode(small, "AVIF", exif=exif, speed=10),
        encode(quadrants(40, 30).convert("RGBA"), "AVIF", speed=10),
        encode(frames[0], "AVIF", save_all=True, append_images=[noise(40, 30)], speed=10),
        encode(small, "HEIF", exif=exif),
        encode(quadrants(64, 64).convert("RGBA"), "HEIF"),
        heif_files.grid(heif_files.item_of(encode(noise(64, 64), "HEIF")), 2, 2, 100, 90, b"heic"),
    ]  # fmt: skip


def mutate(data: bytes, changes: list[tuple[str, float, bytes]]) -> bytes:
    """Apply changes: what, where (as a part of the length), and with which bytes."""
    changed = bytearray(data)
    for what, part, content in changes:
        place = int(part * len(changed))
        match what:
            case "overwrite":
                changed[place : place + len(content)] = content
            case "flip":
                for offset, mask in enumerate(content):
                    if place + offset < len(changed):
                        changed[place + offset] ^= mask
            case "insert":
                changed[place:place] = content
            case "delete":
                del changed[place : place + len(content)]
            case "cut":
                del changed[place:]
            case "repeat":
                changed[place:place] = changed[place : place + 8 * len(content)]
    return bytes(changed)


# Mostly near the start, where the headers are.
PLACES = st.one_of(st.floats(0, 0.05), st.floats(0, 0.3), st.floats(0, 1, exclude_max=True))
CHANGES = st.tuples(
    st.sampled_from(("overwrite", "flip", "insert", "delete", "cut", "repeat")),
    PLACES,
    st.one_of(
        st.sampled_from((b"\0", b"\xff", b"\x7f", b"\x80", b"\xff\xff\xff\xff", bytes(8))),
        st.binary(min_size=1, max_size=8),
    ),
)
SEEDS = seeds()
OUTCOMES: Counter[str] = Counter()


@settings(
    max_examples=MUTATIONS,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(original=st.sampled_from(SEEDS), changes=st.lists(CHANGES, min_size=1, max_size=6))
def decode_mutated(original: bytes, changes: list[tuple[str, float, bytes]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on broken files
        data = mutate(original, changes)
        start = time.process_time()
        try:
            image = decode_image(data, LIMITS, folder_formats())
        except InvalidImage as invalid:
            OUTCOMES[invalid.reason] += 1
            image = None
        assert time.process_time() - start < MAX_CPU_S
    if image is None:
        return
    assert image.mode == "RGB"
    assert image.width * image.height <= LIMITS.max_pixels
    OUTCOMES["image"] += 1


@pytest.mark.filterwarnings("ignore")
def test_mutated_images() -> None:
    decode_mutated()
    assert sum(OUTCOMES.values()) >= MUTATIONS
    assert OUTCOMES["image"] > MUTATIONS // 20  # or else the mutations would be too wild
    print(f"\n{sum(OUTCOMES.values())} mutations: { {str(k): n for k, n in OUTCOMES.items()} }")
