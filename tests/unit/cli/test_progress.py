import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.text import Text

from catdog_serving.cli import options
from catdog_serving.cli.progress import FolderProgress, _duration
from catdog_serving.find_images import find_sources
from tests.support.processes import wait_until
from tests.support.stub_backend import touch


def shown(tmp_path: Path, terminal: bool, row: str = "") -> str:
    touch(tmp_path, "a.jpg", "b.jpg", "c.jpg", "notes.txt")
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    with FolderProgress(find_sources([tmp_path]), console, plain_interval_s=0) as progress:
        wait_until(lambda: progress._total is not None, "the count")
        progress.add(failed=False)
        progress.add(failed=True)
        if row:
            progress.print(Text(row))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_elsewhere_it_is_plain_lines_with_rate_time_left_and_failures(tmp_path: Path) -> None:
    first, second = shown(tmp_path, terminal=False).splitlines()
    assert first.startswith("1 of 3 files, ")
    assert "failed" not in first
    assert second.startswith("2 of 3 files, ")
    assert second.endswith("images/s, 0:00 left, 1 failed")


def test_on_a_terminal_it_is_a_bar(tmp_path: Path) -> None:
    text = shown(tmp_path, terminal=True)
    assert "2/3" in text
    assert "1 failed" in text
    assert "images/s" in text


def test_quiet_has_no_bar_and_still_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options.errors, "quiet", True)
    assert shown(tmp_path, terminal=True, row="a row") == "a row\n"


def test_what_goes_into_a_file_is_not_shown_with_the_bar(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bar is on standard error, a terminal; rows are printed into a file or a pipe."""
    touch(tmp_path, "a.jpg")
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with FolderProgress(find_sources([tmp_path]), console):
        print("a row")
    assert capsys.readouterr().out == "a row\n"
    assert isinstance(console.file, io.StringIO)
    assert "a row" not in console.file.getvalue()


def test_durations_are_read_like_a_clock() -> None:
    assert [_duration(s) for s in (0.4, 59.6, 61, 3661)] == ["0:00", "1:00", "1:01", "1:01:01"]


def test_the_rate_is_the_recent_one_whatever_was_done_before_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    clock = SimpleNamespace(monotonic=lambda: now)
    monkeypatch.setattr("catdog_serving.cli.progress.time", clock)
    touch(tmp_path, "a.jpg")
    console = Console(file=io.StringIO(), force_terminal=False)
    with FolderProgress(find_sources([tmp_path]), console) as progress:
        for _ in range(50_000):
            progress.add(failed=False, reused=True)
        for _ in range(120):
            now += 0.5
            progress.add(failed=False)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert [", 2.0 images/s" in line for line in lines] == [True] * 6
