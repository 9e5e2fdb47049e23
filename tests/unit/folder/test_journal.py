import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catdog.results import ModelId
from catdog_serving.errors import NotReadyError, RefusedError, UsageError
from catdog_serving.folder.find_files import Shard, find_sources
from catdog_serving.folder.journal import Journal, first_line, read_journal, to_line
from catdog_serving.folder.merge import merge_journals
from catdog_serving.folder.process_folder import process_sources
from catdog_serving.folder.remote_path import AnyPath
from catdog_serving.folder.rows import ImageResult, Row
from tests.support.stub_backend import MODEL, NameBackend, touch


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
@settings(max_examples=40)
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
    other = ModelId("net", "ids", "int8")
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


OURS = to_line(first_line(MODEL))
STRANGERS = {
    "text": b"my notes",
    "text with a torn line": b"my notes\nof last week",
    "json": b'{"some": "json"}\n{"more": 1}',
    "list": b"[1]\n",
    "number": b"5\n",
    "deep": b"[" * 10_000 + b"\n",
    "bytes": b"\xff\xd8\xff\xe0\n\x00",
    "long line": b"x" * 1_000_000,
    "almost a journal": b'{"catdog_journal":1}\n',
    "torn line of another model": to_line(first_line(ModelId("other", "ids", "fp32")))[:-5],
    "torn line that goes on": OURS[:-3] + b"...",
    "blank line before": b"\n" + OURS,
}


def listing(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.part"])
@pytest.mark.parametrize("with_journal", [True, False])
@pytest.mark.parametrize("content", STRANGERS.values(), ids=STRANGERS)
def test_a_strangers_file_stays_as_it_is(
    content: bytes, with_journal: bool, name: str, tmp_path: Path
) -> None:
    if with_journal:
        with Journal(tmp_path / "out.jsonl", MODEL, resume=False) as journal:
            journal.write({"path": "a.jpg"})
    (tmp_path / name).write_bytes(content)
    os.utime(tmp_path / name, ns=(10**18, 10**18))
    before = listing(tmp_path)
    with pytest.raises(RefusedError, match=f"{name} is no journal of catdog") as refused:
        Journal(tmp_path / "out.jsonl", MODEL, resume=True)
    assert str(refused.value).count("\n") == 0
    assert listing(tmp_path) == before


@pytest.mark.parametrize("suffix", ["", ".part"])
def test_what_is_no_file_is_not_waited_for(suffix: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / f"out.jsonl{suffix}")
    with pytest.raises(RefusedError, match="is no journal of catdog"):
        Journal(tmp_path / "out.jsonl", MODEL, resume=True)


@pytest.mark.parametrize("length", [0, 1, 18, 40, len(OURS) - 1, len(OURS)])
@pytest.mark.parametrize("torn", ["out.jsonl", "out.jsonl.part"])
def test_a_kill_during_the_first_write_can_be_resumed(
    torn: str, length: int, folder: Path, tmp_path: Path
) -> None:
    journal = tmp_path / "out.jsonl"
    if torn.endswith(".part"):
        killed(folder, journal, 5)
    (tmp_path / torn).write_bytes(OURS[:length])
    run(folder, journal)
    run(folder, tmp_path / "whole.jsonl")
    assert journal.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert not (tmp_path / "out.jsonl.part").exists()


def test_results_of_another_model_are_not_even_cut(whole: bytes, tmp_path: Path) -> None:
    (tmp_path / "whole.jsonl").write_bytes(whole[:-5])
    (tmp_path / "album.jsonl.part").write_bytes(whole[:-5])
    for name in ("whole.jsonl", "album.jsonl"):
        with pytest.raises(RefusedError, match="holds results of net ids, fp32"):
            Journal(tmp_path / name, ModelId("net", "ids", "int8"), resume=True)
    assert (tmp_path / "whole.jsonl").read_bytes() == whole[:-5]
    assert (tmp_path / "album.jsonl.part").read_bytes() == whole[:-5]
    assert not (tmp_path / "album.jsonl").exists()


def test_a_part_whose_journal_is_gone_is_gone_on_with(folder: Path, tmp_path: Path) -> None:
    journal = tmp_path / "out.jsonl"
    killed(folder, journal, 15)
    killed(folder, journal, 8)
    journal.unlink()
    run(folder, journal)
    run(folder, tmp_path / "whole.jsonl")
    assert journal.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


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


@pytest.mark.parametrize("content", STRANGERS.values(), ids=STRANGERS)
def test_merge_reads_and_replaces_no_strangers_file(content: bytes, tmp_path: Path) -> None:
    Journal(tmp_path / "ours", MODEL, resume=False).close()
    (tmp_path / "notes").write_bytes(content)
    before = listing(tmp_path)
    with pytest.raises(RefusedError, match="notes is no journal of catdog"):
        merge_journals(tmp_path / "all.jsonl", [tmp_path / "ours", tmp_path / "notes"])
    with pytest.raises(UsageError, match="exists"):
        merge_journals(tmp_path / "notes", [tmp_path / "ours"])
    assert listing(tmp_path) == before


@pytest.mark.parametrize("kind", ["itself", "symbolic link", "hard link"])
def test_merge_does_not_write_what_it_reads(kind: str, whole: bytes, tmp_path: Path) -> None:
    output, journal = tmp_path / "out", tmp_path / "whole.jsonl"
    if kind == "itself":
        output = journal
    elif kind == "symbolic link":
        output.symlink_to(journal)
    else:
        output.hardlink_to(journal)
    with pytest.raises(UsageError, match="exists"):
        merge_journals(output, [journal])
    assert journal.read_bytes() == whole


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").mkdir()
    with pytest.raises(NotReadyError, match="cannot read"):
        merge_journals(tmp_path / "all.jsonl", [tmp_path / "x.jsonl"])


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
    for name, model in (("1", MODEL), ("2", ModelId("net", "ids", "int8"))):
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
