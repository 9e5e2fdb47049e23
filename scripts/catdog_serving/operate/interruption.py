"""End on Ctrl-C or SIGTERM, but never in the middle of a change."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Within `with Interruption() as interruption:` a signal ends the block, or waits.

    SIGINT raises KeyboardInterrupt and SIGTERM SystemExit(0): at once, or within `held()` at
    its end. A signal that waits is acknowledged on standard error.
    """

    def __init__(self) -> None:
        self._is_held = False
        self._waiting: int | None = None

    def __enter__(self) -> "Interruption":
        self._before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let what is inside finish first; also if it fails."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
            if self._waiting is not None:
                _end(self._waiting)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if not self._is_held:
            _end(number)
        if self._waiting is None:  # os.write: a print could be cut into another print
            os.write(sys.stderr.fileno(), b"ending when the change is finished\n")
        self._waiting = number


def _end(number: int) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(0)
