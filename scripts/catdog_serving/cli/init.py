"""catdog init."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from catdog_serving.cli.options import print_line
from catdog_serving.config_folder import make_config


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", show_default=False, help="Default: here.")
    ] = Path(),
) -> None:
    """Write config/ and model-store/ into a folder, to edit them and run there."""
    make_config(folder)
    print_line(f"settings  {folder / 'config'}")
    print_line(f"archives  {folder / 'model-store'}")
    there = "" if folder == Path() else f"cd {shlex.quote(str(folder))} && "
    print_line(f"next      {there}catdog package && catdog serve")
