import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from catdog_serving.errors import NotReadyError
from catdog_serving.rollout.operator_lock import operator_lock
from catdog_serving.torchserve.run_directory import RunDirectory


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """As if this process were the server."""
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    directory.record(psutil.Process())
    return directory


def test_a_second_operator_is_told_who_is_at_it(run: RunDirectory) -> None:
    with operator_lock(run, "deploy"):
        with pytest.raises(
            NotReadyError, match=rf"catdog deploy \(process {os.getpid()}\) is changing"
        ):
            with operator_lock(run, "scale 2"):
                pass
    with operator_lock(run, "scale 2"):
        with pytest.raises(NotReadyError, match=r"catdog scale 2 \(process"):
            with operator_lock(run, "deploy"):
                pass


def test_a_killed_operator_locks_nobody_out(run: RunDirectory) -> None:
    program = f"""
import os, signal
from pathlib import Path
from catdog_serving.rollout.operator_lock import operator_lock
from catdog_serving.torchserve.run_directory import RunDirectory
with operator_lock(RunDirectory(Path({str(run.path)!r})), "deploy"):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    with operator_lock(run, "scale 2"):
        pass


def test_without_a_server_there_is_nothing_to_change(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="start it with: catdog serve"):
        with operator_lock(RunDirectory(tmp_path / "none"), "deploy"):
            pass
