"""The command `catdog`: its commands, in order of use, and how they end."""

import os
import sys
import traceback

import typer

from catdog_serving.commands.autoscaling import autoscale
from catdog_serving.commands.explaining import explain
from catdog_serving.commands.folders import classify, evaluate, merge
from catdog_serving.commands.measuring import bench, tune
from catdog_serving.commands.operating import deploy, rollback, scale, versions
from catdog_serving.commands.packaging import package
from catdog_serving.commands.serving import serve, status, stop
from catdog_serving.commands.web import web
from catdog_serving.errors import CatDogError

app = typer.Typer(
    help="Cats from dogs in pictures, in production.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
COMMANDS = (
    *(package, serve, stop, status, classify, merge, evaluate),
    *(scale, autoscale, deploy, rollback, versions, explain, web, bench, tune),
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
    except Exception:  # a bug: not 1, which says that some pictures failed
        traceback.print_exc()
        sys.exit(os.EX_SOFTWARE)
