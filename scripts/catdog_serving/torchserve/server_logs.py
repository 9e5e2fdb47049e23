"""What a server has written: the last lines, and the reason why a worker or a start failed."""

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

_TAIL_BYTES = 256_000
_WORKER_DIED = "Backend worker process died."  # TorchServe's worker says so before a traceback
_NOT_LOADED = "Failed to load model"  # its ModelServer, for whatever is named in load_models
_TRACEBACK = "Traceback (most recent call last):"
# After an ImportError in the handler TorchServe looks for a handler of its own with that name, and
# this is the last thing that it complains about; the reason came before.
_SECOND_TRY = "No module named 'ts.torch_handler."


@dataclass(frozen=True)
class ServerLogs:
    """The logs of one server; they go with its run directory."""

    folder: Path

    @property
    def console(self) -> Path:
        """What Java prints: its own trouble at the start."""
        return self.folder / "console.log"

    @property
    def workers(self) -> Path:
        """What the workers print."""
        return self.folder / "model.log"

    @property
    def classes(self) -> Path:
        """Each class that Java loaded, and the jar that it came from."""
        return self.folder / "classes.log"

    def note(self, text: str) -> None:
        """Add a line of our own to the console's."""
        stamp = datetime.now().isoformat(timespec="milliseconds").replace(".", ",")
        with self.console.open("a", encoding="utf-8") as file:
            file.write(f"{stamp} INFO  catdog - {text}\n")

    def tail(self, lines: int = 25) -> str:
        """The last lines of the workers' log and of the console."""
        parts = []
        for log in (self.console, self.workers):
            if log.is_file():
                tail = _last_lines(log)[-lines:]
                parts += [f"--- {log.name}, last {len(tail)} lines", *tail]
        return "\n".join(parts)

    def load_failure(self, since: datetime | None = None) -> str | None:
        """What TorchServe says of an archive that it could not unpack; it goes on without it.

        Args:
            since: What it said before that local time does not count.
        """
        said = [line for line in _entries(self.console, since) if _NOT_LOADED in line]
        return said[-1].partition(" - ")[2] if said else None

    def last_failure(self, since: datetime | None = None) -> str | None:
        """The last line of the last traceback that ended a worker; None if none died of one.

        Only the log's last 256 kB are read: it is asked for several times a second.

        Args:
            since: Failures before that local time do not count.
        """
        lines = _entries(self.workers, since)
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
        if not reasons:
            return None  # the traceback is just being written, line by line
        telling = [reason for reason in reasons if _SECOND_TRY not in reason]
        return (telling or reasons)[-1]


def _entries(log: Path, since: datetime | None) -> list[str]:
    """The last lines of a log since a local time, without the time stamp and its space."""
    if not log.is_file():
        return []
    first = since.isoformat(timespec="milliseconds").replace(".", ",") if since else ""
    lines = (line.partition(" ") for line in _last_lines(log))
    return [text for stamp, _, text in lines if stamp >= first]


def _last_lines(log: Path) -> list[str]:
    """The whole lines at the end of a log that may be large."""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return lines[1:] if size > _TAIL_BYTES else lines
