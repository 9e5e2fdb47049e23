"""The state of a run: rows that come back, and files that are not ours."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from catdog.results import ActivationMap, Box, ModelId
from catdog_serving.errors import NotReadyError, RefusedError
from catdog_serving.folder.image_result import FileInfo, ImageResult
from catdog_serving.folder.merge import merge_states, read_state
from catdog_serving.folder.run_state import RunState
from catdog_serving.folder.state_file import APPLICATION_ID
from tests.support.paths import ROOT
from tests.support.run_states import ended, held, listing
from tests.support.state_rows import failure, image
from tests.support.stub_backend import MODEL, prediction

OTHER = ModelId("net", "ids", "int8")
FIRST_EDITION = b'{"catdog_journal":1,"network":"net","weights":"ids","precision":"fp32"}\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.csv.catdog"


def test_rows_come_back_as_they_were_put_in_the_order_of_the_walk(path: Path) -> None:
    shown = ActivationMap((100, 60), (0, 0, 100, 60), ((0.0, 1.0),))
    answer = replace(prediction("dog", 0.1, 0.8), box=Box(1, 2, 3, 4), map=shown)
    rows = [
        image("a/x.jpg"),
        ImageResult(FileInfo(Path("a/z.jpg"), 1, 2, "cd"), answer),
        failure("a b.jpg"),
        image("a-b.jpg"),
        image("a.jpg"),
    ]
    with RunState.open(path, MODEL) as state:
        for row in (rows[3], *rows[:3], rows[4], image("a.jpg", "dog"), rows[4]):
            state.put(row)
        assert list(state.rows()) == rows
        assert state.count() == 5
    found = held(path)
    assert found == rows
    assert found[1].to_dict()["map"] == shown.to_dict()


@pytest.mark.parametrize("name", ["a\udcffb.jpg", "ünï.jpg", 'q"uo\\te.jpg', "new\nline.jpg", "%"])
def test_every_name_survives_of_an_image_and_of_the_state(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}?mode=ro#x.catdog"
    with RunState.open(path, MODEL) as state:
        state.put(image(f"/album/{name}"))
        assert state.count() == 1
    assert held(path) == [image(f"/album/{name}")]
    assert os.listdir(tmp_path) == [path.name]


def test_an_end_leaves_one_file_and_a_success_none(path: Path) -> None:
    with RunState.open(path, MODEL) as state:
        state.put(image("a.jpg"))
        assert {file.name for file in path.parent.iterdir()} == {path.name, f"{path.name}-wal"}
    assert list(path.parent.iterdir()) == [path]
    with RunState.open(path, MODEL, resume=True) as state:
        state.delete()
    assert list(path.parent.iterdir()) == []


def test_a_reader_that_was_left_alone_does_not_hold_it_open(path: Path) -> None:
    with RunState.open(path, MODEL) as state:
        for number in range(1200):
            state.put(image(f"{number}.jpg"))
        rows = state.rows()
        next(rows)
    assert list(path.parent.iterdir()) == [path]


def test_without_resume_or_restart_it_is_refused_and_stays(path: Path) -> None:
    ended(path, image("a.jpg"))
    with pytest.raises(RefusedError, match="go on with it by --resume, or begin again by --rest"):
        RunState.open(path, MODEL)
    assert [row.path.name for row in held(path)] == ["a.jpg"]
    with RunState.open(path, OTHER, restart=True) as state:
        assert state.count() == 0
        assert not state.resumed
    with RunState.open(path, MODEL) as state:  # without a row nothing can be lost or mixed
        assert not state.resumed
        state.put(image("b.jpg"))
    with RunState.open(path, MODEL, resume=True) as state:
        assert state.resumed


def test_results_of_two_models_or_of_other_files_are_not_mixed(path: Path) -> None:
    with RunState.open(path, MODEL, "*.jpg") as state:
        state.put(image("a.jpg"))
    with pytest.raises(RefusedError, match="holds results of net ids, fp32, and this is"):
        RunState.open(path, OTHER, "*.jpg", resume=True)
    with pytest.raises(RefusedError, match="was begun with another --glob, --exclude or --shard"):
        RunState.open(path, MODEL, "*.png", resume=True)
    with RunState.open(path, MODEL, "*.jpg", resume=True) as state:
        assert state.count() == 1


def test_where_an_image_is_moved_is_noted_before_it_goes(path: Path, tmp_path: Path) -> None:
    names = [tmp_path / "album" / name for name in ("a.jpg", "b.jpg")]
    with RunState.open(path, MODEL) as state:
        for name in names:
            state.put(image(str(name)))
            state.moving(name, tmp_path / "cat" / name.name)
    with RunState.open(path, MODEL, resume=True) as state:
        state.keep(names[1])  # a kill came before it was moved
        assert [row.file.moved_to for row in state.rows()] == [tmp_path / "cat/a.jpg", None]
        assert not state.all_moved(tmp_path / "album")
        state.moving(names[1], tmp_path / "cat/b.jpg")
        assert state.all_moved(tmp_path / "album")
        assert state.drop_gone([tmp_path / "album"]) == 0
        assert state.count() == 2


def test_the_note_of_a_move_is_on_the_disk_before_it(path: Path) -> None:
    """SQLite's synchronous=FULL (2): each commit waits for the disk."""
    with RunState.open(path, MODEL) as state:
        state.put(image("a.jpg"))
        assert state._execute("PRAGMA synchronous") == [(1,)]
        state.moving(Path("a.jpg"), Path("cat/a.jpg"))
        assert state._execute("PRAGMA synchronous") == [(2,)]


