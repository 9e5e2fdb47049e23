"""What speed is measured with: images, and the archives, built once and cached.

The images are crops of the samples, or a folder of one's own. Speed does not depend on
the weights, so the seeded ones do where none can be downloaded, and the bench is the
same everywhere. Archives are built anew when the code that makes them changes.
"""

import hashlib
import io
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from catdog.decode import Decoder, Limits
from catdog.engines.placement import has_bf16
from catdog.invalid_image import InvalidImage
from catdog_serving.atomic_write import atomic_write
from catdog_serving.bench.machine import versions
from catdog_serving.build.agreement import AgreementGate
from catdog_serving.build.build_archive import AUTO, ArchiveSpec, build_archive
from catdog_serving.build.verify import CORE, code_sha256
from catdog_serving.errors import NotReadyError, UsageError
from catdog_serving.extras import install_hint
from catdog_serving.find_images import ImageFiles
from catdog_serving.sample_images import SAMPLES

CROPS = 48
LONG_SIDE = 500  # a web photo's size; decoding it costs a few ms of the network's hundred

_SMALLEST_CROP = 0.6  # of each side
_BUILD = Path(__file__).parents[1] / "build"
_STATE = "reference.pth"


def sample_crops() -> list[bytes]:
    """48 different crops of the sample images as JPEGs, the same on every call."""
    generator = np.random.default_rng(500)
    paths = sorted(path for path in SAMPLES.iterdir() if path.suffix in (".png", ".jpg"))
    samples = [Image.open(path).convert("RGB") for path in paths]
    return [_crop(samples[number % len(samples)], generator) for number in range(CROPS)]


def _crop(image: Image.Image, generator: np.random.Generator) -> bytes:
    share = generator.uniform(_SMALLEST_CROP, 1, 2)
    width, height = (int(side * part) for side, part in zip(image.size, share, strict=True))
    left = int(generator.integers(0, image.width - width + 1))
    top = int(generator.integers(0, image.height - height + 1))
    scale = LONG_SIDE / max(width, height)  # may enlarge
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    buffer = io.BytesIO()
    crop = image.crop((left, top, left + width, top + height))
    crop.resize(size, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=90, comment="")
    return buffer.getvalue()


def read_images(folder: Path, limits: Limits) -> list[bytes]:
    """A folder's images as they are.

    Args:
        folder: Searched with its subfolders.
        limits: Those of the archive that is measured.

    Raises:
        UsageError: If there is none, or one that the server would refuse: it would
            count as a failure of the server.
    """
    images = {path: path.read_bytes() for path in ImageFiles(folder)}
    if not images:
        raise UsageError(f"{folder} holds no images")
    decoder = Decoder(limits)
    for path, content in images.items():
        try:
            decoder.decode(content)
        except InvalidImage as invalid:
            raise UsageError(f"{path} cannot be measured with: {invalid}") from invalid
    return list(images.values())


@dataclass(frozen=True)
class Subject:
    """What is measured.

    Attributes:
        network: A name in `NETWORKS`.
        weights: As `ArchiveSpec.weights`.
        settings: The model-config.yaml to pack.
    """

    network: str
    weights: str | None
    settings: Path

    def key(self) -> str:
        """Changes with the packed code, the way archives are built, the settings and versions."""
        digest = hashlib.sha256(code_sha256(CORE.parent).encode())
        for path in (*sorted(_BUILD.glob("*.py")), self.settings):
            digest.update(path.read_bytes())
        digest.update(repr((self.weights, sorted(versions().items()))).encode())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class BenchFiles:
    """Where the built files are.

    Attributes:
        archives: Precision to archive.
        state: The same weights for the reference loop.
    """

    archives: dict[str, Path]
    state: Path


def default_cache() -> Path:
    """$XDG_CACHE_HOME/catdog/bench, else below ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "catdog" / "bench"


def bench_files(
    subject: Subject, cache: Path, on_step: Callable[[str], None] = lambda _: None
) -> BenchFiles:
    """Find the files in the cache, or build those that are missing.

    Args:
        subject: What to measure.
        cache: Holds one folder per network; those of older code are deleted.
        on_step: Is given a line before each file is built.

    Raises:
        NotReadyError: If something to build or to measure with is missing.
        RefusedError: If an archive fails its check.
    """
    if find_spec("torch") is None:
        raise NotReadyError(f"the bench needs torch; run: {install_hint('serve')}")
    folder = _folder_of(subject, cache)
    precisions = ("fp32", "bf16", "int8") if has_bf16() else ("fp32", "int8")
    archives = {precision: folder / f"{precision}.mar" for precision in precisions}
    for precision, archive in archives.items():
        if not archive.is_file():
            on_step(f"building {subject.network} {precision}, once")
            calibration = _calibration(folder) if precision == "int8" else None
            build_archive(_spec(subject, "onnx", precision, calibration), archive)
    state = folder / _STATE
    if not state.is_file():
        on_step("saving the weights for the reference loop, once")
        save_state(subject, state)
    return BenchFiles(archives, state)


def _folder_of(subject: Subject, cache: Path) -> Path:
    """Where its files are, or will be; those of older code are deleted."""
    folder = cache / f"{subject.network}-{subject.key()}"
    for outdated in set(cache.glob(f"{subject.network}-*")) - {folder}:
        shutil.rmtree(outdated)
    return folder


def gpu_archive(
    subject: Subject, cache: Path, on_step: Callable[[str], None] = lambda _: None
) -> Path:
    """The subject's archive for GPUs, in the cache or built; see `bench_files`."""
    archive = _folder_of(subject, cache) / "gpu.mar"
    if not archive.is_file():
        on_step(f"building {subject.network} for GPUs, once")
        build_archive(_spec(subject, "torch", AUTO), archive)
    return archive


def _calibration(folder: Path) -> Path:
    """Crops of the samples, to calibrate int8 with."""
    calibration = folder / "calibration"
    calibration.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(sample_crops()):
        (calibration / f"{number:03}.jpg").write_bytes(image)
    return calibration


def _spec(
    subject: Subject, runtime: str, precision: str, calibration: Path | None = None
) -> ArchiveSpec:
    """What to build.

    The crops are too few kinds of images to judge int8's accuracy, and seeded weights have none,
    so every agreement passes.
    """
    return ArchiveSpec(
        network=subject.network,
        weights=subject.weights,
        weights_url=None,
        runtime=runtime,
        precision=precision,
        version="1.0",
        settings=subject.settings,
        calibration=calibration,
        gate=AgreementGate(min_same_winner=0, max_mean_difference=1),
    )


def save_state(subject: Subject, path: Path) -> None:
    """Write the subject's weights as the reference loop reads them.

    Raises:
        NotReadyError: If they cannot be had.
    """
    import torch

    from catdog.networks import get_network
    from catdog_serving.build.weights import find_weights

    weights = find_weights(get_network(subject.network), subject.weights)
    buffer = io.BytesIO()
    torch.save(dict(weights.state), buffer)
    atomic_write(path, [buffer.getvalue()])
