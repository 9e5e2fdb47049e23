"""Sorting on real file systems: mounts, kills, disks without modes, long names, bad files."""

import errno
import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from catdog_serving.cli import classify
from catdog_serving.cli.classify import run_classify
from catdog_serving.errors import NotReadyError
from catdog_serving.find_images import find_sources
from catdog_serving.folder import place_file, sort_files
from catdog_serving.folder.process_folder import process_sources
from catdog_serving.folder.run_options import RunOptions
from catdog_serving.folder.run_state import RunState
from tests.support.albums import rows_of
from tests.support.paths import ROOT
from tests.support.sorted_files import SORTED, both, classified, contents, on_disk, sort, tree
from tests.support.stub_backend import MODEL, NameBackend, touch

NAMES = ("cat.jpg", "cup.jpg", "sub/cat.jpg", "bad.jpg")


@pytest.fixture
def album(tmp_path: Path) -> Path:
    touch(tmp_path / "album", *NAMES)
    return tmp_path / "album"


MOUNTED = """
import subprocess, sys
from pathlib import Path
from tests.support.sorted_files import classified, contents, sort
base, how, move = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "True"
mount = lambda *words: subprocess.run(["mount", *map(str, words)], check=True)
place = base / "sorted/cat"
if how == "overlay":
    mount("-t", "tmpfs", "tmpfs", base / "scratch")
    (base / "scratch/upper").mkdir()
    (base / "scratch/work").mkdir()
    layers = f"lowerdir={base}/album,upperdir={base}/scratch/upper,workdir={base}/scratch/work"
    mount("-t", "overlay", "overlay", "-o", layers, place)
elif how == "bind":
    mount("--bind", base / "album", place)
else:
    (place / "cat.jpg").touch()
    mount("--bind", base / "album/cat.jpg", place / "cat.jpg")
before = contents(base)
sort(classified(base / "album"), base / "sorted", move)
assert set(contents(base)) == set(before), (contents(base), before)
"""


@pytest.mark.parametrize(
    ("how", "move"),
    [("overlay", False), ("overlay", True), ("bind", True), ("bind of the file", True)],
)
def test_an_image_seen_through_another_mount_is_no_copy_of_it(
    how: str, move: bool, tmp_path: Path
) -> None:
    unshared = ["unshare", "--map-root-user", "--mount"]
    tried = subprocess.run([*unshared, "true"], capture_output=True, check=False)
    if tried.returncode != 0:
        pytest.skip("this machine lets nobody mount in a namespace of his own")
    touch(tmp_path / "album", "cat.jpg")
    for folder in ("sorted/cat", "scratch"):
        (tmp_path / folder).mkdir(parents=True)
    words = [*unshared, sys.executable, "-c", MOUNTED, str(tmp_path), how, str(move)]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_a_file_is_known_through_another_mount_without_one(album: Path) -> None:
    """What stat(2) says of one: another device, the same number and time of change."""
    status = list((album / "cat.jpg").stat())
    seen = os.stat_result([*status[:2], status[2] + 1, *status[3:]])
    here = (album / "cat.jpg").stat()
    fields = {name: getattr(here, name) for name in dir(here) if name.startswith("st_")}
    through = os.stat_result(tuple(seen), fields | {"st_dev": seen.st_dev})
    assert place_file.may_be_one_file(through, here)
    os.utime(album / "cat.jpg")
    assert not place_file.may_be_one_file(through, (album / "cat.jpg").stat())


def killed_before(step: int, options: RunOptions) -> bool:
    """Whether a process that sorts came to this step, where SIGKILL ended it."""
    child = os.fork()
    if child == 0:
        steps, sort = itertools.count(1), classify.sort_files

        def counted(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **named: Any) -> Any:
                if next(steps) == step:
                    if function is copyfile:  # half of it is there
                        Path(arguments[1]).write_bytes(Path(arguments[0]).read_bytes()[:3])
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **named)

            return call

        copyfile = shutil.copyfile

        def sort_with_steps(*arguments: Any, **named: Any) -> Any:
            for module, name in (
                *((place_file, "_rename_noreplace"), (RunState, "moving"), (shutil, "copyfile")),
                *((os, name) for name in ("replace", "fsync", "unlink", "mkdir", "open")),
            ):
                setattr(module, name, counted(getattr(module, name)))
            sort(*arguments, **named)
            os._exit(0)

        try:
            classify.sort_files = sort_with_steps  # type: ignore[attr-defined]
            run_classify(options, NameBackend())
        finally:
            os._exit(1)
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert ended in (0, -signal.SIGKILL)
    return ended != 0


