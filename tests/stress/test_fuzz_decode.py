"""20,000 mutated pictures through decode_image: a picture or InvalidImage, nothing else."""

import random
import warnings
from collections import Counter

import pytest
from PIL import Image

from catdog.preprocess import FOLDER_FORMATS, InvalidImage, decode_image
from tests.conftest import LIMITS, SAMPLES
from tests.pictures import encode, noise, quadrants

MUTATIONS = 20_000


def seeds() -> list[bytes]:
    """Small pictures of every format and mode."""
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
    ]


def mutate(data: bytes, chance: random.Random) -> bytes:
    """Flip, overwrite, cut, repeat or insert, mostly near the start, where the headers are."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        if not changed:
            break
        reach = chance.choice((64, 512, len(changed)))
        place = chance.randrange(min(reach, len(changed)))
        match chance.randrange(6):
            case 0:
                changed[place] ^= 1 << chance.randrange(8)
            case 1:
                changed[place] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                del changed[place:]
            case 3:
                changed[place : place + 4] = chance.randbytes(4)
            case 4:
                changed[place:place] = changed[place : place + chance.randrange(1, 64)]
            case 5:
                del changed[place : place + chance.randrange(1, 16)]
    return bytes(changed)


@pytest.mark.filterwarnings("ignore")  # Pillow's remarks on broken files
def test_mutated_pictures() -> None:
    chance = random.Random(20_000)
    originals = seeds()
    outcomes: Counter[str] = Counter()
    for number in range(MUTATIONS):
        data = mutate(originals[number % len(originals)], chance)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                image = decode_image(data, LIMITS, FOLDER_FORMATS)
            except InvalidImage as invalid:
                outcomes[invalid.reason] += 1
                continue
        assert image.mode == "RGB"
        assert image.width * image.height <= LIMITS.max_pixels
        outcomes["picture"] += 1
    assert sum(outcomes.values()) == MUTATIONS
    assert outcomes["picture"] > MUTATIONS // 20  # or else the mutations would be too wild
    print(f"\n{MUTATIONS} mutations: {dict(outcomes)}")
