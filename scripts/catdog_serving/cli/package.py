"""catdog package."""

from collections.abc import Callable
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated

import typer

from catdog_serving.build.agreement import AgreementGate
from catdog_serving.build.bf16 import LEAST_GAIN, bf16_gain
from catdog_serving.build.build_archive import ArchiveSpec, build_archive
from catdog_serving.cli.gate import (
    MIN_ACCURACY,
    EvaluateOption,
    MinAccuracyOption,
    accuracy_gate,
)
from catdog_serving.cli.options import (
    ConfigOption,
    InsistOption,
    print_line,
    progress,
)
from catdog_serving.errors import CatDogError, NotReadyError, RefusedError, UsageError
from catdog_serving.find_images import ImageFiles, check_not_read
from catdog_serving.model_archive import archive_facts, file_sha256
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.serving_config import ServingConfig


class Runtime(StrEnum):
    onnx = "onnx"
    torch = "torch"


def package(
    config: ConfigOption,
    network: Annotated[
        str, typer.Option(metavar="NAME", help="resnet152 or efficientnet_lite0.")
    ] = "resnet152",
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="WEIGHTS",
            help="A published id, the path of a .pth file, or 'seeded' (untrained).",
        ),
    ] = None,
    weights_url: Annotated[
        str | None,
        typer.Option(
            envvar="CATDOG_WEIGHTS_URL", metavar="URL", help="Download from this mirror instead."
        ),
    ] = None,
    runtime: Annotated[
        Runtime | None,
        typer.Option(
            help="Default: torch where CUDA is present, else onnx, if it knows the precision."
        ),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="onnx: fp32, bf16, int8; torch: fp32, bf16, fp16; auto: fp32, torch's fp16.",
        ),
    ] = "fp32",
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            exists=True,
            file_okay=False,
            help="For int8, and to measure bf16: images like those to classify, better 200.",
        ),
    ] = None,
    min_same_winner: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            help="For int8, bf16: refuse if fewer of --calibration's images have fp32's winner.",
        ),
    ] = AgreementGate.min_same_winner,
    max_mean_difference: Annotated[
        float,
        typer.Option(
            metavar="NUMBER",
            help="For int8, bf16: refuse if cat and dog are farther from fp32's, on average.",
        ),
    ] = AgreementGate.max_mean_difference,
    version: Annotated[
        str, typer.Option(metavar="VERSION", help="Stamped into the archive.")
    ] = "1.0",
    settings: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The model-config.yaml to pack (default: beside --config)."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The archive to make (default: model-store/catdog.mar)."),
    ] = None,
    insist: InsistOption = False,
    evaluate: EvaluateOption = None,
    min_accuracy: MinAccuracyOption = MIN_ACCURACY,
) -> None:
    """Build and check the model archive."""
    serving = cache(lambda: ServingConfig.read(config))  # at most once, and only if it is needed
    target = output or serving().archive
    try:
        spec = ArchiveSpec(
            network=network,
            weights=weights,
            weights_url=weights_url,
            runtime=runtime,
            precision=precision,
            version=version,
            settings=settings or serving().model_settings,
            calibration=calibration,
            labelled=evaluate,
            gate=AgreementGate(min_same_winner, max_mean_difference),
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    sources = [ImageFiles(calibration)] if calibration else []
    check_not_read([target], sources, (config, spec.settings, Path(weights or "")))
    if output:
        _check_own(output)
    else:
        _say_replaced(TorchServe(serving()))
    gate = accuracy_gate(evaluate, min_accuracy)
    with progress() as on_work:
        info = build_archive(
            spec, target, insist=insist, gate=gate, on_step=print_line, on_work=on_work
        )
        gain = _gain(target, on_work)
    print_line(f"packed  {info.model.name}, {info.runtime} {info.precision}")
    if info.agreement:
        print_line(f"{info.precision:<7} {info.agreement}")
    elif (info.runtime, info.precision) == ("onnx", "bf16"):
        print_line("bf16    not computed on this machine, and so not compared with fp32")
    print_line(f"into    {target}, version {version}")
    print_line(f"SHA-256 {file_sha256(target)}")
    if gain and gain >= LEAST_GAIN:
        print_line(
            f"hint    this processor computes bf16 {gain:.1f} times as fast: --precision bf16"
        )


def _say_replaced(server: TorchServe) -> None:
    """That an archive is in the place of the new one, and who serves it."""
    archive = server.config.archive
    if not archive.is_file():
        return
    until = " The server that runs keeps it until: catdog restart." if server.is_running() else ""
    print_line(
        f"note    {archive} is replaced when the new one is ready.{until} To have both: "
        f"catdog package --output {archive.with_name('new.mar')}, then catdog deploy it"
    )


def _gain(archive: Path, on_work: Callable[[str], None]) -> float | None:
    """For a hint; the archive is made, whatever comes of it."""
    try:
        return bf16_gain(archive, on_work)
    except (CatDogError, ImportError, OSError):
        return None


def _check_own(output: Path) -> None:
    """Refuse to replace what is no archive; in the default place a torn one may lie."""
    if output.is_dir():
        raise UsageError(f"{output} is a folder; name a file in it, such as {output / 'new.mar'}")
    try:
        if output.exists() and output.stat().st_size:
            archive_facts(output)
    except NotReadyError as error:
        raise RefusedError(
            f"{output} is there, and is no archive of catdog; choose another name, or delete it"
        ) from error
    except OSError as error:
        raise NotReadyError(f"cannot make {output}: {error.strerror or error}") from error
