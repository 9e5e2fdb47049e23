"""What several commands have in common: their options, and where they write."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from catdog_serving.config_folder import default_config
from catdog_serving.errors import NotReadyError, UsageError
from catdog_serving.printable import printable, printable_lines
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.serving_config import ServingConfig


class _Console(Console):
    """Shows no control characters; leaves it to the command line what a broken pipe means."""

    def on_broken_pipe(self) -> None:
        raise

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            text = segment.text
            if segment.control or text == "\n" or text.isprintable():
                yield segment
            else:
                yield Segment(printable_lines(text), segment.style)


console = _Console()  # standard output
errors = _Console(stderr=True)
beside_results = _Console(stderr=True)  # a result, where standard output holds another


def be_quiet(quiet: bool, *, also_on_stdout: bool) -> None:
    """Show steps and progress, or only results and errors.

    Args:
        quiet: Which of the two.
        also_on_stdout: Whether what a command prints on standard output is none of its results.
    """
    errors.quiet = quiet
    console.quiet = quiet and also_on_stdout


class BackendName(StrEnum):
    http = "http"
    local = "local"


class FolderBackendName(StrEnum):
    http = "http"
    local = "local"
    ray = "ray"


def _read_token(path: str) -> str:
    try:
        token = Path(path).expanduser().read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--token-file: cannot read {path}: {error}") from error
    if not token or not token.isprintable() or " " in token:
        raise UsageError(f"--token-file: {path} holds no key, which is one word")
    return token


ConfigOption = Annotated[
    Path,
    typer.Option(
        "--config",
        default_factory=default_config,
        show_default=False,
        metavar="FILE",
        help="The config.properties to use (default: $CATDOG_CONFIG, else "
        "config/config.properties).",
    ),
]
BackendOption = Annotated[
    BackendName, typer.Option("--backend", help="http asks the server; local runs the archive.")
]
FolderBackendOption = Annotated[
    FolderBackendName,
    typer.Option(
        "--backend", help="http asks the server; local runs the archive, ray on many machines."
    ),
]
ArchiveOption = Annotated[
    Path | None,
    typer.Option(
        "--archive", metavar="FILE", help="For local and ray (default: model-store/catdog.mar)."
    ),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        help="For ray: a cluster, or auto (default: a Ray on this machine).",
    ),
]
UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url", envvar="CATDOG_URL", metavar="URL", help="For http (default: from --config)."
    ),
]
TokenOption = Annotated[
    str | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        parser=_read_token,
        help="Holds the key that --url wants; or set CATDOG_URL and CATDOG_TOKEN.",
    ),
]
JobsOption = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        min=1,
        metavar="N",
        help="For http: requests under way (default: 2 x workers x batchSize); "
        "for ray: actors (default: one per CPU, or per GPU).",
    ),
]
ImagesOption = Annotated[
    Path | None,
    typer.Option("--pictures", metavar="FOLDER", help="Yours (default: crops of the samples)."),
]
ExcludeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        metavar="PATTERN",
        help="Pass over files and folders that match, such as 'thumbs'; may be repeated.",
    ),
]
BomOption = Annotated[
    bool,
    typer.Option("--bom", help="Begin CSV with a byte order mark; Excel needs it to read UTF-8."),
]
ReadyOption = Annotated[
    float,
    typer.Option(
        "--timeout-s", min=1, metavar="SECONDS", help="Longest wait for workers to get READY."
    ),
]
WatchOption = Annotated[
    float,
    typer.Option(
        "--watch-s",
        min=0,
        metavar="SECONDS",
        help="How long to watch the new version before the old one goes.",
    ),
]
InsistOption = Annotated[
    bool,
    typer.Option("--insist", help="Take weights that do not know what the golden images show."),
]


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Say what is going on, on standard error."""
    with errors.status("starting") as status:

        def on_step(line: str) -> None:
            if errors.is_terminal:
                status.update(Text(printable(line)))
            else:
                print_line(line, errors)

        yield on_step


def configured_server(config: Path) -> TorchServe:
    """The server of a configuration."""
    return TorchServe(ServingConfig.read(config))


def files_of_server(config: Path, archive: Path | None) -> tuple[Path, ...]:
    """The configuration, and the archive that is named or served: no output replaces them."""
    if archive is not None:
        return config, archive
    try:
        return config, ServingConfig.read(config).archive
    except NotReadyError:  # a server elsewhere needs no configuration here
        return (config,)


def print_line(line: str, shown_on: Console = console) -> None:
    """One line as it is, without colours, markup, emoji or folds; see `printable`."""
    shown_on.print(printable(line), highlight=False, soft_wrap=True, markup=False, emoji=False)
