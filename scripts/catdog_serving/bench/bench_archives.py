"""The archives that are measured: built once, cached, built anew when the code changes.

Speed does not depend on the weights, so the seeded ones do where none can be
downloaded, and the bench is the same everywhere.
"""

import hashlib
import io
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from catdog_serving.atomic_write import atomic_write
from catdog_serving.bench.bench_images import sample_crops
from catdog_serving.bench.machine import versions
from catdog_serving.build.agreement import AgreementGate
from catdog_serving.build.build_archive import ArchiveSpec, build_archive
from catdog_serving.build.verify import CORE, code_sha256
from catdog_serving.errors import NotReadyError
from catdog_serving.extras import install_hint

PRECISIONS = ("fp32", "int8")
_BUILD = Path(__file__).parents[1] / "build"
_STATE = "reference.pth"


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
        NotReadyError: If something to build with is missing.
        RefusedError: If an archive fails its check.
    """
    folder = cache / f"{subject.network}-{subject.key()}"
    for outdated in set(cache.glob(f"{subject.network}-*")) - {folder}:
        shutil.rmtree(outdated)
    archives = {precision: folder / f"{precision}.mar" for precision in PRECISIONS}
    for precision, archive in archives.items():
        if not archive.is_file():
            on_step(f"building {subject.network} {precision}, once")
            build_archive(_spec(subject, precision, folder), archive)
    state = folder / _STATE
    if not state.is_file():
        on_step("saving the weights for the reference loop, once")
        save_state(subject, state)
    return BenchFiles(archives, state)


def _spec(subject: Subject, precision: str, folder: Path) -> ArchiveSpec:
    """What to build; int8 is calibrated, and compared with fp32, on crops of the samples.

    They are too few kinds of images to judge its accuracy, and seeded weights have
    none, so every agreement passes.
    """
    is_int8 = precision == "int8"
    return ArchiveSpec(
        network=subject.network,
        weights=subject.weights,
        weights_url=None,
        runtime="onnx",
        precision=precision,
        version="1.0",
        settings=subject.settings,
        calibration=_calibration(folder) if is_int8 else None,
        gate=AgreementGate(min_same_winner=0, max_mean_difference=1),
    )


def _calibration(folder: Path) -> Path:
    """A folder of images to calibrate with, below `folder`."""
    images = folder / "calibration"
    images.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(sample_crops()):
        (images / f"{number:03}.jpg").write_bytes(image)
    return images


def save_state(subject: Subject, path: Path) -> None:
    """Write the subject's weights as the reference loop reads them.

    Raises:
        NotReadyError: If they cannot be had.
    """
    try:
        import torch

        from catdog.networks import get_network
        from catdog_serving.build.weights import find_weights
    except ImportError as error:
        raise NotReadyError(
            f"the reference loop needs {error.name}; run: {install_hint('serve')}"
        ) from error
    weights = find_weights(get_network(subject.network), subject.weights)
    buffer = io.BytesIO()
    torch.save(dict(weights.state), buffer)
    atomic_write(path, [buffer.getvalue()])
