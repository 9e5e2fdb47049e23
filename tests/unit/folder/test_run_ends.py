"""What a run that ends early says, and what of it is there by then."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from catdog_serving.cli.classify import run_classify
from catdog_serving.cli.options import errors
from catdog_serving.cli.progress import FolderProgress
from catdog_serving.errors import NotReadyError, RefusedError
from catdog_serving.folder.image_result import ImageResult
from catdog_serving.folder.run_options import RunOptions
from catdog_serving.folder.run_state import RunState
from catdog_serving.folder.state_file import state_of
from catdog_serving.remote_path import AnyPath
from tests.support.parsed_page import ParsedPage
from tests.support.resumed_runs import classify
from tests.support.stub_backend import MODEL, NameBackend, touch


def test_an_interruption_says_how_many_rows_are_kept_whatever_was_counted(
    album: Path, output: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add = FolderProgress.add

    def add_or_end(progress: FolderProgress, failed: bool, reused: bool = False) -> None:
        if progress.done == 2:
            raise KeyboardInterrupt
        add(progress, failed, reused)

    monkeypatch.setattr(FolderProgress, "add", add_or_end)
    for kept, options in ((3, {}), (3, {"resume": True})):
        with pytest.raises(KeyboardInterrupt):
            classify(album, output=output, **options)
        assert f"interrupted; {kept} files are in {output}.catdog" in capsys.readouterr().err


class Ends(NameBackend):
    """Ends in the middle, in some way."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self._error = error

    def classify_files(self, paths: Iterable[AnyPath]) -> Iterator[ImageResult]:
        for number, result in enumerate(super().classify_files(paths)):
            if number == 4:
                raise self._error
            yield result


