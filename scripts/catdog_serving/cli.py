"""The command `catdog`: every command parses, calls one function, prints."""

import os
import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from catdog_serving.build.agreement import AgreementGate
from catdog_serving.errors import CatDogError, NotReadyError
from catdog_serving.operate.serving_config import default_config

app = typer.Typer(
    help="Cats from dogs in pictures, in production.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
console = Console()


class Runtime(StrEnum):
    onnx = "onnx"
    torch = "torch"


class BackendName(StrEnum):
    http = "http"
    local = "local"


class Format(StrEnum):
    table = "table"
    json = "json"


ConfigOption = Annotated[
    Path,
    typer.Option(
        "--config",
        default_factory=default_config,
        show_default=False,
        help="The config.properties to use (default: config/config.properties).",
    ),
]


@app.command()
def package(
    config: ConfigOption,
    network: Annotated[str, typer.Option(help="resnet152 or efficientnet_lite0.")] = "resnet152",
    weights: Annotated[
        str | None,
        typer.Option(help="A published id, the path of a .pth file, or 'seeded' (untrained)."),
    ] = None,
    weights_url: Annotated[
        str | None,
        typer.Option(envvar="CATDOG_WEIGHTS_URL", help="Download from this mirror instead."),
    ] = None,
    runtime: Annotated[
        Runtime | None,
        typer.Option(
            help="Default: torch where CUDA is present, else onnx, if it knows the precision."
        ),
    ] = None,
    precision: Annotated[
        str, typer.Option(help="onnx: fp32, int8; torch: fp32, bf16, fp16.")
    ] = "fp32",
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="For int8: pictures like those to classify, 20 or more, better 200.",
        ),
    ] = None,
    min_same_winner: Annotated[
        float,
        typer.Option(help="For int8: refuse if fewer of DIR's pictures have fp32's winner."),
    ] = AgreementGate.min_same_winner,
    max_mean_difference: Annotated[
        float, typer.Option(help="For int8: refuse if masses are farther from fp32's on average.")
    ] = AgreementGate.max_mean_difference,
    version: Annotated[str, typer.Option(help="Stamped into the archive.")] = "1.0",
    settings: Annotated[
        Path | None, typer.Option(help="The model-config.yaml to pack (default: beside --config).")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="The archive to make (default: model-store/catdog.mar).")
    ] = None,
) -> None:
    """Build and check the model archive."""
    from catdog_serving.build.archive import ArchiveSpec, build_archive
    from catdog_serving.model_archive import file_sha256
    from catdog_serving.operate.serving_config import ServingConfig

    target = output or ServingConfig.read(config).archive
    try:
        spec = ArchiveSpec(
            network=network,
            weights=weights,
            weights_url=weights_url,
            runtime=runtime,
            precision=precision,
            version=version,
            settings=settings or config.parent / "model-config.yaml",
            calibration=calibration,
            gate=AgreementGate(min_same_winner, max_mean_difference),
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    with console.status(f"packaging {network} ..."):
        info = build_archive(spec, target)
    untrained = " [yellow](untrained: its answers mean nothing)[/]" if info.untrained else ""
    console.print(
        f"packed  {info.network} {info.weights}{untrained}, {info.runtime} {info.precision}"
    )
    if info.agreement:
        console.print(f"int8    {info.agreement}", highlight=False, soft_wrap=True)
    console.print(f"into    {target}, version {version}", highlight=False, soft_wrap=True)
    console.print(f"SHA-256 {file_sha256(target)}", highlight=False, soft_wrap=True)


@app.command()
def serve(
    config: ConfigOption,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay until the server ends; Ctrl-C stops it.")
    ] = False,
) -> None:
    """Start the server and wait until it is ready."""
    from catdog_serving.operate.server import TorchServe
    from catdog_serving.operate.serving_config import ServingConfig

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a start is undone
    server = TorchServe(ServingConfig.read(config))
    if server.is_running() and not foreground:
        console.print("the server runs already")
        if server.archive_is_newer():
            console.print("with an older archive; to load the new one: catdog stop && catdog serve")
    else:
        with console.status("starting TorchServe ..."):
            server.start()
    _print_ready(server)
    if foreground:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: server.terminate())
        server.wait()


@app.command()
def stop(config: ConfigOption) -> None:
    """Stop the server; nothing of it stays behind."""
    from catdog_serving.operate.server import TorchServe
    from catdog_serving.operate.serving_config import ServingConfig

    was_running = TorchServe(ServingConfig.read(config)).stop()
    console.print("stopped" if was_running else "no server was running")


@app.command()
def status(
    config: ConfigOption,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show models, versions, workers and queue; exit 0 only when a worker is READY."""
    from catdog_serving.operate.server import TorchServe
    from catdog_serving.operate.serving_config import ServingConfig
    from catdog_serving.operate.status import print_status

    found = TorchServe(ServingConfig.read(config)).status()
    if as_json:
        console.print_json(data=found.to_dict())
    else:
        print_status(found, console)
    if not found.is_ready:
        why = f"; the last one failed: {found.failure}" if found.failure else ""
        raise NotReadyError(f"no worker is READY{why}")


@app.command()
def classify(
    config: ConfigOption,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Pictures and folders.")],
    backend: Annotated[
        BackendName, typer.Option(help="http asks the server; local runs the archive here.")
    ] = BackendName.http,
    archive: Annotated[
        Path | None, typer.Option(help="For local (default: model-store/catdog.mar).")
    ] = None,
    url: Annotated[
        str | None, typer.Option(envvar="CATDOG_URL", help="For http (default: from --config).")
    ] = None,
    output_format: Annotated[Format, typer.Option("--format")] = Format.table,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Requests under way (default: 2 x workers x batchSize)."),
    ] = None,
) -> None:
    """Classify pictures and folders: cat, dog or neither, the breed, and the means."""
    from catdog_serving.folder.open_backend import open_backend
    from catdog_serving.folder.process import process_folder
    from catdog_serving.folder.report import print_table, to_json

    results: list[Any] = []
    with open_backend(backend, config, archive, url, jobs) as opened:
        reports = [process_folder(path, opened, results.append) for path in paths]
    if output_format is Format.json:
        sys.stdout.write(to_json(results, reports) + "\n")
    else:
        print_table(results, reports, console)
    if any(report.failed for report in reports):
        raise typer.Exit(1)


def _print_ready(server: Any) -> None:
    from catdog_serving import sample_pictures
    from catdog_serving.model_archive import file_sha256
    from catdog_serving.operate.status import curl_line, print_status

    print_status(server.status(), console)
    archive = server.config.archive
    console.print(f"archive  SHA-256 {file_sha256(archive)}", highlight=False, soft_wrap=True)
    key_file = str(server.run.key_file) if server.run.key_file.is_file() else None
    if key_file:
        console.print(f"tokens   needed; the keys are in {key_file}", highlight=False)
    picture = os.path.relpath(sample_pictures.CAT)
    console.print(
        f"try      {curl_line(server.config, key_file, picture)}", highlight=False, soft_wrap=True
    )


def main() -> None:
    """Run the command line; errors that catdog knows end it in one line."""
    try:
        app()
    except CatDogError as error:
        sys.stderr.write(f"catdog: {error}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
