"""Folders of real photos through the real command, and rows to compare."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from catdog_serving.folder.journal import read_journal
from catdog_serving.folder.rows import Row
from tests.support.command_line import catdog_here
from tests.support.images import encode
from tests.support.paths import SAMPLES


def make_album(root: Path, photos: list[Path], copies: int) -> Path:
    for copy in range(copies):
        for photo in photos:
            place = root / f"copy{copy}" / photo.parent.name / photo.name
            place.parent.mkdir(parents=True, exist_ok=True)
            if _same_disk(photo, root):
                os.link(photo, place)
            else:
                place.write_bytes(photo.read_bytes())
        (root / f"copy{copy}" / "broken.jpg").write_bytes(b"no image")
    return root


def _same_disk(one: Path, other: Path) -> bool:
    return one.stat().st_dev == other.stat().st_dev


def small_album(root: Path, copies: int) -> Path:
    """Four small images a copy, at least 21 copies, and files that fail in every way."""
    small = {sample.stem: _small(sample) for sample in SAMPLES.iterdir()}
    for copy in range(copies):
        folder = root / f"copy{copy:02}"
        folder.mkdir(parents=True)
        for name, content in small.items():
            (folder / f"{name}.jpg").write_bytes(content)
    (root / "broken.jpg").write_bytes(b"no image")
    (root / "copy07" / "empty.jpg").write_bytes(b"")
    (root / "copy08" / "cut.jpg").write_bytes(small["rocket"][:2000])
    os.mkfifo(root / "copy20" / "pipe.jpg")
    with (root / "huge.jpg").open("wb") as file:
        file.truncate(300 * 2**20)
    return root


def _small(sample: Path) -> bytes:
    with Image.open(sample) as image:
        image.thumbnail((300, 300))
        return encode(image.convert("RGB"), "JPEG")


def catdog_classify(*arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "catdog_serving", "classify", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def finished(*arguments: object) -> int:
    """The exit code of a run that is left alone, in this process."""
    ended = catdog_here("classify", *arguments, **os.environ)
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended.returncode


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