def test_only_rows_of_the_given_roots_go(path: Path) -> None:
    ended(path, *map(image, ("a/x.jpg", "b.jpg", "b/x.jpg", "b/y/x.jpg", "c/x.jpg")))
    with RunState.open(path, MODEL, resume=True) as state:
        assert state.drop_gone([Path("b"), Path("d")]) == 3
        assert [str(found) for found in state.paths()] == ["a/x.jpg", "b.jpg", "c/x.jpg"]


def other_database(application_id: int) -> bytes:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(f"PRAGMA application_id={application_id}; CREATE TABLE a (b)")
        return connection.serialize()


STRANGERS = {
    "empty": b"",
    "text": b"my notes\nof last week",
    "json": b'{"some": "json"}\n',
    "bytes": b"\xff\xd8\xff\xe0\n\x00",
    "database": other_database(0),
    "database of another program": other_database(7),
    "its first bytes only": b"SQLite format 3\0",
    "almost ours": b"SQLite format 4\0" + other_database(APPLICATION_ID)[16:],
}


@pytest.mark.parametrize("options", [{}, {"resume": True}, {"restart": True}])
@pytest.mark.parametrize("content", STRANGERS.values(), ids=STRANGERS)
def test_a_strangers_file_stays_as_it_is(
    content: bytes, options: dict[str, bool], path: Path
) -> None:
    path.write_bytes(content)
    os.utime(path, ns=(10**18, 10**18))
    before = listing(path.parent)
    with pytest.raises(RefusedError, match="is no run state of catdog") as refused:
        RunState.open(path, MODEL, **options)
    assert "\n" not in str(refused.value)
    with pytest.raises(RefusedError, match="is no run state of catdog; name the OUTPUT.catdog"):
        merge_states(path.with_name("all.jsonl"), [path])
    assert listing(path.parent) == before


def test_what_is_no_file_is_not_waited_for(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(RefusedError, match="is no run state of catdog"):
        RunState.open(path, MODEL, resume=True)


def test_a_journal_of_the_first_edition_is_refused_with_what_to_do(path: Path) -> None:
    path.write_bytes(FIRST_EDITION)
    for attempt in (
        lambda: RunState.open(path, MODEL, resume=True),
        lambda: merge_states(path.with_name("all.jsonl"), [path]),
    ):
        with pytest.raises(RefusedError, match=r"journal of catdog 0\.1.*begin again by --restart"):
            attempt()
    assert path.read_bytes() == FIRST_EDITION


def test_a_state_of_a_later_version_is_refused(path: Path) -> None:
    ended(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")
    with pytest.raises(RefusedError, match="of another version of catdog"):
        RunState.open(path, MODEL, resume=True)


def test_what_a_deleted_state_left_is_not_taken_for_the_new_ones(path: Path) -> None:
    wal = path.with_name(f"{path.name}-wal")
    wal.write_bytes(b"of a state that somebody deleted")
    with pytest.raises(RefusedError, match=f"{wal.name} is left of a state that is gone; delete"):
        RunState.open(path, MODEL)
    assert list(path.parent.iterdir()) == [wal]


def test_a_damaged_state_is_one_line(path: Path) -> None:
    ended(path, *(image(f"{number}.jpg") for number in range(1000)))
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xaa" * 40_000)
    with pytest.raises(NotReadyError, match="is damaged.*delete it to begin again"):
        held(path)
    with pytest.raises(NotReadyError, match="is damaged") as refused:
        merge_states(path.with_name("all.csv"), [path])
    assert "delete" not in str(refused.value)


AT_WORK = """
import sys
from pathlib import Path
from catdog_serving.folder.run_state import RunState
from tests.support.stub_backend import MODEL
try:
    RunState.open(Path(sys.argv[1]), MODEL, resume=True)
    print("open", flush=True)
    input()
except Exception as error:
    print(error, flush=True)
"""


def test_of_a_reader_and_a_run_at_the_same_time_one_is_refused(path: Path) -> None:
    ended(path, image("a.jpg"))
    run = [sys.executable, "-c", AT_WORK, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    with read_state(path) as (_, rows):
        refused = subprocess.run(run, capture_output=True, text=True, check=True, cwd=ROOT)
        assert refused.stdout == f"another catdog is at work on {path}\n"
        assert len(list(rows)) == 1
    with subprocess.Popen(run, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "open\n"
        with pytest.raises(NotReadyError, match="another catdog is at work on"):
            merge_states(path.with_name("all.csv"), [path])
        process.communicate("\n")


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotReadyError, match="cannot write .*: Not a directory"):
        RunState.open(tmp_path / "file" / "out.csv.catdog", MODEL)
    with pytest.raises(NotReadyError, match="cannot write .*: "):
        RunState.open(Path("/proc/out.csv.catdog"), MODEL)


FULL = """
import resource, sys
from pathlib import Path
from catdog_serving.folder.run_state import RunState
from tests.support.state_rows import image
from tests.support.stub_backend import MODEL
with RunState.open(Path(sys.argv[1]), MODEL) as state:
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    for number in range(1000):
        state.put(image(f"{number}.jpg"))
        print(number + 1, flush=True)
"""


def test_a_full_disk_loses_nothing_that_was_put(path: Path) -> None:
    """As far as a process may write is as far as the disk goes."""
    run = [sys.executable, "-c", FULL, str(path)]
    result = subprocess.run(run, capture_output=True, text=True, check=False, cwd=ROOT)
    last_line = result.stderr.splitlines()[-1]
    assert "NotReadyError: cannot write" in last_line
    put = int(result.stdout.split()[-1])
    assert 10 < put < 1000
    assert len(held(path)) == put
