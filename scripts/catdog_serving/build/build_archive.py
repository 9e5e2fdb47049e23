"""Build a model archive from a network, weights and this code.

It is built beside its target, opened again and checked; only then does it take
the target's place. A failed build leaves the old archive untouched.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import catdog
from catdog.model_info import GOLDEN_FOLDER, RUNTIMES, Agreement, ModelInfo, check_runtime
from catdog.networks import get_network
from catdog.read_settings import SETTINGS_FILE, Settings
from catdog.results import MODEL_NAME
from catdog.transforms import Preprocessing
from catdog_serving.archive_copies import FIRST_DATE, keep_from_others, pack_folder
from catdog_serving.atomic_write import replace_file, scratch_folder
from catdog_serving.build.agreement import AgreementGate, LogitsOf
from catdog_serving.build.calibration import read_calibration_images, read_images_to_compare
from catdog_serving.build.verify import (
    CORE,
    HANDLER,
    HANDLER_FILES,
    code_sha256,
    other_than_code,
    verify_archive,
)
from catdog_serving.errors import NotReadyError, RefusedError, UsageError
from catdog_serving.extras import install_hint
from catdog_serving.sample_images import SAMPLES

if TYPE_CHECKING:
    from catdog_serving.build.weights import Weights

OnStep = Callable[[str], None]

AUTO = "auto"
_PRECISION_OF = {"onnx": "fp32", "torch": "fp16"}  # of AUTO

_REST_BYTES = 4_000_000  # code, settings, images and categories, twice


@dataclass(frozen=True)
class ArchiveSpec:
    """What `catdog package` was asked for.

    Attributes:
        network: A name in `NETWORKS`.
        weights: A published id, a path, "seeded", or None for the default.
        weights_url: A mirror to download from, or None.
        runtime: "onnx", "torch", or None for the one that knows the precision; where
            both do, torch if CUDA is present, else onnx.
        precision: One that the runtime knows, or "auto": fp16 for torch, whose rounding is
            finer than bf16's (docs/performance.md), else fp32.
        version: Stamped into the archive.
        settings: The model-config.yaml to pack.
        calibration: A folder of images, to calibrate int8 with, and to measure int8 and the
            CPUs' bf16 with.
        labelled: Another one, to measure bf16 with where there is no `calibration`.
        gate: What int8 and bf16 must reach on these images.

    Raises:
        ValueError: If there is no such network, runtime or precision, int8 has no
            calibration, or what is neither int8 nor a CPU's bf16 has one.
    """

    network: str
    weights: str | None
    weights_url: str | None
    runtime: str | None
    precision: str
    version: str
    settings: Path
    calibration: Path | None = None
    labelled: Path | None = None
    gate: AgreementGate = field(default_factory=AgreementGate)

    def __post_init__(self) -> None:
        get_network(self.network)
        check_runtime(self.runtime, "fp32" if self.precision == AUTO else self.precision)
        if self.precision == "int8" and self.calibration is None:
            raise ValueError(
                "int8 needs images to calibrate with and to measure: name a folder of them "
                "with --calibration, such as those that will be classified"
            )
        if self.calibration is not None and (
            self.precision not in ("int8", "bf16") or self.runtime == "torch"
        ):
            raise ValueError(
                "--calibration is for --precision int8 and a CPU's bf16 alone, and this is "
                f"{self.precision}{' of torch' if self.runtime == 'torch' else ''}"
            )


def build_archive(
    spec: ArchiveSpec,
    output: Path,
    *,
    insist: bool = False,
    gate: Callable[[Path], object] = lambda _: None,
    on_step: OnStep = lambda _: None,
    on_work: OnStep = lambda _: None,
) -> ModelInfo:
    """Build, verify, and put in place.

    Args:
        spec: What to build.
        output: The .mar to make or replace.
        insist: Let a network pass that does not know what its golden images show.
        gate: Gets the checked archive before it takes its place; raises to refuse it.
        on_step: Is told, for each golden image, what it shows and what it is called.
        on_work: Is given a line before each thing that takes a while.

    Returns:
        The new archive's facts.

    Raises:
        NotReadyError: If weights, tools or images to calibrate with are missing, or the disk
            is full or not to be written.
        RefusedError: If a setting is wrong, int8 is too far from float32, or the built
            archive fails its check or the gate's; `output` is untouched then.
        UsageError: If SOURCE_DATE_EPOCH is no date.
    """
    try:
        settings = Settings.read(spec.settings)  # a wrong one fails here and not in the worker
    except OSError as error:
        raise NotReadyError(f"there are no settings {spec.settings}; see --settings") from error
    except ValueError as error:
        raise RefusedError(str(error)) from error
    created = _created()
    with _scratch_beside(output) as scratch:
        staging, made = scratch / "model", scratch / "made"
        staging.mkdir()
        made.mkdir()
        info = _fill_model_dir(spec, settings, staging, on_work)
        on_work("packing the archive")
        archive = _run_archiver(spec, staging, made, created)
        keep_from_others(archive)
        on_work("checking the archive")
        verify_archive(archive, source=staging, insist=insist, on_step=on_step)
        gate(archive)
        replace_file(archive, output)
    return info


@contextmanager
def _scratch_beside(output: Path) -> Iterator[Path]:
    """A folder that goes at the end; what the disk refuses meanwhile is one clear error."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(output.parent) as scratch:
            yield scratch
    except shutil.Error as error:  # of many files that were copied: the first
        _, target, reason = error.args[0][0]
        raise NotReadyError(f"cannot make {output}: {target}: {reason}") from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise NotReadyError(f"cannot make {output}: {where}{error.strerror or error}") from error


