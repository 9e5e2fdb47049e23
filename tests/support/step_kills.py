"""Kill a folder run with the stub backend at random moments."""

import random
import signal
import subprocess
import time
from pathlib import Path

from tests.support.albums import rows_of
from tests.support.processes import wait_until
from tests.support.run_states import left_beside, rows_done
from tests.support.stub_backend import touch
from tests.support.stub_command import ended, stub_classify


def kill_and_resume_stub(tmp_path: Path, kills: int, files: int, delay_ms: float = 4) -> None:
    """Kill runs, resume them, and compare with one that was let alone.

    Each is killed after a random share of what is left to do for each kill.
    """
    names = [f"{number:05}{'bad' if number % 97 == 0 else ''}.jpg" for number in range(files)]
    touch(tmp_path / "album", *names)
    arguments = (tmp_path / "album", "--resume", "--output")
    assert ended(stub_classify(*arguments, tmp_path / "whole.jsonl"))[0] == 1  # some failed
    output, chance, before = tmp_path / "killed.jsonl", random.Random(7), 0
    for kill in range(kills):
        run = stub_classify(*arguments, output, delay_ms=delay_ms)
        _wait_for_more(run, output, before)
        share_s = (files - before) * delay_ms / 1000 / (kills - kill + 1)
        time.sleep(chance.uniform(0, share_s))
        run.kill()
        run.communicate()
        assert run.returncode == -signal.SIGKILL  # it was at work
        assert rows_done(output) > before
        before = rows_done(output)
    assert ended(stub_classify(*arguments, output))[0] == 1
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert len(rows_of(output)) == files
    assert left_beside(output) == []


def _wait_for_more(run: "subprocess.Popen[str]", output: Path, before: int) -> None:
    wait_until(lambda: rows_done(output) > before or run.poll() is not None, "a row")
