import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catdog_serving.errors import NotReadyError, RefusedError, UsageError
from catdog_serving.folder.iterate import Shard, find_sources
from catdog_serving.folder.journal import Journal, read_journal, to_line
from catdog_serving.folder.merge import merge_journals
from catdog_serving.folder.process import process_sources
from catdog_serving.folder.remote_path import AnyPath
from catdog_serving.folder.rows import ImageResult, ModelName, Row
from tests.stub_backend import MODEL, NameBackend, touch


def run(
    folder: Path, journal: Path, stop_after: int | None = None, shard: Shard | None = None
) -> None:
    """Classify into a journal; after `stop_after` rows end as a killed process does."""
    opened = Journal(journal, MODEL, resume=True)
    written = 0

    def write(row: Row) -> None:
        nonlocal written
        if written == stop_after:
            raise KeyboardInterrupt
        opened.write(row)
        written += 1

    try:
        process_sources(find_sources([folder], (), shard), NameBackend(), write, opened.old_rows())
    except KeyboardInterrupt:
        for file in (opened._file, opened._lock):  # all that the system does for it
            file.close()
        raise
    opened.finish()
    opened.close()


def killed(folder: Path, journal: Path, stop_after: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(folder, journal, stop_after)


def rows_of(path: Path) -> list[Row]:
    return list(read_journal(path)[1])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    touch(tmp_path / "album", *(f"{number:02}.jpg" for number in range(20)), "bad.jpg", "cat.jpg")
    return tmp_path / "album"


@pytest.fixture
def whole(folder: Path, tmp_path: Path) -> bytes:
    run(folder, tmp_path / "whole.jsonl")
    return (tmp_path / "whole.jsonl").read_bytes()


def test_the_first_line_names_the_model_and_has_no_path(whole: bytes) -> None:
    first, second = map(json.loads, whole.splitlines()[:2])
    assert first == {"catdog_journal": 1} | MODEL.to_dict()
    assert "path" not in first
    assert second["path"].endswith("00.jpg")


@given(stops=st.lists(st.integers(0, 21), max_size=4), torn=st.integers(0, 300))
@settings(max_examples=40, deadline=None)
def test_killed_anywhere_again_and_again_nothing_is_lost_or_doubled(
    tmp_path_factory: pytest.TempPathFactory, stops: list[int], torn: int
) -> None:
    base = tmp_path_factory.mktemp("kill")
    album, journal = base / "album", base / "out.jsonl"
    touch(album, *(f"{number:02}.jpg" for number in range(20)), "bad.jpg", "cat.jpg")
    run(album, base / "whole.jsonl")
    for number, stop in enumerate(stops):
        try:
            run(album, journal, stop)
        except KeyboardInterrupt:
            grown = next(p for p in (base / "out.jsonl.part", journal) if p.exists())
            content = grown.read_bytes()
            grown.write_bytes(content[: len(content) - torn * (number % 2)])  # a torn write
    run(album, journal)
    assert journal.read_bytes() == (base / "whole.jsonl").read_bytes()
    assert sorted(path.name for path in base.iterdir()) == ["album", "out.jsonl", "whole.jsonl"]


def test_changes_between_two_kills_are_seen(folder: Path, tmp_path: Path) -> None:
    journal = tmp_path / "out.jsonl"
    killed(folder, journal, 15)
    (folder / "03.jpg").write_text("changed")
    (folder / "10.jpg").unlink()
    touch(folder, "05a.jpg")
    killed(folder, journal, 8)  # in the middle of the old rows
    (folder / "05a.jpg").write_text("changed again")
    run(folder, journal)
    run(folder, tmp_path / "whole.jsonl")
    assert rows_of(journal) == rows_of(tmp_path / "whole.jsonl")


def test_an_interrupted_resume_keeps_what_it_did_not_reach(folder: Path, tmp_path: Path) -> None:
    journal = tmp_path / "out.jsonl"
    killed(folder, journal, 15)
    before = rows_of(journal)
    with Journal(journal, MODEL, resume=True) as opened:
        old = opened.old_rows()
        for _ in range(4):
            opened.write(next(old))
    assert rows_of(journal) == before
    assert not (tmp_path / "out.jsonl.part").exists()


class Gone(NameBackend):
    """Looks at all files before its first answer, and is lost then, as a cluster may be."""

    done_ahead = 1000

    def classify_files(self, paths: Iterable[AnyPath]) -> Iterator[ImageResult]:
        list(paths)
        raise KeyboardInterrupt
        yield


@pytest.mark.parametrize("is_killed", [True, False])
def test_rows_that_were_read_ahead_are_not_lost(
    folder: Path, tmp_path: Path, is_killed: bool
) -> None:
    journal = tmp_path / "out.jsonl"
    run(folder, journal)
    before = rows_of(journal)
    touch(folder, "00a.jpg", "z.jpg")
    opened = Journal(journal, MODEL, resume=True)
    with pytest.raises(KeyboardInterrupt):
        process_sources(find_sources([folder]), Gone(), opened.write, opened.old_rows())
    if is_killed:
        for file in (opened._file, opened._lock):
            file.close()
    else:
        opened.close()
    assert rows_of(journal) == before
    run(folder, journal)
    run(folder, tmp_path / "whole.jsonl")
    assert rows_of(journal) == rows_of(tmp_path / "whole.jsonl")


def test_old_rows_of_files_that_are_gone_go_at_the_end(folder: Path, tmp_path: Path) -> None:
    journal = tmp_path / "out.jsonl"
    run(folder, journal)
    for name in ("00.jpg", "bad.jpg", "cat.jpg"):  # the last ones, too
        (folder / name).unlink()
    run(folder, journal)
    run(folder, tmp_path / "whole.jsonl")
    assert rows_of(journal) == rows_of(tmp_path / "whole.jsonl")
    assert not (tmp_path / "out.jsonl.part").exists()


def test_results_of_two_models_are_not_mixed(whole: bytes, tmp_path: Path) -> None:
    other = ModelName("net", "ids", "int8")
    with pytest.raises(RefusedError, match="holds results of net ids, fp32, and this is net ids"):
        Journal(tmp_path / "whole.jsonl", other, resume=True)
    assert (tmp_path / "whole.jsonl").read_bytes() == whole


def test_an_earlier_run_is_never_overwritten(whole: bytes, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="go on with it by --resume, or delete it"):
        Journal(tmp_path / "whole.jsonl", MODEL, resume=False)
    assert (tmp_path / "whole.jsonl").read_bytes() == whole


def test_two_processes_do_not_write_one_journal(tmp_path: Path) -> None:
    with Journal(tmp_path / "out.jsonl", MODEL, resume=False):
        with pytest.raises(NotReadyError, match="another catdog is writing"):
            Journal(tmp_path / "out.jsonl", MODEL, resume=True)


def test_another_file_is_not_taken_for_a_journal(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text('{"some": "json"}\n')
    with pytest.raises(RefusedError, match="is no journal of catdog"):
        Journal(tmp_path / "out.jsonl", MODEL, resume=True)
    assert (tmp_path / "out.jsonl").read_text() == '{"some": "json"}\n'


def test_a_broken_line_in_the_middle_is_named(whole: bytes, tmp_path: Path) -> None:
    lines = whole.splitlines(keepends=True)
    lines[3] = lines[3][:40] + b"\n"
    (tmp_path / "broken.jsonl").write_bytes(b"".join(lines))
    with pytest.raises(RefusedError, match="line 4, is broken"):
        rows_of(tmp_path / "broken.jsonl")


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotReadyError, match="cannot write .*: Not a directory"):
        Journal(tmp_path / "file" / "out.jsonl", MODEL, resume=False)


@pytest.mark.parametrize("name", ["a\udcffb.jpg", "ünï.jpg", 'q"uo\\te.jpg', "new\nline.jpg"])
def test_every_name_survives(name: str) -> None:
    line = to_line({"path": name})
    assert line.count(b"\n") == 1
    assert json.loads(line.decode()) == {"path": name}  # is UTF-8, whatever the name is


def test_a_journal_whose_resume_was_killed_is_not_merged(folder: Path, tmp_path: Path) -> None:
    """What is newer is not in it yet."""
    journal = tmp_path / "out.jsonl"
    run(folder, journal)
    touch(folder, "00a.jpg")
    killed(folder, journal, 5)
    with pytest.raises(RefusedError, match="--resume did not end"):
        merge_journals(tmp_path / "all.jsonl", [journal])
    run(folder, journal)
    assert merge_journals(tmp_path / "all.jsonl", [journal]).rows == 23


@pytest.mark.parametrize("content", [None, "[1]\n", "5\n"])
def test_what_is_no_journal_is_one_line(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    if content is None:
        path.mkdir()
    else:
        path.write_text(content)
    with pytest.raises((RefusedError, NotReadyError), match=r"cannot read|is no journal"):
        merge_journals(tmp_path / "all.jsonl", [path])


def test_shards_merge_into_what_one_run_writes(folder: Path, whole: bytes, tmp_path: Path) -> None:
    parts = [tmp_path / f"{index}.jsonl" for index in range(3)]
    for index, part in enumerate(parts):
        run(folder, part, shard=Shard(index, 3))
    report = merge_journals(tmp_path / "merged.jsonl", parts[::-1])
    assert (tmp_path / "merged.jsonl").read_bytes() == whole
    assert (report.rows, report.failed, report.repeated) == (22, 1, 0)


def test_of_two_rows_of_one_file_a_prediction_wins(tmp_path: Path) -> None:
    failed = {"path": "a.jpg", "error": {"type": "Unreadable", "message": "x"}}
    good = {"path": "a.jpg", "label": "cat"}
    for name, row in (("1", failed), ("2", good), ("3", failed)):
        with Journal(tmp_path / name, MODEL, resume=False) as journal:
            journal.write(row)
    report = merge_journals(tmp_path / "out", [tmp_path / n for n in "123"])
    assert rows_of(tmp_path / "out") == [good]
    assert report.repeated == 2


def test_merging_refuses_other_models_existing_files_and_disorder(tmp_path: Path) -> None:
    for name, model in (("1", MODEL), ("2", ModelName("net", "ids", "int8"))):
        Journal(tmp_path / name, model, resume=False).close()
    with pytest.raises(RefusedError, match="of two models are not merged"):
        merge_journals(tmp_path / "out", [tmp_path / "1", tmp_path / "2"])
    with pytest.raises(UsageError, match="exists"):
        merge_journals(tmp_path / "2", [tmp_path / "1"])
    with pytest.raises(NotReadyError, match="there is no journal"):
        merge_journals(tmp_path / "out", [tmp_path / "3"])
    with Journal(tmp_path / "4", MODEL, resume=False) as journal:
        journal.write({"path": "b"})
        journal.write({"path": "a"})
    with pytest.raises(RefusedError, match="line 3: a is out of order"):
        merge_journals(tmp_path / "out", [tmp_path / "4"])
    assert not (tmp_path / "out").exists()


def test_old_rows_are_read_as_they_are_taken(whole: bytes, tmp_path: Path) -> None:
    _, rows = read_journal(tmp_path / "whole.jsonl")
    assert isinstance(rows, Iterator)
    assert next(rows)["path"].endswith("00.jpg")
