"""SIGKILL commands at random moments of their work; a seed gives the moments.

CATDOG_KILLS is how many a command that works on files gets, CATDOG_KILLS_SEED the seed.
"""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import psutil

from tests.support.command_line import CATDOG
from tests.support.processes import wait_until

KILLS = int(os.environ.get("CATDOG_KILLS", "4"))
SERVER_KILLS = max(min(KILLS, 4), KILLS * 2 // 3)  # a command that changes a server, which is slow
SEED = os.environ.get("CATDOG_KILLS_SEED", "18")
PAUSE_S = 0.001
LONGEST_S = 300


class Killer:
    """Runs one kind of command, and kills it between its start and its end.

    Half of the moments lie anywhere in a run, half after it has `begun` what could be lost: a
    command spends most of its time on imports.

    Attributes:
        chance: For whatever else a test leaves to chance.
    """

    def __init__(self, what: str, wanted: int, **environment: str) -> None:
        """Use as `for number in killer.rounds(): killer.strike(...)`, after `measure`.

        Args:
            what: The kind of command.
            wanted: How many kills.
            environment: Variables of its own.
        """
        self.chance = random.Random(f"{SEED} {what}")
        self._what = what
        self._wanted = wanted
        self._environment = os.environ | environment
        self._killed = self._late = self._ended = 0
        self._begun_s = self._length_s = 0.0

    def rounds(self) -> Iterator[int]:
        """Numbers, until enough commands were killed while they were at work."""
        while self._killed < self._wanted:
            yield self._killed + self._ended
            assert self._ended <= self._wanted + 10, f"{self._what} ends before it is killed"
        print(
            f"\n{self._what}: {self._killed} kills, {self._late} of them after it had begun; "
            f"{self._ended} runs ended first; a run takes {self._length_s:.1f} s; seed {SEED}"
        )

    def measure(self, words: Sequence[object], begun: Callable[[], bool], code: int = 0) -> None:
        """Let it end with that exit code, and remember how long that takes."""
        with self._started(words) as process:
            start = time.monotonic()
            _wait(process, begun)
            self._begun_s = time.monotonic() - start
            _check_end(process, code)
            self._length_s = time.monotonic() - start

    def finish(self, words: Sequence[object], code: int = 0) -> None:
        """Let it end with that exit code."""
        with self._started(words) as process:
            _check_end(process, code)

    def strike(
        self,
        words: Sequence[object],
        begun: Callable[[], bool],
        victim: Callable[[], psutil.Process | None] | None = None,
    ) -> int:
        """Start it, and kill it at a random moment; its exit code, negative if it was killed.

        Args:
            words: What comes after `catdog`.
            begun: Whether it has begun what could be lost.
            victim: What to kill, if not the command itself.
        """
        late = victim is not None or self.chance.random() < 0.5
        work_s = max(self._length_s - self._begun_s, 0.5)
        after_s = self.chance.uniform(0, work_s if late else self._length_s)
        with self._started(words) as process:
            start = time.monotonic()
            if late:
                _wait(process, begun)
            if victim is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(after_s)
                process.kill()
                code = _check_end(process, 0, 1, -signal.SIGKILL)
                killed = code == -signal.SIGKILL
                if not killed:  # other work took the processor from the run that was measured
                    self._length_s = time.monotonic() - start
            else:
                time.sleep(after_s)  # the command may have ended, and what it started serves
                killed = _kill(victim())
                code = _check_end(process, 0, 3)
        self._killed += killed
        self._late += killed and late
        self._ended += not killed
        return code

    @contextmanager
    def _started(self, words: Sequence[object]) -> Iterator["subprocess.Popen[str]"]:
        """In a session of its own; what it has started there ends with it, or by itself."""
        with subprocess.Popen(
            [*CATDOG, *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=self._environment,
            start_new_session=True,
        ) as process:
            try:
                yield process
                if self.chance.random() < 0.5:
                    wait_until(lambda: not _is_group(process.pid), "the end of its children", 120)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def _wait(process: "subprocess.Popen[str]", begun: Callable[[], bool]) -> None:
    while process.poll() is None and not begun():
        time.sleep(PAUSE_S)


def _kill(process: psutil.Process | None) -> bool:
    """Whether it was there to be killed."""
    with suppress(psutil.NoSuchProcess):
        if process is not None:
            process.kill()
            return True
    return False


def _check_end(process: "subprocess.Popen[str]", *codes: int) -> int:
    """Its exit code, which is one of these."""
    _, errors = process.communicate(timeout=LONGEST_S)
    assert process.returncode in codes, errors
    return process.returncode


def _is_group(number: int) -> bool:
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    return True
