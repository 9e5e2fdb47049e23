"""The command `catdog`: its commands, and how they end.

A command is a module of this folder and a function in it, both named like it. The module is
imported when its command is called, and only then: so it imports what it needs at its top, and
`catdog --help` needs none of them. No other package prints: what a command calls gives values
back, or passes lines to the function that it was given for them.
"""

import copy
import errno
import importlib
import io
import os
import signal
import sys
import threading
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

import catdog
from catdog_serving.errors import CatDogError, NotReadyError
from catdog_serving.printable import printable_lines


@dataclass(frozen=True)
class Command:
    """A line of the table."""

    sentence: str  # what it does
    example: str  # what follows its name
    only_steps: bool = False  # what it prints on standard output is none of its results


# The heading in `catdog --help` -> its commands.
COMMANDS = {
    "Use": {
        "classify": Command(
            "Classify images and folders: cat, dog or neither, the breed, and the means.",
            "~/Pictures --output pictures.csv",
        ),
        "explain": Command(
            "Draw where the cat or the dog is: a map and a box over each image.",
            "~/Pictures --output maps",
        ),
        "evaluate": Command(
            "Measure accuracy on images whose class is known by their folder.",
            "labelled --report evaluation.html",
        ),
        "web": Command(
            "Open a page to try images on: label, breed, box and map; needs a running server.",
            "--port 7861",
        ),
    },
    "Build": {
        "package": Command(
            "Build and check the model archive.", "--output model-store/new.mar", only_steps=True
        ),
        "init": Command(
            "Write config/ and model-store/ into a folder, to edit them and run there.",
            "~/catdog",
            only_steps=True,
        ),
    },
    "Run": {
        "serve": Command(
            "Start the server and wait until it is ready.", "--port 18080", only_steps=True
        ),
        "stop": Command("Stop the server; nothing of it stays behind.", "", only_steps=True),
        "restart": Command(
            "Stop the server; start it with the same options on what the files say now.",
            "",
            only_steps=True,
        ),
        "status": Command(
            "Show models, versions, workers and queue; exit 0 only when a worker is READY.",
            "--watch",
        ),
        "token": Command(
            "Show when the server's tokens end; --nginx gives nginx the inference token.", ""
        ),
    },
    "Change": {
        "scale": Command(
            "Change the number of workers without a lost request, until the server stops.",
            "2",
            only_steps=True,
        ),
        "autoscale": Command(
            "Keep the number of workers between A and B as the load needs; until Ctrl-C.",
            "--min 1 --max 4",
            only_steps=True,
        ),
        "deploy": Command(
            "Serve another archive without a lost request; if anything fails, go back.",
            "model-store/new.mar",
            only_steps=True,
        ),
        "rollback": Command("Deploy what was served before the last deploy.", "", only_steps=True),
        "versions": Command(
            "Show what is loaded, and what a restart or a rollback would load.", ""
        ),
    },
    "Measure": {
        "bench": Command(
            "Measure this machine against the reference loop; the last line is JSON.", "--quick"
        ),
        "tune": Command(
            "Try engines, workers, batches and delays; write the best into config.properties.",
            "--p99-ms 250",
        ),
    },
    "More": {
        "merge": Command(
            "Join the states of several runs, such as shards.", "all.csv 0.csv.catdog 1.csv.catdog"
        ),
    },
}
_FINALISER_S = 0.05  # longer than one runs
# What this machine refuses. A file that is not there is none of it: catdog looks before.
_REFUSED_BY_MACHINE = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EROFS, errno.ESTALE),
    *(errno.EACCES, errno.EPERM, errno.EBUSY, errno.ETXTBSY, errno.EMFILE, errno.ENFILE),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR),
}


def _without_types(params: list[Any]) -> list[Any]:
    """Parameters whose help names no types of Python: <bool> for a flag, <path> for an argument."""
    for param in params:
        if isinstance(param, TyperArgument):
            param.display_type_rich = lambda ctx: ""  # type: ignore[method-assign]
        elif getattr(param, "is_flag", False) and param.metavar is None:
            param.metavar = ""
    return params


