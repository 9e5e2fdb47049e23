"""The server goes while a command changes it: say so, and what a start would serve now.

`catdog stop` takes no lock, as an operator must always be able to stop. The command that it
interrupts has nothing to undo then: versions and workers went with the server, and files in the
model store change in one step at the very end.
"""

import psutil

from catdog_serving.errors import NotReadyError, ServerError, ServerUnavailableError
from catdog_serving.torchserve.management import poll
from catdog_serving.torchserve.server import TorchServe

# From the first request that is not answered to the end of Java, and from there to the end of its
# folder, when a server is stopped.
ENDED_S = 5.0
_PAUSE_S = 0.1


class LostServerError(NotReadyError):
    """There is no server to change any more; the message says what is on disk."""


def is_lost(server: TorchServe, process: psutil.Process | None) -> bool:
    """Whether the process that a command began with is not the server any more."""
    return server.run.process() != process


def refuse_lost(server: TorchServe, process: psutil.Process | None) -> None:
    """Raises NotReadyError if that process is not the server any more."""
    if is_lost(server, process):
        raise NotReadyError("the server ended meanwhile")


def lost_server(
    server: TorchServe,
    process: psutil.Process | None,
    error: BaseException,
    *,
    is_changed: bool = False,
) -> LostServerError | None:
    """What to raise in an error's place if it comes of a server that has gone.

    Args:
        server: The one that is being changed.
        process: Its process when the command began.
        error: What the command met.
        is_changed: Whether the new archive is in its place.

    Returns:
        None if the server is there yet.
    """
    wait_s = ENDED_S if isinstance(error, ServerUnavailableError) else 0.0  # it may just be ending
    if not poll(lambda: is_lost(server, process), wait_s, _PAUSE_S):
        return None
    name = server.config.archive.name
    left = (
        f"{name} is the new archive already, and catdog serve starts it"
        if is_changed
        else f"nothing was changed: {name} is as it was, and catdog serve starts it"
    )
    return LostServerError(f"{_how(server, error)}; {left}")


def _how(server: TorchServe, error: BaseException) -> str:
    """A stop removes the folder; what ended by itself has left it."""
    run = server.run
    if poll(lambda: not run.path.exists() or run.process() is not None, ENDED_S, _PAUSE_S):
        return "the server was stopped meanwhile"
    if isinstance(error, NotReadyError) and not isinstance(error, ServerError):
        return str(error)
    return "the server ended meanwhile"