@pytest.mark.parametrize(
    "error",
    [SystemExit(143), NotReadyError("full"), RefusedError("another model"), OSError(5, "a bug")],
    ids=repr,
)
def test_whatever_ends_a_run_it_says_how_to_go_on(
    error: BaseException, album: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(type(error)):
        classify(album, backend=Ends(error), output=output)
    said = capsys.readouterr().err
    assert f"4 files are in {output}.catdog; to go on: the same command with --resume" in said
    assert len(classify(album, output=output, resume=True)) == 18


def test_a_sorting_that_fails_says_how_to_go_on(
    album: Path, output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    touch(tmp_path, "sorted/cat", "sorted/neither")  # where folders should be
    options = {"sort_into": tmp_path / "sorted", "move": True}
    with pytest.raises(NotReadyError, match="and the same command with --resume goes on"):
        classify(album, output=output, **options)
    assert "to go on: the same command with --resume" in capsys.readouterr().err
    with pytest.raises(NotReadyError, match="and the same command goes on"):
        run_classify(RunOptions((album,), **options), NameBackend())  # type: ignore[arg-type]


def test_a_refusal_before_the_run_does_not_say_that_it_goes_on(
    album: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classify(album, output=output, keep_state=True)
    with pytest.raises(RefusedError, match="with the same"):
        classify(album / "cat.jpg", output=output, resume=True)
    assert "to go on" not in capsys.readouterr().err


def test_json_lines_are_a_live_stream(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = tmp_path / "pipe"
    lines: list[int] = []

    class Watched(NameBackend):
        def classify_files(self, paths: Iterable[AnyPath]) -> Iterator[ImageResult]:
            for result in super().classify_files(paths):
                lines.append(pipe.read_bytes().count(b"\n"))
                yield result

    with pipe.open("w") as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        run_classify(RunOptions((album,), format="jsonl"), Watched())
    assert lines == list(range(1, 23))  # the first says which model it is


@pytest.mark.parametrize("name", ["out.jsonl", "out.txt", "/dev/null"])
def test_an_output_ends_with_what_stands_in_it_and_the_first_reason(
    name: str, album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    touch(tmp_path / "more", "bad2.jpg", "notes.txt")
    output = tmp_path / name
    run_classify(RunOptions((album, tmp_path / "more"), output=output), NameBackend())
    written, reason = capsys.readouterr().err.splitlines()
    assert written.startswith(
        f"{output}: 23 files: 1 cat, 20 neither, 2 failed (1 other skipped) in "
    )
    assert reason == f"first failed: {album}/bad.jpg: cannot decode"


def test_an_empty_folder_prints_no_header(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(NotReadyError, match="holds no images"):
        run_classify(RunOptions((tmp_path,)), NameBackend())
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("error", [KeyboardInterrupt(), NotReadyError("no server")], ids=repr)
def test_a_run_that_ended_before_its_first_row_is_in_nobodys_way(
    error: BaseException, album: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class EndsAtOnce(NameBackend):
        def classify_files(self, paths: Iterable[AnyPath]) -> Iterator[ImageResult]:
            raise error
            yield

    with pytest.raises(type(error)):
        classify(album, backend=EndsAtOnce(), output=output)
    assert "--resume" not in capsys.readouterr().err
    assert list(output.parent.glob("out.*")) == []
    RunState.open(state_of(output), MODEL, "a kill leaves it").close()
    assert len(classify(album, output=output)) == 22


def test_the_page_of_a_run_that_moves_links_to_where_the_images_are_now(
    album: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    run_classify(
        RunOptions((album,), report=page, sort_into=tmp_path / "sorted", move=True), NameBackend()
    )
    items = ParsedPage(page).data["items"]
    links = {Path(item["path"]).name: item["link"] for item in items}
    assert links["cat.jpg"] == "./sorted/cat/cat.jpg"
    assert links["bad.jpg"] == "./sorted/failed/bad.jpg"
    assert all((tmp_path / link).exists() for link in links.values())


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({}, "with --resume instead of --dry-run"),
        ({"resume": True}, "without --dry-run"),
        ({"restart": True}, "with --resume instead of --restart and --dry-run"),
    ],
)
def test_a_dry_run_says_how_to_do_it(
    how: dict[str, bool],
    said: str,
    album: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sort = {"output": tmp_path / "out.csv", "sort_into": tmp_path / "sorted"}
    if how:
        classify(album, keep_state=True, **sort)  # type: ignore[arg-type]
        capsys.readouterr()
    classify(album, dry_run=True, **how, **sort)  # type: ignore[arg-type]
    assert capsys.readouterr().out.splitlines()[-1] == f"to do it: the same {said}"
    assert classify(album, resume=True, **sort) == []  # type: ignore[arg-type]
    assert (tmp_path / "sorted/cat/cat.jpg").exists()
    assert not state_of(tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("given", "on_stdout"),
    [({"output": "out.csv"}, True), ({}, True), ({"format": "json"}, False)],
    ids=str,
)
def test_the_plan_of_a_dry_run_is_its_result_and_quiet_keeps_it(
    given: dict[str, str],
    on_stdout: bool,
    album: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(errors, "quiet", True)
    options: dict[str, Any] = {
        **given,
        **({"output": Path("out.csv")} if "output" in given else {}),
    }
    run_classify(
        RunOptions((album,), sort_into=tmp_path / "sorted", dry_run=True, **options), NameBackend()
    )
    shown = capsys.readouterr()
    assert f"{album}/cat.jpg -> {tmp_path}/sorted/cat/cat.jpg" in (
        shown.out if on_stdout else shown.err
    )


@pytest.mark.parametrize(("move", "done"), [(False, "copied"), (True, "moved")])
def test_an_interruption_before_the_sorting_says_that_nothing_was_sorted(
    move: bool, done: str, album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = RunOptions((album,), sort_into=tmp_path / "sorted", move=move)
    with pytest.raises(KeyboardInterrupt):
        run_classify(options, Ends(KeyboardInterrupt()))
    said = f"interrupted; nothing was {done}; with --output FILE a run can be resumed\n"
    assert capsys.readouterr().err.endswith(said)
    assert not (tmp_path / "sorted").exists()


def test_an_interruption_of_the_sorting_does_not_say_that_nothing_was_copied(
    album: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def end(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("catdog_serving.cli.classify.sort_files", end)
    with pytest.raises(KeyboardInterrupt):
        run_classify(RunOptions((album,), sort_into=tmp_path / "sorted"), NameBackend())
    assert capsys.readouterr().err.endswith(
        "interrupted; what was copied stays, and the same command goes on\n"
    )
