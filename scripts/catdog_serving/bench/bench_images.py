"""The images that speed is measured with: made from the samples, or a folder of one's own."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from catdog.decode import Decoder, InvalidImage, Limits
from catdog_serving.errors import UsageError
from catdog_serving.folder.find_files import ImageFiles
from catdog_serving.sample_images import SAMPLES

COUNT = 48
LONG_SIDE = 500  # a web photo's size; decoding it costs a few ms of the network's hundred
JPEG_QUALITY = 90
_SMALLEST_CROP = 0.6  # of each side
_SEED = 500
_DECODER = Decoder(Limits(max_pixels=52_000_000, max_aspect_ratio=20))


def bench_images(folder: Path | None) -> list[bytes]:
    """The images of a folder, or else `sample_crops`."""
    return sample_crops() if folder is None else read_images(folder)


def sample_crops(count: int = COUNT) -> list[bytes]:
    """Different crops of the sample images as JPEGs, the same on every call."""
    generator = np.random.default_rng(_SEED)
    samples = [
        _DECODER.decode(path.read_bytes()).image
        for path in sorted(SAMPLES.iterdir())
        if path.suffix in (".png", ".jpg")
    ]
    return [_crop(samples[number % len(samples)], generator) for number in range(count)]


def read_images(folder: Path) -> list[bytes]:
    """A folder's images as they are.

    Raises:
        UsageError: If there is none, or one that the server would refuse: it would
            count as a failure of the server.
    """
    images = {path: path.read_bytes() for path in ImageFiles(folder)}
    if not images:
        raise UsageError(f"{folder} holds no images")
    for path, content in images.items():
        try:
            _DECODER.decode(content)
        except InvalidImage as invalid:
            raise UsageError(f"{path} cannot be measured with: {invalid}") from invalid
    return list(images.values())


def _crop(image: Image.Image, generator: np.random.Generator) -> bytes:
    share = generator.uniform(_SMALLEST_CROP, 1, 2)
    width, height = (int(side * part) for side, part in zip(image.size, share, strict=True))
    left = int(generator.integers(0, image.width - width + 1))
    top = int(generator.integers(0, image.height - height + 1))
    scale = LONG_SIDE / max(width, height)  # may enlarge
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    buffer = io.BytesIO()
    crop = image.crop((left, top, left + width, top + height))
    crop.resize(size, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()
