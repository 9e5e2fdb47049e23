"""Read the workers' log: why did a worker fail?"""

from datetime import datetime
from pathlib import Path

_TRACEBACK = "Traceback (most recent call last):"
# After an ImportError in the handler TorchServe looks for a handler of its own with that name, and
# this is the last thing that it complains about; the reason came before.
_SECOND_TRY = "No module named 'ts.torch_handler."
_WORKER_DIED = "Backend worker process died."  # TorchServe's worker says so after a traceback


def last_failure(log: Path, since: datetime | None = None) -> str | None:
    """The last line of the last traceback that ended a worker; None if no worker died of one.

    Args:
        log: model.log, whose lines are a time stamp, a space, and what the worker printed.
        since: Failures before that local time do not count.
    """
    if not log.is_file():
        return None
    first = since.isoformat(timespec="milliseconds").replace(".", ",") if since else ""
    lines = [
        text
        for stamp, _, text in (
            line.partition(" ") for line in log.read_text(errors="replace").splitlines()
        )
        if stamp >= first
    ]
    deaths = [number for number, line in enumerate(lines) if line.startswith(_WORKER_DIED)]
    if not deaths:
        return None
    reasons = []
    in_traceback = False
    for line in lines[deaths[-1] + 1 :]:
        if line == _TRACEBACK:
            in_traceback = True
        elif in_traceback and line and not line.startswith(" "):
            reasons.append(line)  # the first line that is not indented ends the traceback
            in_traceback = False
    telling = [reason for reason in reasons if _SECOND_TRY not in reason]
    if not reasons:
        return None  # the traceback is just being written, line by line
    return (telling or reasons)[-1]
