"""Show how far a folder is: a bar on a terminal, a plain line now and then elsewhere."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from catdog_serving.cli.options import console, errors
from catdog_serving.find_images import ImageFiles

Row = TypeVar("Row")

PLAIN_INTERVAL_S = 10.0
_RECENT_SECONDS = 30


class FolderProgress(ExitStack):
    """Count rows as they come; a context manager.

    The number of files is counted by a thread meanwhile, so that the first image
    does not wait for it. With --quiet, only what is given to `print` is shown.

    Args:
        sources: What is classified, as objects of its own: they are walked to their end.
        shown_on: Where to show it; None for the terminal if there is one, else standard error.
        plain_interval_s: Time between two lines where there is no terminal.
    """

    def __init__(
        self,
        sources: Sequence[ImageFiles],
        shown_on: Console | None = None,
        plain_interval_s: float = PLAIN_INTERVAL_S,
    ) -> None:
        super().__init__()
        self._sources = sources
        self._console = shown_on or (console if console.is_terminal else errors)
        self._interval_s = plain_interval_s
        self._stopped = threading.Event()
        self._total: int | None = None
        self.done = 0
        self.failed = 0
        self._new = 0

    def __enter__(self) -> Self:
        super().__enter__()
        self._said = time.monotonic()
        self._recent = deque([(self._said, 0)], maxlen=_RECENT_SECONDS)
        self._bar = Progress(
            SpinnerColumn(),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("[red]{task.fields[failures]}"),
            console=self._console,
            transient=True,
            # Or rows that are printed into a file or a pipe would be shown with the bar instead.
            redirect_stdout=False,
            redirect_stderr=False,
            disable=errors.quiet or not self._console.is_terminal,
        )
        self.enter_context(self._bar)
        self._task = self._bar.add_task("", total=None, rate="", failures="")
        threading.Thread(target=self._count, name="count files", daemon=True).start()
        self.callback(self._stopped.set)
        return self

    def add(self, failed: bool, reused: bool = False) -> None:
        """Count one file; one that an earlier run has done is no part of the rate."""
        self.done += 1
        self.failed += failed
        self._new += not reused
        now = time.monotonic()
        if now - self._recent[-1][0] >= 1:
            self._recent.append((now, self._new))
        if self._console.is_terminal:
            self._bar.update(
                self._task,
                completed=self.done,
                total=self._total,
                rate=self._rate(),
                failures=self._failures(),
            )
        elif time.monotonic() - self._said >= self._interval_s:
            self._said = time.monotonic()
            self._console.print(self._plain_line(), highlight=False, soft_wrap=True)

    def print(self, line: Text) -> None:
        """Print above the bar."""
        self._console.print(line, soft_wrap=True)

    def _images_per_s(self) -> float:
        """Over the last half minute."""
        since, new_then = self._recent[0]
        return (self._new - new_then) / max(time.monotonic() - since, 1e-9)

    def _rate(self) -> str:
        return f"{self._images_per_s():.1f} images/s"

    def _failures(self) -> str:
        return f"{self.failed} failed" if self.failed else ""

    def _plain_line(self) -> str:
        parts = [f"{self.done} of {self._total or 'more'} files", self._rate()]
        if self._total and self._images_per_s():
            left_s = (self._total - self.done) / self._images_per_s()
            parts.append(f"{_duration(left_s)} left")
        return ", ".join(filter(None, [*parts, self._failures()]))

    def _count(self) -> None:
        count = 0
        for source in self._sources:
            for _ in source:
                count += 1
                if self._stopped.is_set():
                    return
        self._total = count


def show_table(
    show: Callable[[Text], object], header: Text, to_text: Callable[[Row], Text]
) -> Callable[[Row], None]:
    """What shows each row as it comes; the header comes with the first, and not over nothing."""
    waiting = [header]

    def show_row(row: Row) -> None:
        if waiting:
            show(waiting.pop())
        show(to_text(row))

    return show_row


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
