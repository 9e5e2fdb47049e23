"""A catdog autoscale in a process of its own."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.processes import wait_until

SHORT = ("--interval", "0.5", "--calm", "6")


class Following:
    """`catdog autoscale` in a process of its own, and what it printed."""

    def __init__(self, config: Path, *options: str) -> None:
        self._lines: list[str] = []
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "catdog_serving", "autoscale", *options),
                *("--config", str(config)),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"COLUMNS": "80"},
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self._lines.extend(self.process.stdout)

    @property
    def text(self) -> str:
        return "".join(self._lines)

    def wait_for(self, words: str, timeout_s: float = 90) -> None:
        try:
            wait_until(lambda: words in self.text, f"{words!r}", timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{self.text}") from None

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        try:
            code = self.process.wait(60)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"{error}:\n{self.text}") from None
        self._reader.join()
        return code


@contextmanager
def following(config: Path, *options: str) -> Iterator[Following]:
    running = Following(config, *options)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()
        running._reader.join()
        assert running.process.stdout is not None
        running.process.stdout.close()
