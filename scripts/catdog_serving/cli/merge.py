"""catdog merge."""

from pathlib import Path
from typing import Annotated

import typer

from catdog_serving.cli.options import BomOption, print_line
from catdog_serving.folder.merge import merge_states


def merge(
    output: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="What to make: .jsonl, .csv, .parquet, or a state, .catdog."
        ),
    ],
    states: Annotated[
        list[Path],
        typer.Argument(metavar="STATE", help="Of the shards: OUTPUT.catdog, by --keep-state."),
    ],
    bom: BomOption = False,
) -> None:
    """Join the states of several runs, such as shards."""
    report = merge_states(output, states, bom)
    repeated = f", {report.repeated} were in more than one state" if report.repeated else ""
    print_line(f"{output}: {report.rows} files, {report.failed} failed{repeated}")
