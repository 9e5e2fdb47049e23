"""Build a model archive from a network, weights and this code.

It is built beside its target, opened again and checked; only then does it take
the target's place. A failed build leaves the old archive untouched.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import catdog
from catdog.model_info import ModelInfo, check_runtime
from catdog.networks import get_network
from catdog.settings import SETTINGS_FILE, Settings
from catdog_serving.build.verify import CORE, HANDLER, TELEMETRY, code_sha256, verify_archive
from catdog_serving.errors import NotReadyError, RefusedError
from catdog_serving.model_archive import MODEL_NAME
from catdog_serving.sample_pictures import SAMPLES


@dataclass(frozen=True)
class ArchiveSpec:
    """What `catdog package` was asked for.

    Attributes:
        network: A name in `NETWORKS`.
        weights: A published id, a path, "seeded", or None for the default.
        weights_url: A mirror to download from, or None.
        runtime: "onnx", "torch", or None for torch where CUDA is present, else onnx.
        precision: One that the runtime knows.
        version: Stamped into the archive.
        settings: The model-config.yaml to pack.

    Raises:
        ValueError: If there is no such network, runtime or precision.
    """

    network: str
    weights: str | None
    weights_url: str | None
    runtime: str | None
    precision: str
    version: str
    settings: Path

    def __post_init__(self) -> None:
        get_network(self.network)
        if self.runtime is not None:
            check_runtime(self.runtime, self.precision)


def build_archive(spec: ArchiveSpec, output: Path) -> ModelInfo:
    """Build, verify, and put in place.

    Args:
        spec: What to build.
        output: The .mar to make or replace.

    Returns:
        The new archive's facts.

    Raises:
        NotReadyError: If weights or tools are missing.
        RefusedError: If a setting is wrong or the built archive fails its check;
            `output` is untouched then.
    """
    try:
        Settings.read(spec.settings)  # a wrong setting fails here and not in the worker
    except FileNotFoundError as error:
        raise NotReadyError(f"there are no settings {spec.settings}; see --settings") from error
    except ValueError as error:
        raise RefusedError(str(error)) from error
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".catdog-build-", dir=output.parent) as scratch:
        staging, made = Path(scratch, "model"), Path(scratch, "made")
        staging.mkdir()
        made.mkdir()
        info = _fill_model_dir(spec, staging)
        archive = _run_archiver(spec, staging, made)
        verify_archive(archive, source=staging)
        os.replace(archive, output)
    return info


def _fill_model_dir(spec: ArchiveSpec, model_dir: Path) -> ModelInfo:
    """Write everything that the archive holds, but for its manifest."""
    try:
        import torch

        from catdog_serving.build import golden
        from catdog_serving.build.export import build_module, export
        from catdog_serving.build.weights import find_weights
    except ImportError as error:
        raise NotReadyError(
            f"packaging needs {error.name}; run: pip install 'catdog[serve]'"
        ) from error

    weights = find_weights(get_network(spec.network), spec.weights, spec.weights_url)
    runtime = spec.runtime or ("torch" if torch.cuda.is_available() else "onnx")
    shutil.copytree(CORE, model_dir / CORE.name, ignore=shutil.ignore_patterns("__pycache__"))
    for source in (HANDLER, TELEMETRY):
        shutil.copy(source, model_dir)
    shutil.copy(spec.settings, model_dir / SETTINGS_FILE)
    (model_dir / golden.GOLDEN_FOLDER).mkdir()
    for name in golden.GOLDEN_NAMES:
        shutil.copy(SAMPLES / name, model_dir / golden.GOLDEN_FOLDER)

    module = build_module(weights)
    info = ModelInfo(
        network=weights.network.name,
        weights=weights.id,
        weights_sha256=weights.sha256,
        untrained=weights.untrained,
        runtime=runtime,
        precision=spec.precision,
        preprocessing=weights.preprocessing,
        categories=weights.categories,
        golden=golden.golden_pictures(module, weights),
        catdog_version=catdog.__version__,
        code_sha256=code_sha256(model_dir),
    )
    export(module, weights, runtime, model_dir)
    info.write(model_dir)
    return info


def _run_archiver(spec: ArchiveSpec, model_dir: Path, made: Path) -> Path:
    """Pack a model directory with torch-model-archiver."""
    command = [
        sys.executable,
        *("-m", "model_archiver.model_packaging"),
        *("--model-name", MODEL_NAME),
        *("--version", spec.version),
        *("--handler", str(model_dir / HANDLER.name)),
        *("--extra-files", str(model_dir)),
        *("--config-file", str(model_dir / SETTINGS_FILE)),
        *("--archive-format", "zip-store"),  # weights do not compress; storing is 10 x faster
        *("--export-path", str(made)),
    ]
    # The archiver clears $TMPDIR/catdog, so it gets a TMPDIR of its own.
    environment = os.environ | {"TMPDIR": str(made)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    archive = made / f"{MODEL_NAME}.mar"
    if result.returncode != 0 or not archive.is_file():
        raise RefusedError(
            f"torch-model-archiver failed with {result.returncode}: {result.stderr.strip()[-500:]}"
        )
    return archive
