"""What a folder run may write: never over what it reads, and never over a stranger's file."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from catdog_serving.errors import RefusedError, UsageError
from catdog_serving.folder.classify_run import ClassifyRun, run_classify
from catdog_serving.folder.find_files import Shard
from catdog_serving.folder.journal import read_journal
from catdog_serving.folder.remote_path import parse_path
from tests.support.stub_backend import NameBackend, touch

FORMATS = ("table", "json", "jsonl", "csv", "parquet")


def classify(*paths: object, **options: object) -> None:
    run = ClassifyRun(paths=tuple(parse_path(str(path)) for path in paths), **options)  # type: ignore[arg-type]
    run_classify(run, NameBackend(), Console(quiet=True))


def everything(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def album(tmp_path: Path) -> Path:
    touch(tmp_path / "album", "cat.png", "cup.png", "sub/cup.png", "notes.txt", "old.csv")
    (tmp_path / "album/none.png").touch()  # nothing in it tells that it is no journal
    return tmp_path / "album"


def itself(image: Path, base: Path) -> Path:
    return image


def through_a_symbolic_link(image: Path, base: Path) -> Path:
    (base / "out").symlink_to(image)
    return base / "out"


def through_a_hard_link(image: Path, base: Path) -> Path:
    (base / "out").hardlink_to(image)
    return base / "out"


def through_a_linked_folder(image: Path, base: Path) -> Path:
    (base / "out").symlink_to(image.parent)
    return base / "out" / image.name


def relative(image: Path, base: Path) -> Path:
    return Path(os.path.relpath(image))


NAMES = (
    *(itself, relative),
    *(through_a_symbolic_link, through_a_hard_link, through_a_linked_folder),
)


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("image", ["sub/cup.png", "none.png"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("output_format", ["jsonl", "csv"])
def test_an_output_is_none_of_the_images_of_a_folder(
    output_format: str,
    name: Callable[[Path, Path], Path],
    image: str,
    resume: bool,
    album: Path,
    tmp_path: Path,
) -> None:
    output = name(album / image, tmp_path)
    before = everything(tmp_path)
    with pytest.raises(UsageError, match="is to be read"):
        classify(album, format=output_format, output=output, resume=resume)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("option", ["output", "report"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("by_glob", [False, True])
def test_an_output_is_no_file_that_is_read_whatever_its_suffix(
    by_glob: bool, name: Callable[[Path, Path], Path], option: str, album: Path, tmp_path: Path
) -> None:
    output = name(album / "notes.txt", tmp_path)
    before = everything(tmp_path)
    path = album if by_glob else album / "notes.txt"
    patterns = ("*.txt",) if by_glob else ()
    with pytest.raises(UsageError, match="is to be read"):
        classify(path, patterns=patterns, format="csv", **{option: output})
    assert everything(tmp_path) == before


def test_a_file_with_a_uri_is_a_file_of_this_machine(album: Path) -> None:
    for uri in (f"file://{album}", f"file://{album}/cup.png"):
        with pytest.raises(UsageError, match="is to be read"):
            classify(uri, remote=True, format="csv", output=album / "cup.png")


def test_an_image_behind_a_linked_folder_is_read_too(album: Path, tmp_path: Path) -> None:
    touch(tmp_path, "more/cat.png")
    (album / "more").symlink_to(tmp_path / "more")
    with pytest.raises(UsageError, match="is to be read"):
        classify(album, format="csv", output=tmp_path / "more/cat.png")
    assert (tmp_path / "more/cat.png").read_text() == "more/cat.png"


@pytest.mark.parametrize("suffix", [".journal.jsonl", ".journal.jsonl.part"])
def test_a_journal_is_no_image_either(suffix: str, album: Path, tmp_path: Path) -> None:
    (tmp_path / f"out.csv{suffix}").symlink_to(album / "none.png")
    with pytest.raises(UsageError, match="is to be read"):
        classify(album, format="csv", output=tmp_path / "out.csv", resume=True)
    assert (album / "none.png").read_bytes() == b""


def test_an_image_of_another_shard_is_an_image(album: Path) -> None:
    for index in range(2):
        with pytest.raises(UsageError, match="is to be read"):
            classify(album, format="csv", output=album / "cup.png", shard=Shard(index, 2))


def test_a_folder_is_no_output(album: Path) -> None:
    with pytest.raises(UsageError, match="is to be read"):
        classify(album, format="csv", output=album)


def test_a_page_does_not_replace_the_results(album: Path, tmp_path: Path) -> None:
    for format_, report in (("jsonl", "out"), ("csv", "out"), ("csv", "out.journal.jsonl")):
        with pytest.raises(UsageError, match="--report needs a name of its own"):
            classify(album, format=format_, output=tmp_path / "out", report=tmp_path / report)


@pytest.mark.parametrize("output_format", FORMATS)
def test_what_is_not_read_may_lie_in_the_folder_and_is_replaced(
    output_format: str, album: Path
) -> None:
    """As ever: the result of this run takes the place of that of the one before."""
    touch(album, "old.jpg.csv")
    output = album / ("old.csv" if output_format != "jsonl" else "new.jsonl")
    classify(album, format=output_format, output=output, report=album / "page.html")
    assert output.read_bytes() not in (b"old.csv", b"")
    (album / f"{output.name}.journal.jsonl").unlink(missing_ok=True)
    assert (album / "cat.png").read_text() == "cat.png"


@pytest.mark.parametrize("options", [{"output": "notes"}, {"report": "notes"}])
@pytest.mark.parametrize("part", ["", ".part"])
@pytest.mark.parametrize("output_format", ["jsonl", "csv"])
def test_a_strangers_file_is_not_taken_for_the_journal(
    output_format: str, part: str, options: dict[str, str], album: Path, tmp_path: Path
) -> None:
    named = {option: tmp_path / name for option, name in options.items()}
    run = ClassifyRun(paths=(album,), format=output_format, resume=True, **named)  # type: ignore[arg-type]
    assert run.journal is not None
    stranger = run.journal.with_name(run.journal.name + part)
    stranger.write_text("my notes\nand more")
    before = everything(tmp_path)
    with pytest.raises(RefusedError, match="is no journal of catdog"):
        run_classify(run, NameBackend(), Console(quiet=True))
    assert everything(tmp_path) == before


def test_a_run_is_resumed_into_its_own_journal(album: Path, tmp_path: Path) -> None:
    for resume in (False, True):
        classify(album, format="csv", output=tmp_path / "out.csv", resume=resume)
    assert len(list(read_journal(tmp_path / "out.csv.journal.jsonl")[1])) == 4
