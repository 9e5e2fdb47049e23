"""What several commands share: the console, and the options that they have in common."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from catdog_serving.operate.serving_config import default_config

console = Console()


class BackendName(StrEnum):
    http = "http"
    local = "local"


ConfigOption = Annotated[
    Path,
    typer.Option(
        "--config",
        default_factory=default_config,
        show_default=False,
        help="The config.properties to use (default: config/config.properties).",
    ),
]
BackendOption = Annotated[
    BackendName, typer.Option("--backend", help="http asks the server; local runs the archive.")
]
ArchiveOption = Annotated[
    Path | None, typer.Option("--archive", help="For local (default: model-store/catdog.mar).")
]
UrlOption = Annotated[
    str | None,
    typer.Option("--url", envvar="CATDOG_URL", help="For http (default: from --config)."),
]
JobsOption = Annotated[
    int | None,
    typer.Option(
        "--jobs", min=1, help="For http: requests under way (default: 2 x workers x batchSize)."
    ),
]
