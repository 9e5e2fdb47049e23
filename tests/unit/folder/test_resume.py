"""Runs that are killed, interrupted and resumed: the rows are those of one run."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from catdog_serving.cli.classify import run_classify
from catdog_serving.errors import CatDogError, NotReadyError, RefusedError
from catdog_serving.folder.image_result import ImageResult
from catdog_serving.folder.merge import merge_states
from catdog_serving.folder.run_options import RunOptions
from tests.support.albums import rows_of
from tests.support.resumed_runs import classify, interrupted
from tests.support.run_states import left_beside, rows_done
from tests.support.stub_backend import NameBackend, touch


def test_changes_between_two_interruptions_are_seen(
    album: Path, output: Path, tmp_path: Path
) -> None:
    interrupted(album, after=15, output=output)
    (album / "03.jpg").write_text("changed")
    (album / "10.jpg").unlink()
    touch(album, "05a.jpg")
    interrupted(album, after=2, output=output, resume=True)
    (album / "05a.jpg").write_text("changed again")
    asked = classify(album, output=output, resume=True)
    assert asked == ["05a.jpg", *(f"{n}.jpg" for n in range(15, 20)), "bad.jpg", "cat.jpg"]
    classify(album, output=tmp_path / "whole.jsonl")
    assert rows_of(output) == rows_of(tmp_path / "whole.jsonl")


class Gone(NameBackend):
    """Looks at all files before its first answer, and is lost then, as a cluster may be."""

    def classify_files(self, paths: Iterable[Path]) -> Iterator[ImageResult]:
        list(paths)
        raise KeyboardInterrupt
        yield


def test_rows_of_files_that_the_walk_has_passed_are_not_lost(album: Path, output: Path) -> None:
    interrupted(album, after=15, output=output)
    with pytest.raises(KeyboardInterrupt):
        classify(album, backend=Gone(), output=output, resume=True)
    assert rows_done(output) == 15
    assert len(classify(album, output=output, resume=True)) == 7


def test_rows_of_files_that_are_gone_go(album: Path, output: Path, tmp_path: Path) -> None:
    classify(album, output=output, keep_state=True)
    for name in ("00.jpg", "bad.jpg", "cat.jpg"):
        (album / name).unlink()
    assert classify(album, output=output, resume=True, keep_state=True) == []
    classify(album, output=tmp_path / "whole.jsonl")
    assert rows_of(output) == rows_of(tmp_path / "whole.jsonl")
    assert rows_done(output) == 19


def test_a_run_goes_on_with_the_same_selection_only(album: Path, output: Path) -> None:
    interrupted(album, after=3, output=output, exclude=("bad*",))
    for other in ((), ("cat*",)):
        with pytest.raises(RefusedError, match="--exclude"):
            classify(album, output=output, resume=True, exclude=other)
    assert "bad.jpg" not in classify(album, output=output, resume=True, exclude=("bad*",))
    assert len(rows_of(output)) == 21


def test_a_refused_resume_leaves_the_run_at_its_end(
    album: Path, output: Path, tmp_path: Path
) -> None:
    touch(tmp_path / "more", "x.jpg")
    classify(album, tmp_path / "more", output=output, keep_state=True)
    with pytest.raises(RefusedError, match="with the same"):
        classify(album, output=output, resume=True)
    (tmp_path / "more/x.jpg").unlink()
    with pytest.raises(NotReadyError, match="holds no images"):
        classify(album, tmp_path / "more", output=output, resume=True)
    assert merge_states(tmp_path / "all.csv", [tmp_path / "out.jsonl.catdog"]).rows == 23
    touch(album, "new.jpg")
    interrupted(album, tmp_path / "more", after=0, output=output, resume=True)
    assert merge_states(tmp_path / "again.csv", [tmp_path / "out.jsonl.catdog"]).rows == 23
    with pytest.raises(NotReadyError, match="holds no images"):
        classify(album, tmp_path / "more", output=output, resume=True)
    with pytest.raises(RefusedError, match="did not end"):
        merge_states(tmp_path / "no.csv", [tmp_path / "out.jsonl.catdog"])


def test_a_run_without_images_leaves_no_state_that_the_next_is_refused_for(
    album: Path, output: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for resume in (False, True):
        with pytest.raises(NotReadyError, match="holds no images"):
            classify(album, tmp_path / "empty", output=output, resume=resume)
        assert left_beside(output) == []


def test_a_done_file_outside_of_this_run_is_never_dropped(
    album: Path, output: Path, tmp_path: Path
) -> None:
    touch(tmp_path / "more", "x.jpg")
    classify(album, tmp_path / "more", output=output, keep_state=True)
    for paths, options in (
        ((album,), {}),
        ((tmp_path / "more",), {}),
        ((album, tmp_path / "more"), {"patterns": ("*.jpg",)}),
    ):
        with pytest.raises(RefusedError, match="with the same"):
            classify(*paths, output=output, resume=True, **options)
    assert rows_done(output) == 23


def test_only_what_could_not_be_read_is_tried_again(
    album: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (album / "link.jpg").symlink_to(album.parent / "target")
    classify(album, output=output)
    assert left_beside(output) == [""]
    said = capsys.readouterr().err
    assert "1 files could not be read" in said
    assert "--resume tries them again" in said
    touch(album.parent, "target")
    assert classify(album, output=output, resume=True) == ["link.jpg"]
    assert left_beside(output) == []
    assert not any(row.get("error", {}).get("type") == "Unreadable" for row in rows_of(output))


@pytest.mark.parametrize("by", ["its name", "a symbolic link", "a hard link"])
def test_the_runs_own_files_are_no_images(by: str, album: Path) -> None:
    """Whatever --glob takes; so such a run can be resumed."""
    output = album / "out.jsonl"
    interrupted(album, after=5, output=output, patterns=("*",))
    if by == "a symbolic link":
        (album / "link.jpg").symlink_to("out.jsonl.catdog")
    elif by == "a hard link":
        (album / "link.jpg").hardlink_to(album / "out.jsonl.catdog")
    classify(album, output=output, patterns=("*",), resume=True)
    assert len(rows_of(output)) == 22


def test_names_that_are_not_utf_8_are_resumed_too(tmp_path: Path, output: Path) -> None:
    album = tmp_path / "alb\udcffum"
    touch(album, *(f"{number}-\udcfe-é.jpg" for number in range(9)))
    interrupted(album, after=4, output=output)
    assert len(classify(album, output=output, resume=True)) == 5
    assert [row["path"] for row in rows_of(output)] == sorted(map(str, album.iterdir()))


def test_what_is_shown_as_it_comes_is_in_order_after_a_resume(
    album: Path, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Rows that were there, and new ones between them."""
    page = tmp_path / "page.html"
    options = RunOptions((album,), report=page, format="jsonl", keep_state=True)
    run_classify(options, NameBackend())
    first = capsysbinary.readouterr().out
    for name in ("00.jpg", "07.jpg", "cat.jpg"):
        os.utime(album / name, ns=(1, 1))
    options = RunOptions((album,), report=page, format="jsonl", resume=True)
    run_classify(options, NameBackend())
    again = capsysbinary.readouterr().out

    def names(lines: bytes) -> list[bytes]:
        return [line.partition(b'"size"')[0] for line in lines.splitlines()]

    assert names(again) == names(first)
    assert len(names(again)) == 23


