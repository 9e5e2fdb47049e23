"""Large JPEGs decoded smaller: the same answers in less than half the time.

The images are 12 megapixels with real detail at full scale, made by code: photos enlarged
to 4000 x 3000, with noise (standard deviation 12), 150 thin lines and 60 lines of small text.
"""

import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from catdog.classifier import Classifier
from catdog.decode import DecodedImage
from catdog.transforms import to_model_input
from catdog_serving.model_archive import open_archive
from tests.support.images import decode_image, encode

SIZE = (4000, 3000)


def detailed(photo: Path, seed: int) -> bytes:
    chance = np.random.default_rng(seed)
    enlarged = Image.open(photo).convert("RGB").resize(SIZE, Image.Resampling.LANCZOS)
    levels = np.asarray(enlarged) + chance.normal(0, 12, (SIZE[1], SIZE[0], 3))
    image = Image.fromarray(levels.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)

    def place() -> tuple[int, int]:
        return int(chance.integers(SIZE[0])), int(chance.integers(SIZE[1]))

    def colour() -> tuple[int, ...]:
        return tuple(int(level) for level in chance.integers(0, 256, 3))

    for _ in range(150):
        x, y = place()
        dx, dy = (int(step) for step in chance.integers(-150, 150, 2))
        draw.line((x, y, x + dx, y + dy), colour(), width=int(chance.integers(1, 4)))
    font = ImageFont.load_default(size=28)
    for _ in range(60):
        draw.text(place(), "catdog 0123 catdog 0123", colour(), font=font)
    return encode(image, "JPEG", quality=92)


def test_scaled_decoding_changes_no_winner_and_halves_the_time(
    archive: Path, photos: list[Path]
) -> None:
    with open_archive(archive) as model_dir:
        classifier = Classifier.load(model_dir)
        full, scaled, full_s, scaled_s = [], [], 0.0, 0.0
        for seed, photo in enumerate(photos[::5]):
            content = detailed(photo, seed)
            start = time.perf_counter()
            image = decode_image(content, classifier.settings.limits)
            numbers = classifier.info.preprocessing
            full.append(to_model_input(DecodedImage(image, image.size), numbers))
            middle = time.perf_counter()
            scaled += classifier.preprocess([content])
            full_s += middle - start
            scaled_s += time.perf_counter() - middle
        expected = classifier.classify_inputs(full)
        found = classifier.classify_inputs(scaled)
        classifier.close()
    masses = np.array([[(p.cat, p.dog) for p in answers] for answers in (expected, found)])
    differences = np.abs(masses[0] - masses[1])
    print(
        f"\n{len(full)} JPEGs of 12 megapixels: mean difference of the masses "
        f"{differences.mean():.4f}, largest {differences.max():.4f}; time {scaled_s / full_s:.2f} "
        f"of full decoding ({full_s / len(full) * 1000:.0f} ms)"
    )
    assert (np.argmax(masses[0], axis=1) == np.argmax(masses[1], axis=1)).all()
    assert differences.mean() < 0.005
    assert scaled_s <= 0.5 * full_s
