"""Read the workers' log: why did a worker fail?"""

from pathlib import Path

_TRACEBACK = "Traceback (most recent call last):"
_WORKER_DIED = "Backend worker process died."  # TorchServe's worker says so after a traceback


def last_failure(log: Path) -> str | None:
    """The last line of the last traceback that ended a worker; None if no worker died of one.

    Args:
        log: model.log, whose lines are a time stamp, a space, and what the worker printed.
    """
    if not log.is_file():
        return None
    lines = [line.partition(" ")[2] for line in log.read_text(errors="replace").splitlines()]
    deaths = [number for number, line in enumerate(lines) if line.startswith(_WORKER_DIED)]
    if not deaths:
        return None
    reason = None
    for line in lines[deaths[-1] + 1 :]:
        if line == _TRACEBACK:
            reason = None
        elif reason is None and line and not line.startswith(" "):
            reason = line  # the first line that is not indented ends the traceback
    return reason or "the worker's log does not say why"
