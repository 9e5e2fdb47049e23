"""Folders of real photos through the real command, and rows to compare."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from catdog_serving.folder.journal import read_journal
from catdog_serving.folder.rows import Row


def make_album(root: Path, photos: list[Path], copies: int) -> Path:
    for copy in range(copies):
        for photo in photos:
            place = root / f"copy{copy}" / photo.parent.name / photo.name
            place.parent.mkdir(parents=True, exist_ok=True)
            if _same_disk(photo, root):
                os.link(photo, place)
            else:
                place.write_bytes(photo.read_bytes())
        (root / f"copy{copy}" / "broken.jpg").write_bytes(b"no picture")
    return root


def _same_disk(one: Path, other: Path) -> bool:
    return one.stat().st_dev == other.stat().st_dev


def catdog_classify(*arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "catdog_serving", "classify", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def finished(*arguments: object) -> int:
    process = catdog_classify(*arguments)
    _, errors = process.communicate(timeout=300)
    assert b"Traceback" not in errors, errors.decode()
    return process.returncode


def rows_of(journal: Path) -> list[Row]:
    return list(read_journal(journal)[1])


def assert_same_rows(rows: list[Row], expected: list[Row], tolerance: float = 1e-5) -> None:
    """The same files in the same order with the same answers."""
    assert [row["path"] for row in rows] == [row["path"] for row in expected]
    for row, other in zip(rows, expected, strict=True):
        for key in ("size", "mtime_ns", "sha256", "label", "error"):
            assert row.get(key) == other.get(key), row["path"]
        for key in ("cat", "dog"):
            assert row.get(key) == pytest.approx(other.get(key), abs=tolerance), row["path"]


def kill_and_resume(archive: Path, album: Path, tmp_path: Path, kills: int) -> None:
    """Kill runs at random points, resume them, and compare with one that was let alone."""
    options = ("--backend", "local", "--archive", archive, "--format", "jsonl")
    whole, journal = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    assert finished(album, *options, "--output", whole) == 1  # some images failed
    expected = rows_of(whole)
    assert len(expected) == sum(1 for _ in album.rglob("*.jpg"))

    chance = random.Random(7)
    for _ in range(kills):
        before = journal.stat().st_size if journal.exists() else 0
        aim = before + chance.randint(0, 2 * whole.stat().st_size // (3 * kills))
        process = catdog_classify(album, *options, "--output", journal, "--resume")
        deadline = time.monotonic() + 60
        while not (journal.exists() and journal.stat().st_size > aim):
            assert process.poll() is None, "it ended before it was killed"
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL  # it was at work
    assert finished(album, *options, "--output", journal, "--resume") == 1
    assert_same_rows(rows_of(journal), expected)