def _check_room(weights: "Weights", folder: Path) -> None:
    """The network is on the disk twice before the archive takes its place."""
    size = sum(tensor.numel() * tensor.element_size() for tensor in weights.state.values())
    needed, free = 2 * size + _REST_BYTES, shutil.disk_usage(folder).free
    if free < needed:
        raise NotReadyError(
            f"{folder} has {free // 10**6} MB free, and packing needs about {needed // 10**6}"
        )


def _fill_model_dir(
    spec: ArchiveSpec, settings: Settings, model_dir: Path, on_work: OnStep
) -> ModelInfo:
    """Write everything that the archive holds, but for its manifest."""
    on_work(f"loading the weights of {spec.network}")
    try:
        from catdog_serving.build.export import build_module, eager_logits, export
        from catdog_serving.build.golden_images import GOLDEN_SHOWS, golden_images
        from catdog_serving.build.weights import find_weights
    except ImportError as error:
        raise NotReadyError(
            f"packaging needs {error.name}; run: {install_hint('serve')}"
        ) from error

    weights = find_weights(get_network(spec.network), spec.weights, spec.weights_url, on_work)
    _check_room(weights, model_dir)
    shutil.copytree(CORE, model_dir / CORE.name, ignore=other_than_code)
    for source in HANDLER_FILES:
        shutil.copy(source, model_dir)
    shutil.copy(spec.settings, model_dir / SETTINGS_FILE)
    (model_dir / GOLDEN_FOLDER).mkdir()
    for name in GOLDEN_SHOWS:
        shutil.copy(SAMPLES / name, model_dir / GOLDEN_FOLDER)

    module = build_module(weights)
    runtime = spec.runtime or ("onnx" if spec.calibration else _best_runtime(spec.precision))
    precision = _PRECISION_OF[runtime] if spec.precision == AUTO else spec.precision
    logits_of: LogitsOf = partial(eager_logits, module)
    agreement = None
    on_work("exporting the network")
    if precision == "int8" and spec.calibration:
        from catdog_serving.build import quantise  # needs ONNX Runtime, which no GPU machine does

        images = read_calibration_images(spec.calibration, weights.preprocessing, settings.limits)
        logits_of, agreement = quantise.export_int8(module, weights, images, model_dir, on_work)
        spec.gate.check(agreement, precision)
    else:
        export(module, weights, runtime, model_dir)
    if (runtime, precision) == ("onnx", "bf16"):
        on_work("comparing bf16 with float32")
        agreement = _bf16_agreement(spec, settings, weights.preprocessing, logits_of, model_dir)
    info = ModelInfo(
        network=weights.network.name,
        weights=weights.id,
        weights_sha256=weights.sha256,
        untrained=weights.untrained,
        runtime=runtime,
        precision=precision,
        preprocessing=weights.preprocessing,
        categories=weights.categories,
        golden=golden_images(logits_of, weights.preprocessing),
        catdog_version=catdog.__version__,
        code_sha256=code_sha256(model_dir),
        agreement=agreement,
    )
    info.write(model_dir)
    return info


def _bf16_agreement(
    spec: ArchiveSpec,
    settings: Settings,
    preprocessing: Preprocessing,
    float32: LogitsOf,
    model_dir: Path,
) -> Agreement | None:
    """How bf16 agrees with float32: on the images that were named, else on the golden ones.

    Two golden images say too little for the gate; what they get is checked with the archive.
    """
    from catdog_serving.build.bf16 import bf16_agreement
    from catdog_serving.build.golden_images import golden_pixels

    folder = spec.calibration or spec.labelled
    if folder is None:
        return bf16_agreement(model_dir, float32, golden_pixels(preprocessing))
    pixels = read_images_to_compare(folder, preprocessing, settings.limits)
    agreement = bf16_agreement(model_dir, float32, pixels)
    if agreement:
        spec.gate.check(agreement, "bf16")
    return agreement


def _best_runtime(precision: str) -> str:
    """Of the runtimes that know the precision: torch if CUDA is present, else onnx."""
    import torch

    order = ("torch", "onnx") if torch.cuda.is_available() else ("onnx", "torch")
    return next(name for name in order if precision in (*RUNTIMES[name], AUTO))


def _run_archiver(spec: ArchiveSpec, model_dir: Path, made: Path, created: datetime) -> Path:
    """Pack a model directory with torch-model-archiver."""
    command = [
        sys.executable,
        *("-m", "model_archiver.model_packaging"),
        *("--model-name", MODEL_NAME),
        *("--version", spec.version),
        *("--handler", str(model_dir / HANDLER.name)),
        *("--extra-files", str(model_dir)),
        *("--config-file", str(model_dir / SETTINGS_FILE)),
        *("--archive-format", "no-archive"),  # its zip has times, and the directory's order
        *("--export-path", str(made)),
    ]
    # The archiver clears $TMPDIR/catdog, so it gets a TMPDIR of its own.
    temporary = made / "tmp"
    temporary.mkdir()
    environment = os.environ | {"TMPDIR": str(temporary)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    packed = made / MODEL_NAME
    if result.returncode != 0 or not packed.is_dir():
        last = (result.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise RefusedError(f"torch-model-archiver failed with {result.returncode}: {last[-500:]}")
    archive = made / f"{MODEL_NAME}.mar"
    pack_folder(packed, archive, spec.version, created=created)
    return archive


def _created() -> datetime:
    """The date that an archive has: SOURCE_DATE_EPOCH's, else the first of ZIP files.

    Raises:
        UsageError: If it is no number of seconds.
    """
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return FIRST_DATE
    try:
        return datetime.fromtimestamp(int(text), UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(f"SOURCE_DATE_EPOCH={text}: it takes seconds since 1970") from error