def test_a_named_file_that_is_missing_makes_no_state(album: Path, output: Path) -> None:
    for options in ({}, {"resume": True}):
        with pytest.raises(NotReadyError, match="there is no file or folder"):
            classify(album / "none.jpg", output=output, **options)
        assert left_beside(output) == []


def test_restart_classifies_everything_again(album: Path, output: Path) -> None:
    interrupted(album, after=5, output=output)
    with pytest.raises(RefusedError, match="by --resume, or begin again by --restart"):
        classify(album, output=output)
    assert len(classify(album, output=output, restart=True)) == 22


def test_nothing_is_kept_of_a_run_without_outputs(
    album: Path, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    for output_format in ("table", "json", "csv", "jsonl"):
        run_classify(RunOptions((album,), format=output_format), NameBackend())
        assert b"cat.jpg" in capsysbinary.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
def test_a_run_of_the_first_edition_is_refused_and_stays(name: str, album: Path) -> None:
    output = album.parent / name
    journal = output if name == "out.jsonl" else album.parent / f"{name}.journal.jsonl"
    line = b'{"catdog_journal":1,"network":"net"}\n'
    journal.write_bytes(line)
    for options in ({}, {"resume": True}):
        with pytest.raises(CatDogError, match=r"journal of catdog 0\.1.* by --restart"):
            classify(album, output=output, **options)
        assert journal.read_bytes() == line
    assert len(classify(album, output=output, restart=True)) == 22
    assert classify(album, output=output.with_name("new.csv")) != []
