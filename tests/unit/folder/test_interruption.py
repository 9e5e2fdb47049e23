"""What an interrupted `catdog classify` says is done is what its journal holds."""

from pathlib import Path

import pytest
from rich.console import Console

from catdog_serving.folder.classify_run import ClassifyRun, run_classify
from catdog_serving.folder.journal import read_journal
from catdog_serving.folder.progress import FolderProgress
from tests.support.stub_backend import NameBackend, touch


def interrupt_at(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C after a row is written, and before it is counted."""
    add = FolderProgress.add

    def add_or_end(progress: FolderProgress, failed: bool) -> None:
        if progress.done + 1 == count:
            raise KeyboardInterrupt
        add(progress, failed)

    monkeypatch.setattr(FolderProgress, "add", add_or_end)


def test_it_is_the_rows_and_not_what_was_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    touch(tmp_path, *(f"{name}.jpg" for name in "abcde"))
    run = ClassifyRun((tmp_path,), format="jsonl", output=tmp_path / "out.jsonl")
    interrupt_at(3, monkeypatch)
    with NameBackend() as backend, pytest.raises(KeyboardInterrupt):
        run_classify(run, backend, Console())
    assert run.journal is not None
    assert len(list(read_journal(run.journal)[1])) == 3
    assert f"interrupted; 3 files are in {run.journal}; to go on" in capsys.readouterr().err


def test_after_a_resume_the_old_rows_are_counted_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    touch(tmp_path, *(f"{name}.jpg" for name in "bcde"))
    options = {"format": "csv", "output": tmp_path / "out.csv"}
    interrupt_at(4, monkeypatch)
    with NameBackend() as backend, pytest.raises(KeyboardInterrupt):
        run_classify(ClassifyRun((tmp_path,), **options), backend, Console())
    touch(tmp_path, "a.jpg")
    run = ClassifyRun((tmp_path,), resume=True, **options)
    interrupt_at(1, monkeypatch)
    with NameBackend() as backend, pytest.raises(KeyboardInterrupt):
        run_classify(run, backend, Console())
    assert run.journal is not None
    assert len(list(read_journal(run.journal)[1])) == 5
    first, second = capsys.readouterr().err.splitlines()
    assert "interrupted; 4 files are in " in first
    assert "interrupted; 5 files are in " in second
