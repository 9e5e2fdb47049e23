"""No file's name moves the cursor, colours the terminal or looks like a line of its own."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.table import Table

from catdog_serving.cli import merge
from catdog_serving.cli.classify import run_classify
from catdog_serving.cli.evaluate import print_evaluation
from catdog_serving.cli.options import console, progress
from catdog_serving.evaluation.evaluation import evaluate_folder
from catdog_serving.folder.run_options import RunOptions
from tests.support.command_line import catdog_here
from tests.support.stub_backend import NameBackend, touch

NAMES = (
    *("a\x1b[2J.jpg", "b\x9b2J.jpg", "c\nfailed  x.jpg", "d\u202e.jpg", "e\udcff.jpg"),
    "f\r\x07\x08.jpg",
)


def classify_all(base: Path, **given: object) -> None:
    options = RunOptions((base / "album",), sort_into=base / "sorted", **given)  # type: ignore[arg-type]
    run_classify(options, NameBackend())


def dry_run(base: Path) -> int:
    classify_all(base, dry_run=True)
    return 2 * len(NAMES) + 7  # a header, a blank line, three of summary, the model, the counts


def left_alone(base: Path) -> int:
    class Changing(NameBackend):
        def classify_files(self, paths):  # type: ignore[no-untyped-def]
            yield from super().classify_files(paths)
            for path in (base / "album").iterdir():
                path.write_text("changed since")

    options = RunOptions((base / "album",), sort_into=base / "sorted", output=base / "out.csv")
    run_classify(options, Changing())
    return len(NAMES) + 2


def evaluation(base: Path) -> int:
    touch(base / "set/cats", *NAMES)
    touch(base / "set/dogs", *(f"bad {name}" for name in NAMES))
    print_evaluation(evaluate_folder(base / "set", NameBackend(), lambda failed: None), console)
    return len(NAMES) + 14


def missing(base: Path) -> int:
    for name in NAMES:
        print(catdog_here("evaluate", base / name).stderr, end="")
    return len(NAMES) + 1  # the rest of an error that holds a new line is indented


def tables_and_steps(base: Path) -> int:
    for name in NAMES:
        table = Table("heading", box=None)
        table.add_row(name.replace("\n", ""))
        console.print(table)
        with progress() as on_step:
            on_step(f"archive  {name}")
    return 3 * len(NAMES)


def merged(base: Path) -> int:
    for name in NAMES:
        merge.merge(base / name, [])
    return len(NAMES)


@pytest.mark.parametrize(
    "command", [dry_run, left_alone, evaluation, missing, tables_and_steps, merged]
)
def test_no_name_reaches_the_terminal_raw(
    command: Callable[[Path], int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    touch(tmp_path / "album", *NAMES)
    monkeypatch.setattr(
        merge, "merge_states", lambda *_: SimpleNamespace(rows=2, failed=0, repeated=0)
    )
    lines = command(tmp_path)
    text = b"".join(capfdbinary.readouterr()).decode()
    assert [c for c in text if c != "\n" and not c.isprintable()] == []
    assert "\nfailed  x" not in text
    assert len(text.splitlines()) == lines


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_name_that_the_terminal_cannot_show_is_no_bug(encoding: str, tmp_path: Path) -> None:
    touch(tmp_path / "album", *NAMES, "g….jpg")
    program = f"""
from pathlib import Path
import catdog_serving.cli as cli
from tests.unit.cli.test_terminal import classify_all
cli.app = lambda: classify_all(Path({str(tmp_path)!r}), dry_run=True)
cli.main()
"""
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=False,
        env={"PYTHONIOENCODING": f"{encoding}:strict", "PATH": "/usr/bin:/bin"},
    )
    assert (result.returncode, result.stderr) == (0, b"")
    shown = {"utf-8": "g…", "latin-1": "g\\u2026"}[encoding]
    assert result.stdout.count(f"{shown}.jpg".encode()) == 3  # its row, from where, to where