class _Called(TyperCommand):
    """A command that was called, from its own module."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _without_types(super().get_params(ctx))


class _Command(TyperCommand):
    """A line of the table; the command itself takes its place when it is called."""

    def __init__(self, name: str, line: Command, heading: str) -> None:
        super().__init__(name, help=line.sentence, rich_help_panel=heading)
        self._line = line

    def make_context(self, info_name: Any, args: Any, parent: Any = None, **extra: Any) -> Any:
        name = str(self.name)
        function = getattr(importlib.import_module(f"{__name__}.{name}"), name)
        alone = typer.Typer(
            add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False
        )
        example = f"Example: catdog {name} {self._line.example}".rstrip()
        alone.command(name, cls=_Called, epilog=example)(function)
        command = typer.main.get_command(alone)
        be_quiet = importlib.import_module(f"{__name__}.options").be_quiet
        quiet: Any = copy.copy(next(param for param in app.params if param.name == "quiet"))
        quiet.expose_value = False  # it goes before the command or after it
        quiet.callback = lambda _, __, value: be_quiet(
            value or bool(parent and parent.params["quiet"]), also_on_stdout=self._line.only_steps
        )
        command.params.append(quiet)
        if parent and (config := parent.params["config"]):  # instead of the command's own default
            extra["default_map"] = {"config": str(config)}
        try:
            return command.make_context(info_name, args, parent=parent, **extra)
        except typer.BadParameter as error:  # pydantic says what kind of Python's errors it was
            error.message = error.message.removeprefix("Value error, ")
            raise


class _Commands(TyperGroup):
    """Ends a command whose output is lost: click would take 1, which says some images failed."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _without_types(super().get_params(ctx))

    def invoke(self, ctx: Any) -> Any:
        try:
            try:
                result = super().invoke(ctx)
            except typer.Exit:  # such as for images that failed
                sys.stdout.flush()
                raise
            sys.stdout.flush()
        except BrokenPipeError:
            _end_unread()
        except OSError as error:
            if error.errno not in _REFUSED_BY_MACHINE:
                raise
            if error.filename is not None:
                raise NotReadyError(f"{error.filename}: {error.strerror}") from error
            _drop_output()
            raise NotReadyError(f"cannot write: {error.strerror}") from error
        return result


def _end_unread() -> NoReturn:
    """End a command whose output nobody reads any more, such as before `| head`."""
    _drop_output()
    sys.exit(141)


def _drop_output() -> None:
    """What is left in the buffer of standard output goes nowhere, and not to a second error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"catdog {catdog.__version__}\n")
        raise typer.Exit


def _before_commands(
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The config.properties of all commands, like $CATDOG_CONFIG.",
        ),
    ] = None,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", help="Only results and errors: no steps, no progress."),
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show it."),
    ] = False,
) -> None:
    """Cats from dogs in images, in production."""


def _app() -> TyperGroup:
    frame = typer.Typer(cls=_Commands, no_args_is_help=True, rich_markup_mode="rich")
    frame.callback(epilog="Example: catdog classify ~/Pictures")(_before_commands)
    group = typer.main.get_command(frame)
    assert isinstance(group, TyperGroup)  # noqa: S101 (it has a callback)
    group.commands = {
        name: _Command(name, line, heading)
        for heading, commands in COMMANDS.items()
        for name, line in commands.items()
    }
    return group


app = _app()


def exit_on(number: signal.Signals, code: int | None = None) -> None:
    """End as Ctrl-C does when a signal comes, so that what was begun is undone.

    Args:
        number: The signal.
        code: The exit code; None for a shell's.
    """
    code = 128 + number if code is None else code
    signal.signal(number, lambda *_: sys.exit(code))


def _signal_again(ignored: Any) -> None:
    """Repeat a signal that came while a finaliser ran: Python ignores what is raised in one."""
    number = None
    if ignored.exc_type is KeyboardInterrupt:
        number = signal.SIGINT
    elif ignored.exc_type is SystemExit:
        hung_up = ignored.exc_value.code == 128 + signal.SIGHUP
        number = signal.SIGHUP if hung_up else signal.SIGTERM
    if number is None:
        sys.__unraisablehook__(ignored)
    else:
        thread = threading.main_thread().ident
        threading.Timer(_FINALISER_S, signal.pthread_kill, (thread, number)).start()


def main() -> None:
    """Run the command line; errors that catdog knows end it in one line."""
    sys.unraisablehook = _signal_again
    exit_on(signal.SIGTERM)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        exit_on(signal.SIGHUP)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name may be no text in the terminal's encoding
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except CatDogError as error:
        sys.stderr.write(f"catdog: {printable_lines(str(error), indent='  ')}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # outside of a command, such as in its help
        _end_unread()
    except Exception:  # a bug: not 1, which says that some images failed
        sys.stderr.write(printable_lines(traceback.format_exc()))
        sys.exit(os.EX_SOFTWARE)
