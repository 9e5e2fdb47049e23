"""What `make` does with the paths that a user gives it."""

import shlex
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT

# Nothing is installed by a test of the Makefile.
_MAKE = ("make", "--no-print-directory", "-o", ".venv/.installed", "-o", ".venv/.installed-report")


def _make(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_MAKE, *words],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "HOME": "/home/somebody", **environment},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def stub(tmp_path: Path) -> Path:
    """A command that prints its configuration and its words, and ends with exit code $CODE."""
    path = tmp_path / "stub"
    path.write_text('#!/bin/sh\nprintf "<%s>\\n" "$CATDOG_CONFIG" "$@"\nexit ${CODE:-0}\n')
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("given", "arrives"),
    [
        ("/home/a/Meine  Bilder", "/home/a/Meine  Bilder"),
        ("~/Meine Bilder", "/home/somebody/Meine Bilder"),
        ("~/Pictures", "/home/somebody/Pictures"),
        ("backup~/it's; new", "backup~/it's; new"),
    ],
)
@pytest.mark.parametrize(
    ("target", "variable"),
    [
        ("classify", "DIR"),
        ("run", "DIR"),
        ("package", "WEIGHTS"),
        ("bench", "PICTURES"),
        ("gpu-check", "PHOTOS"),
        ("gpu-check", "WHEELS"),
        ("gpu-check", "OUTPUT"),
    ],
)
def test_a_path_is_one_word(target: str, variable: str, given: str, arrives: str) -> None:
    shown = _make("-n", "-o", "model-store/catdog.mar", target, f"{variable}={given}")
    assert shown.returncode == 0, shown.stderr
    assert arrives in shlex.split(shown.stdout, comments=True)


@pytest.mark.parametrize(
    ("given", "arrives"),
    [
        ("/etc/my settings/x.properties", "/etc/my settings/x.properties"),
        ("~/my settings/x.properties", "/home/somebody/my settings/x.properties"),
        ("my settings/x.properties", f"{ROOT}/my settings/x.properties"),
    ],
)
def test_a_configuration_is_one_path(given: str, arrives: str, stub: Path) -> None:
    done = _make("classify", f"CATDOG={stub}", f"CONFIG={given}", "DIR=two words")
    assert done.stdout.splitlines() == [f"<{arrives}>", "<classify>", "<two words>"]


def test_images_that_failed_are_no_error_of_make(stub: Path) -> None:
    assert _make("classify", f"CATDOG={stub}", CODE="1").returncode == 0
    assert _make("classify", f"CATDOG={stub}", CODE="3").returncode == 2
