"""catdog merge."""

from pathlib import Path
from typing import Annotated

import typer

from catdog_serving.cli.options import console


def merge(
    output: Annotated[Path, typer.Argument(help="The journal to make.")],
    journals: Annotated[list[Path], typer.Argument(metavar="JOURNAL...", help="Of the shards.")],
) -> None:
    """Join the journals of several shards into one."""
    from catdog_serving.folder.merge import merge_journals

    report = merge_journals(output, journals)
    repeated = f", {report.repeated} were in more than one journal" if report.repeated else ""
    console.print(
        f"{output}: {report.rows} files, {report.failed} failed{repeated}",
        highlight=False,
        soft_wrap=True,
    )
