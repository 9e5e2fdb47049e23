"""`catdog classify` itself in a process of its own, with a backend that answers by names.

python -m tests.support.stub_command DELAY_MS classify PATH... [options]
"""

import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any
from unittest.mock import patch

from catdog_serving.cli import main
from catdog_serving.folder.image_result import ImageResult
from catdog_serving.remote_path import AnyPath
from tests.support.paths import ROOT
from tests.support.stub_backend import NameBackend


class SlowBackend(NameBackend):
    """Takes a time for each file.

    Args:
        delay_s: That time.
    """

    def __init__(self, delay_s: float) -> None:
        super().__init__()
        self._delay_s = delay_s

    def classify_files(self, paths: Iterable[AnyPath]) -> Iterator[ImageResult]:
        for result in super().classify_files(paths):
            time.sleep(self._delay_s)
            yield result


def stub_classify(
    *arguments: object, delay_ms: float = 0, env: dict[str, str] | None = None
) -> "subprocess.Popen[str]":
    """Start it."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.stub_command", str(delay_ms), "classify", *arguments],  # type: ignore[list-item]
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=env,
    )


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """The exit code, and what was said on standard error."""
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


def _run(delay_ms: str, *arguments: str) -> None:
    def open_backend(*_: Any) -> SlowBackend:
        return SlowBackend(float(delay_ms) / 1000)

    sys.argv = ["catdog", *arguments]
    with patch("catdog_serving.cli.classify.open_backend", open_backend):
        main()


if __name__ == "__main__":
    _run(*sys.argv[1:])
