"""Folders of real photos through the real command, and rows to compare."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from PIL import Image

from catdog.results import Prediction
from catdog_serving.find_images import find_sources
from catdog_serving.folder import outputs
from catdog_serving.folder.backends import Backend
from catdog_serving.folder.image_result import FileInfo, FolderReport, ImageFailure, ImageResult
from catdog_serving.folder.process_folder import process_sources
from catdog_serving.folder.state_file import state_of
from catdog_serving.remote_path import AnyPath, parse_path
from tests.support.command_line import catdog_here
from tests.support.images import encode
from tests.support.paths import SAMPLES
from tests.support.processes import wait_until
from tests.support.run_states import left_beside

Row: TypeAlias = dict[str, Any]  # of JSON lines


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


def rows_of(output: Path) -> list[Row]:
    """The rows of JSON lines, without the first, which names the model."""
    return [json.loads(line) for line in output.read_text().splitlines()[1:]]


def said_of(output: Path, rows: list[Row]) -> "Said":
    """What `classify` says when it has written these rows."""
    report = FolderReport("album")
    for row in rows:
        answer: Prediction | ImageFailure
        if row.get("error") is not None:
            answer = ImageFailure(**row["error"])
        else:
            answer = Prediction.from_dict(row)
        report.add(ImageResult(FileInfo(parse_path(row["path"])), answer))
    return Said("".join(f"{line}\n" for line in outputs.written_lines([output], [report])))


@dataclass(frozen=True, eq=False)
class Said:
    """A text but for how long it took, and for what was done or skipped before."""

    text: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self._lasting(other) == self._lasting(self.text)

    @staticmethod
    def _lasting(text: str) -> str:
        took = r"( \(\d+ other skipped\))? in [\d.]+ s, [\d.]+ images/s(; \d+ done before)?"
        return re.sub(took, "", text)


def process_folder(
    path: AnyPath, backend: Backend, on_row: Callable[[ImageResult], object]
) -> FolderReport:
    """Classify every image of one folder; see `process_sources`."""
    (report,) = process_sources(find_sources([path]), backend, on_row)
    return report


def classified(folder: Path, backend: Backend) -> list[Row]:
    """The rows of a folder, by a backend in this process, as they would be written."""
    rows: list[Row] = []
    process_folder(folder, backend, lambda row: rows.append(row.to_dict()))
    return rows


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
    options = (album, "--backend", "local", "--archive", archive)
    whole, output = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    seconds = _seconds_at_work(catdog_classify(*options, "--output", whole), whole)
    expected = rows_of(whole)
    assert len(expected) == sum(1 for _ in album.rglob("*.jpg"))

    chance = random.Random(7)
    for _ in range(kills):
        process = catdog_classify(*options, "--output", output, "--resume")
        _wait_for_state(process, output)
        time.sleep(chance.uniform(0, 2 * seconds / (3 * kills)))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL  # it was at work
    assert finished(*options, "--output", output, "--resume") == 1
    assert_same_rows(rows_of(output), expected)
    assert left_beside(output) == []


def _seconds_at_work(process: subprocess.Popen[bytes], output: Path) -> float:
    """How long a run takes once it has loaded its archive."""
    _wait_for_state(process, output)
    since = time.monotonic()
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 1, errors  # some images failed
    return time.monotonic() - since


def _wait_for_state(process: subprocess.Popen[bytes], output: Path) -> None:
    """Until a run has its state for itself: it has a WAL then, and a killed one's grows no more."""
    wal = state_of(output).with_name(f"{state_of(output).name}-wal")
    before = _stamp(wal)
    wait_until(lambda: _stamp(wal) != before or process.poll() is not None, "a row", timeout_s=60)
    assert process.poll() is None, process.communicate()


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size