@pytest.mark.parametrize("disk", ["one", "another", "without renameat2"])
def test_a_kill_at_any_step_of_a_move_loses_nothing_and_leaves_no_torn_name(
    disk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in itertools.count(1):
        base = tmp_path / str(step)
        album, target, output = base / "album", base / "sorted", base / "out.jsonl"
        touch(album, "cat.jpg", "sub/cat.jpg")
        options: dict[str, Any] = {"output": output, "sort_into": target, "move": True}
        options["resume"] = True
        with monkeypatch.context() as patched:
            on_disk(disk, album, patched)
            was_killed = killed_before(step, RunOptions((album,), **options))
            assert {"cat.jpg", "sub/cat.jpg"} <= {*contents(album), *contents(target)}
            run_classify(RunOptions((album,), **options), NameBackend())
        found = {name: text for name, text in tree(target).items() if "/.catdog-" not in name}
        assert found == {"cat/cat.jpg": "cat.jpg", "cat/cat (2).jpg": "sub/cat.jpg"}
        assert tree(album) == {}
        assert len(rows_of(output)) == 2
        if not was_killed:
            break
    assert step > 4


def test_what_a_killed_copy_left_goes_with_the_next_one(album: Path, tmp_path: Path) -> None:
    rows = classified(album)
    left = tmp_path / "sorted/cat/.catdog-tmp-killed"
    touch(left, "cat.jpg")
    os.utime(left, ns=(10**18, 10**18))
    sort(rows, tmp_path / "sorted")
    assert tree(tmp_path / "sorted") == SORTED
    assert not left.exists()


@pytest.mark.parametrize("refused", ["chmod", "utime", "setxattr"])
@pytest.mark.parametrize("disk", ["one", "another"])
def test_a_target_that_knows_no_modes_times_or_attributes(
    disk: str, refused: str, album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As CIFS, vfat and FUSE may; a copy is made and an original goes all the same."""
    for path in album.rglob("*.jpg"):
        path.chmod(0o644)
        os.utime(path, ns=(10**18, 10**18))
        os.setxattr(path, "user.from", b"camera")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    rows = classified(album)
    on_disk(disk, album, monkeypatch)
    monkeypatch.setattr(os, refused, refuse)
    sort(rows, tmp_path / "sorted", move=disk == "another")
    assert tree(tmp_path / "sorted") == SORTED
    assert (tree(album) == {}) is (disk == "another")
    for name in SORTED:
        status = (tmp_path / "sorted" / name).stat()
        assert (status.st_mtime_ns == 10**18) is (refused != "utime")
        assert status.st_mode & 0o777 == 0o644


@pytest.mark.parametrize("move", [False, True])
@pytest.mark.parametrize(
    "why", ["gone", "unreadable", "too long", "no name on vfat", "no name on CIFS", "too large"]
)
def test_an_image_that_cannot_be_sorted_does_not_stop_the_others(
    why: str, move: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    album, output = tmp_path / "album", tmp_path / "out.jsonl"
    touch(album, *(f"{number:02} cat.jpg" for number in range(13)))
    number = {
        "gone": errno.ENOENT,
        "unreadable": errno.EACCES,
        "too long": errno.ENAMETOOLONG,
        "no name on vfat": errno.EINVAL,
        "no name on CIFS": errno.EILSEQ,
        "too large": errno.EFBIG,
    }[why]
    place = place_file.place_file

    def place_or_not(source: Path, to: Path, sha256: str | None, moves: bool) -> None:
        if source.name == "07 cat.jpg":
            if why == "gone":
                source.unlink()
            else:
                raise OSError(number, os.strerror(number), str(source))
        place(source, to, sha256, moves)

    monkeypatch.setattr(sort_files, "place_file", place_or_not)
    options = RunOptions(
        (album,), output=output, sort_into=tmp_path / "sorted", move=move, keep_state=True
    )
    run_classify(options, NameBackend())
    others = {f"cat/{number:02} cat.jpg" for number in range(13)} - {"cat/07 cat.jpg"}
    assert tree(tmp_path / "sorted").keys() == others
    with RunState.open(Path(f"{output}.catdog"), MODEL, options.selection, resume=True) as state:
        moved = {bool(moved_to) for path, moved_to in moves_of(state) if path != "07 cat.jpg"}
        assert moved == {move}
        assert ("07 cat.jpg", None) in moves_of(state)


def moves_of(state: RunState) -> list[tuple[str, bytes | None]]:
    rows = state._execute("SELECT path, moved_to FROM files")
    return [(Path(os.fsdecode(path)).name, moved_to) for path, moved_to in rows]


def test_what_cannot_be_sorted_is_named_with_its_reason(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = classified(album)

    def too_large(*_: object) -> None:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    monkeypatch.setattr(shutil, "copyfile", too_large)
    report = sort(rows, tmp_path / "sorted")
    assert report.left == [f"{row.path}: File too large" for row in rows]
    assert tree(tmp_path / "sorted") == {}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EPERM])
def test_a_target_that_is_full_or_closed_stops_at_once_and_loses_no_row(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """shutil names the image in such an error, though it is not to blame."""
    album, output = tmp_path / "album", tmp_path / "out.jsonl"
    touch(album, *(f"{number:02} cat.jpg" for number in range(13)))
    options: dict[str, Any] = {"output": output, "move": True}
    options["sort_into"] = tmp_path / "sorted"
    copyfile, copied = shutil.copyfile, itertools.count(1)

    def copy_some(source: Path, target: Path) -> None:
        if next(copied) == 4:
            raise OSError(number, os.strerror(number), str(source), None, str(target))
        copyfile(source, target)

    with monkeypatch.context() as patched:
        on_disk("another", album, patched)
        patched.setattr(shutil, "copyfile", copy_some)
        with pytest.raises(NotReadyError, match="nothing was lost, and the same command with"):
            run_classify(RunOptions((album,), **options), NameBackend())
    assert len(tree(album)) == 10
    run_classify(RunOptions((album,), resume=True, **options), NameBackend())
    assert len(rows_of(output)) == len(tree(tmp_path / "sorted")) == 13
    assert tree(album) == {}


def test_a_target_that_cannot_have_its_name_stops_at_once(album: Path, tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="File name too long; nothing was lost"):
        sort(classified(album), tmp_path / ("x" * 300))


LONG = (
    "c" * 251 + ".jpg",
    "cat." + "x" * 251,
    *(
        "a" * before + sign * ((251 - before) // len(sign.encode())) + ".jpg"
        for sign in "äが🐱"
        for before in range(4)
    ),
    "\udcff" * 251 + ".jpg",
)


@pytest.mark.parametrize("move", [False, True])
@pytest.mark.parametrize("name", LONG, ids=lambda name: ascii(name[:6] + name[-5:]))
def test_long_names_that_meet_are_numbered_in_whole_characters(
    name: str, move: bool, tmp_path: Path
) -> None:
    target = tmp_path / "sorted"
    for folder in "123":
        touch(tmp_path / folder, name)
        (tmp_path / folder / name).write_text(folder)
        rows = classified_by_name(tmp_path / folder)
        both(rows, target, move)
    found = {path.read_text(): path.name for path in target.glob("*/*")}
    assert found.keys() == set("123")
    assert found["1"] == name
    for number in "23":
        assert f" ({number})" in found[number]
        assert len(os.fsencode(found[number])) <= 255
        assert "\udcff" in name or found[number].isprintable()


def classified_by_name(folder: Path) -> list[Any]:
    rows: list[Any] = []
    process_sources(find_sources([folder], ("*",)), NameBackend(), rows.append)
    return rows


def test_a_name_is_as_long_as_its_folder_lets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """143 bytes on eCryptfs; a folder that is missing yet has its parent's."""
    asked: list[Path] = []

    def pathconf(folder: Path, name: str) -> int:
        asked.append(folder)
        return {"PC_NAME_MAX": 143}[name]

    monkeypatch.setattr(os, "pathconf", pathconf)
    found = list(itertools.islice(place_file.names(tmp_path / "none/cat", "x" * 139 + ".jpg"), 3))
    assert [len(path.name) for path in found] == [143] * 3
    assert found[1].name.endswith("x (2).jpg")
    assert asked == [tmp_path]
