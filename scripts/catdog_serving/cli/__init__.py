"""The command `catdog`: its commands, in order of use, and how they end."""

import os
import sys
import traceback

import typer

from catdog_serving.cli import (
    autoscale,
    bench,
    classify,
    deploy,
    evaluate,
    explain,
    merge,
    package,
    rollback,
    scale,
    serve,
    status,
    stop,
    tune,
    versions,
    web,
)
from catdog_serving.errors import CatDogError

app = typer.Typer(
    help="Cats from dogs in images, in production.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
COMMANDS = (
    package.package,
    serve.serve,
    stop.stop,
    status.status,
    classify.classify,
    merge.merge,
    evaluate.evaluate,
    scale.scale,
    autoscale.autoscale,
    deploy.deploy,
    rollback.rollback,
    versions.versions,
    explain.explain,
    web.web,
    bench.bench,
    tune.tune,
)
for command in COMMANDS:
    app.command()(command)


def main() -> None:
    """Run the command line; errors that catdog knows end it in one line."""
    try:
        app()
    except CatDogError as error:
        sys.stderr.write(f"catdog: {error}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # such as `| head`; what is left in the buffer has no reader
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception:  # a bug: not 1, which says that some images failed
        traceback.print_exc()
        sys.exit(os.EX_SOFTWARE)
