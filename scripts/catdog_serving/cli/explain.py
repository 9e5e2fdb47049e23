"""catdog explain."""

from pathlib import Path
from typing import Annotated

import typer

from catdog_serving.cli.backends import open_backend
from catdog_serving.cli.options import (
    ArchiveOption,
    BackendName,
    BackendOption,
    ConfigOption,
    ExcludeOption,
    JobsOption,
    TokenOption,
    UrlOption,
    console,
    errors,
    print_line,
)
from catdog_serving.cli.progress import FolderProgress, show_table
from catdog_serving.find_images import find_sources
from catdog_serving.folder.explain_files import explain_files, explained_header, explained_row
from catdog_serving.folder.image_result import ImageFailure


def explain(
    config: ConfigOption,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="Images and folders.")],
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="The folder for the overlays.")],
    exclude: ExcludeOption = None,
    backend: BackendOption = BackendName.http,
    archive: ArchiveOption = None,
    url: UrlOption = None,
    token: TokenOption = None,
    jobs: JobsOption = None,
) -> None:
    """Draw where the cat or the dog is: a map and a box over each image."""
    with (
        open_backend(backend.value, config, archive, url, jobs, token=token) as opened,
        FolderProgress(find_sources(paths, exclude=exclude or ())) as progress,
    ):
        show = progress.print if console.is_terminal else print
        show_row = show_table(show, explained_header(), explained_row)
        sources = find_sources(paths, exclude=exclude or ())
        for one in explain_files(sources, opened, output):
            show_row(one)
            progress.add(isinstance(one.outcome, ImageFailure))
    if skipped := sum(source.skipped for source in sources):
        print_line(f"{skipped} other files skipped", errors)
    if progress.failed:
        raise typer.Exit(1)
