"""Commands that a signal ends clean up; what a killed one left goes with the next."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.command_line import ENVIRONMENT
from tests.support.configs import MakeConfig
from tests.support.leftovers import make_old, names
from tests.support.processes import wait_until

# The longest step of packaging takes as long as it is let, or fails.
PACKAGE = """
import sys, time
import catdog_serving.build.build_archive as build
from catdog_serving.cli import main
from catdog_serving.errors import NotReadyError
how = sys.argv.pop()
def fill(spec, settings, folder, on_work):
    (folder / "half.onnx").touch()
    if how == "fail":
        raise NotReadyError("failed as it was told to")
    time.sleep(60)
build._fill_model_dir = fill
main()
"""


def package(config: Path, how: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PACKAGE, "package", "--config", str(config), how]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGKILL, -9)],
)
def test_a_package_that_is_ended_leaves_nothing_for_long(
    number: signal.Signals, code: int, make_config: MakeConfig
) -> None:
    config = make_config(None)
    process = package(config.path, "wait")
    wait_until(lambda: any(config.model_store.rglob("half.onnx")), "its longest step")
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (code, "")
    if number == signal.SIGKILL:
        (left,) = config.model_store.iterdir()
        make_old(left)
        process = package(config.path, "fail")
        assert "failed as it was told to" in process.communicate(timeout=60)[1]
    assert names(config.model_store) == []


def test_nohup_is_respected(tmp_path: Path) -> None:
    program = f"""
import pathlib, signal, time
import catdog_serving.cli as cli
def command():
    pathlib.Path({str(tmp_path / "at work")!r}).touch()
    time.sleep(60)
cli.app = command
cli.main()
"""
    process = subprocess.Popen(["nohup", sys.executable, "-c", program], stderr=subprocess.PIPE)
    wait_until((tmp_path / "at work").exists, "the command")
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert process.poll() is None
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
