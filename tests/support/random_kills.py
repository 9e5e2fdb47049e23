"""SIGKILL commands at random moments of their work; a seed gives the moments.

CATDOG_KILLS is how many a command that works on files gets, CATDOG_KILLS_SEED the seed.
"""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

import psutil

from tests.support.command_line import CATDOG
from tests.support.processes import wait_until

KILLS = int(os.environ.get("CATDOG_KILLS", "4"))
SERVER_KILLS = max(min(KILLS, 4), KILLS * 2 // 3)  # a command that changes a server, which is slow
SEED = os.environ.get("CATDOG_KILLS_SEED", "18")
PAUSE_S = 0.001
LONGEST_S = 300
MANY = 10  # of so many kills at least one meets the work

Look: TypeAlias = Callable[[], Set[object]]  # what there is to see of a command's work


def traces(*folders: Path) -> set[object]:
    """What lies below some folders, each with the time of its last change."""
    found: set[object] = set()
    for folder in folders:
        for place, directories, files in os.walk(folder):
            for name in (*directories, *files):
                with suppress(FileNotFoundError):  # it is gone by now
                    path = os.path.join(place, name)
                    found.add((path, os.stat(path).st_mtime_ns))
    return found


class Killer:
    """Runs one kind of command, and kills it between its start and its end.

    Half of the moments lie anywhere in a run, half after it has begun what could be lost: a
    command spends most of its time on imports. It has begun when a look shows what was not there
    before: killed commands leave traces too.

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
        self._killed = self._begun = self._ended = 0
        self._begun_s = self._length_s = 0.0

    def rounds(self) -> Iterator[int]:
        """Numbers, until enough commands were killed while they were at work."""
        while self._killed < self._wanted:
            yield self._killed + self._ended
            assert self._ended <= self._wanted + 10, f"{self._what} ends before it is killed"
        assert self._begun or self._wanted < MANY, f"no kill met the work of {self._what}"
        print(
            f"\n{self._what}: {self._killed} kills, {self._begun} of them after it had begun; "
            f"{self._ended} runs ended first; a run takes {self._length_s:.1f} s; seed {SEED}"
        )

    def measure(self, words: Sequence[object], look: Look, code: int = 0) -> None:
        """Let it end with that exit code, and remember how long that takes."""
        before = look()
        with self._started(words) as process:
            start = time.monotonic()
            assert _wait(process, look, before), f"the work of {self._what} was never seen"
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
        look: Look,
        victim: Callable[[], psutil.Process | None] | None = None,
        code: int = 0,
    ) -> int:
        """Start it, and kill it at a random moment; its exit code, negative if it was killed.

        Args:
            words: What comes after `catdog`.
            look: Shows what could be lost.
            victim: What to kill, if not the command itself, which then ends with 0 or 3.
            code: The exit code of a run that ends before it is killed.
        """
        late = victim is not None or self.chance.random() < 0.5
        work_s = max(self._length_s - self._begun_s, 0.5)
        after_s = self.chance.uniform(0, work_s if late else self._length_s)
        before = look()
        with self._started(words) as process:
            start = time.monotonic()
            begun = late and _wait(process, look, before)
            if victim is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(after_s)
                process.kill()
                ended = _check_end(process, code, -signal.SIGKILL)
                killed = ended == -signal.SIGKILL
                if not killed:  # other work took the processor from the run that was measured
                    self._length_s = time.monotonic() - start
            else:
                time.sleep(after_s)  # the command may have ended, and what it started serves
                killed = _kill(victim())
                ended = _check_end(process, 0, 3)
            begun = begun or bool(look() - before)
        self._killed += killed
        self._begun += killed and begun
        self._ended += not killed
        return ended

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


def _wait(process: "subprocess.Popen[str]", look: Look, before: Set[object]) -> bool:
    """Whether it has begun; else it ended first."""
    while not (begun := bool(look() - before)) and process.poll() is None:
        time.sleep(PAUSE_S)
    return begun


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
