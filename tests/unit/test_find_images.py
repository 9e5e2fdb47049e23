import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import pytest
from PIL import Image

from catdog_serving.cli.classify import run_classify
from catdog_serving.errors import NotReadyError, UsageError
from catdog_serving.find_images import (
    ImageFiles,
    Shard,
    check_outside,
    find_sources,
)
from catdog_serving.folder.explain_files import explain_files
from catdog_serving.folder.image_result import ImageFailure
from catdog_serving.folder.read_image import read_file
from catdog_serving.folder.run_options import RunOptions
from catdog_serving.real_folders import sort_key
from catdog_serving.remote_path import parse_path
from tests.support.albums import rows_of
from tests.support.images import encode
from tests.support.stub_backend import GreenBackend, NameBackend, touch


def found(root: Path, *patterns: str) -> list[str]:
    return [str(path.relative_to(root)) for path in ImageFiles(root, patterns)]


def test_images_are_found_recursively_and_sorted(tmp_path: Path) -> None:
    names = (
        "b.jpg",
        "a.JPEG",
        "sub/z.png",
        "sub/deep/y.webp",
        "c.tiff",
        "d.gif",
        "e.bmp",
        "f.HEIC",
    )
    touch(tmp_path, *names)
    assert found(tmp_path) == [
        *("a.JPEG", "b.jpg", "c.tiff", "d.gif", "e.bmp", "f.HEIC", "sub/deep/y.webp", "sub/z.png")
    ]


def test_the_order_is_that_of_the_sort_key_everywhere(tmp_path: Path) -> None:
    touch(tmp_path, "a/x.jpg", "a.jpg", "a b/x.jpg", "a-b.jpg", "A.jpg", "ä.jpg", "a/b/x.jpg")
    paths = list(ImageFiles(tmp_path))
    assert len(paths) == 7
    assert paths == sorted(paths, key=sort_key)


def test_other_files_are_counted_as_skipped(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "notes.txt", "sub/Thumbs.db")
    files = ImageFiles(tmp_path)
    assert len(list(files)) == 1
    assert files.skipped == 2
    assert len(list(files)) == 1
    assert files.skipped == 2


NO_ALBUMS = (
    *("@eaDir", "@Recycle", "@Recently-Snapshot", "@tmp", "#recycle", "#snapshot", "__MACOSX"),
    *("$RECYCLE.BIN", "System Volume Information", "lost+found", ".thumbnails", ".Trash-1000"),
    *(".ipynb_checkpoints", ".git", "@EADIR", "__macosx"),
)


@pytest.mark.parametrize("patterns", [(), ("*.jpg",)])
def test_hidden_files_and_what_systems_make_are_skipped(
    patterns: tuple[str, ...], tmp_path: Path
) -> None:
    touch(tmp_path, "a.jpg", "sub/b.jpg", "sub/@eaDir.jpg", "._a.jpg", "sub/.hidden.jpg")
    for folder in NO_ALBUMS:
        touch(tmp_path / folder, "c.jpg", "deep/d.jpg")
        touch(tmp_path / "sub" / folder, "e.jpg")
    (tmp_path / ".git/again").symlink_to(tmp_path / ".git")
    files = ImageFiles(tmp_path, patterns)
    assert [path.name for path in files] == ["a.jpg", "@eaDir.jpg", "b.jpg"]
    assert files.skipped == 2 + 3 * len(NO_ALBUMS)


def test_what_is_hidden_is_taken_when_it_is_named(tmp_path: Path) -> None:
    touch(tmp_path, ".hidden/@eaDir/a.jpg", "._b.jpg", "album/.raw/c.jpg")
    (tmp_path / "album/link").symlink_to(tmp_path / "album/.raw")
    paths = (tmp_path / ".hidden/@eaDir", tmp_path / "._b.jpg", tmp_path / "album")
    names = [path.name for source in find_sources(paths) for path in source]
    assert sorted(names) == ["._b.jpg", "a.jpg", "c.jpg"]


def test_a_named_file_is_always_tried(tmp_path: Path) -> None:
    touch(tmp_path, "image.dat")
    assert list(ImageFiles(tmp_path / "image.dat")) == [tmp_path / "image.dat"]


def test_a_glob_takes_names_or_paths_and_asks_for_no_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.png", "c.photo", "2024/d.jpg", "2024/e.photo", "2025/f.jpg")
    assert found(tmp_path, "*.photo") == ["2024/e.photo", "c.photo"]
    assert found(tmp_path, "2024/*") == ["2024/d.jpg", "2024/e.photo"]
    assert found(tmp_path, "a.*", "2025/*") == ["2025/f.jpg", "a.jpg"]


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    touch(tmp_path, "album/a.jpg", "elsewhere/b.jpg")
    (tmp_path / "album" / "loop").symlink_to(tmp_path / "album")
    (tmp_path / "album" / "other").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "album" / "self.jpg").symlink_to(tmp_path / "album" / "self.jpg")
    (tmp_path / "album" / "broken.jpg").symlink_to(tmp_path / "gone")
    assert found(tmp_path / "album") == ["a.jpg", "broken.jpg", "other/b.jpg", "self.jpg"]


@pytest.fixture
def nested(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Makes folders in each other, with an image in the last; no path is too long to make one."""

    def make(depth: int) -> Path:
        top = tmp_path / "deep"
        top.mkdir()
        folder = os.open(top, os.O_RDONLY)
        for _ in range(depth):
            os.mkdir("d", dir_fd=folder)
            inner = os.open("d", os.O_RDONLY, dir_fd=folder)
            os.close(folder)
            folder = inner
        image = os.open("cat.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=folder)
        os.write(image, encode(Image.new("RGB", (100, 60))))
        os.close(image)
        os.close(folder)
        return top

    yield make
    # By itself: what pytest removes its folders with goes down by recursion.
    subprocess.run(["rm", "-rf", tmp_path / "deep", tmp_path / "maps"], check=True)


def test_folders_nested_deeper_than_the_stack(
    nested: Callable[[int], Path], tmp_path: Path
) -> None:
    top = nested(1_100)
    output, copies = tmp_path / "out.jsonl", tmp_path / "sorted"
    for how in ("keep_state", "resume"):
        options = RunOptions((top,), output=output, sort_into=copies, **{how: True})  # type: ignore[arg-type]
        run_classify(options, NameBackend())
    (row,) = rows_of(output)
    assert row["path"] == str(top) + "/d" * 1_100 + "/cat.jpg"
    assert [path.name for path in copies.rglob("*")] == ["cat", "cat.jpg"]
    (one,) = explain_files(find_sources([top]), GreenBackend(), tmp_path / "maps")
    assert one.target.is_file()


def test_a_path_that_is_too_long_is_not_lost_silently(nested: Callable[[int], Path]) -> None:
    (path,) = ImageFiles(nested(2_100))
    _, failure = read_file(path)
    assert failure == ImageFailure("Unreadable", "File name too long")


def mesh(base: Path) -> list[str]:
    """Seven folders with two images each, and a link to each other one."""
    for number in range(7):
        touch(base / f"{number}", "a.jpg", "b.jpg")
        for other in set(range(7)) - {number}:
            (base / f"{number}/to {other}").symlink_to(base / f"{other}")
    return [f"{number}/{name}.jpg" for number in range(7) for name in "ab"]


def test_each_real_folder_is_walked_once_and_under_its_own_name(tmp_path: Path) -> None:
    album = tmp_path / "album"
    names = mesh(album)
    (album / "0 first").symlink_to(album / "6")
    (album / "7 chain").symlink_to(album / "0 first")
    (album / "up").symlink_to(tmp_path)
    touch(tmp_path, "outside.jpg")
    assert found(album) == [*names, "up/outside.jpg"]
    paths = [Path(f"{album}/{number}") for number in range(7)]
    assert [str(p.relative_to(album)) for s in find_sources(paths) for p in s] == names


def test_a_folder_outside_is_walked_where_it_is_met_first(tmp_path: Path) -> None:
    touch(tmp_path, "outside/x.jpg", "outside/sub/y.jpg", "a/1.jpg", "b/2.jpg")
    for link in ("a/o1", "a/o2", "b/o"):
        (tmp_path / link).symlink_to(tmp_path / "outside")
    (tmp_path / "a/o sub").symlink_to(tmp_path / "outside/sub")
    (tmp_path / "a/all").symlink_to(tmp_path)
    sources = find_sources([tmp_path / "a", tmp_path / "b"])
    for _ in range(2):  # a source may be walked again
        paths = [str(path.relative_to(tmp_path)) for source in sources for path in source]
        assert paths == ["a/1.jpg", "a/all/outside/sub/y.jpg", "a/all/outside/x.jpg", "b/2.jpg"]
        assert [source.found for source in sources] == [3, 1]


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_link_into_another_root_is_not_followed(scheme: str, tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/sub/2.jpg")
    (tmp_path / "a/link").symlink_to(tmp_path / "b/sub")
    (tmp_path / "a/whole").symlink_to(tmp_path / "b")
    sources = find_sources([parse_path(f"{scheme}{tmp_path}/{name}") for name in "ab"])
    assert [path.name for source in sources for path in source] == ["1.jpg", "2.jpg"]
    assert [source.found for source in sources] == [1, 1]


def test_two_names_of_one_folder_are_one(tmp_path: Path) -> None:
    touch(tmp_path, "a/sub/1.jpg")
    (tmp_path / "z").symlink_to("a")
    (tmp_path / "s").symlink_to("a/sub")
    with pytest.raises(UsageError, match="z is .*a; name every image once"):
        find_sources([tmp_path / "a", tmp_path / "z"])
    with pytest.raises(UsageError, match="s lies inside .*a; name every image once"):
        find_sources([tmp_path / "a", tmp_path / "s"])


def test_a_folder_that_is_mounted_twice_is_walked_once(tmp_path: Path) -> None:
    touch(tmp_path, "album/a/1.jpg", "album/b/2.jpg")
    (tmp_path / "album/again").mkdir()
    script = (
        "import sys; from pathlib import Path; from catdog_serving.find_images import ImageFiles;"
        "print([p.name for p in ImageFiles(Path(sys.argv[1]))])"
    )
    album = shlex.quote(str(tmp_path / "album"))
    inside = f'mount --bind {album}/a {album}/again && exec "$@" {album}'
    command = ["unshare", "-rm", "sh", "-c", inside, "sh", sys.executable, "-c", script]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip(f"mounts are not allowed here: {result.stderr.strip()}")
    assert result.stdout == "['1.jpg', '2.jpg']\n"


def test_a_missing_path_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="there is no file or folder"):
        ImageFiles(tmp_path / "nope")


def test_a_path_that_cannot_be_looked_at_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="cannot look at .*: File name too long"):
        ImageFiles(tmp_path / ("x" * 300))
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(NotReadyError, match="there is no file or folder"):
        find_sources([tmp_path / "loop"])
    check_outside(tmp_path / "sorted", [tmp_path / "loop"])


@pytest.mark.skipif(os.getuid() == 0, reason="root can read every folder")
def test_a_folder_that_cannot_be_listed_is_not_lost(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    assert found(tmp_path) == ["closed"]


def test_shards_share_out_every_file_and_do_not_depend_on_where_the_folder_is(
    tmp_path: Path,
) -> None:
    names = [f"{number}.jpg" for number in range(60)]
    parts = []
    for base in (tmp_path / "here", tmp_path / "there"):
        touch(base, *names)
        shards = [ImageFiles(base, shard=Shard(index, 3)) for index in range(3)]
        parts.append([[path.name for path in shard] for shard in shards])
    assert parts[0] == parts[1]
    assert sorted(chain.from_iterable(parts[0])) == sorted(names)
    assert all(10 < len(part) < 30 for part in parts[0])


def test_a_files_shard_never_changes(tmp_path: Path) -> None:
    """crc32 of the name modulo the count: jobs of different versions must agree."""
    assert [Shard(index, 3).holds(Path("2024/cat.jpg")) for index in range(3)].index(True) == 2


@pytest.mark.parametrize("wrong", ["3/3", "1", "1/0", "-1/2", "a/b", "1/2/3", ""])
def test_a_wrong_shard_says_what_one_is(wrong: str) -> None:
    with pytest.raises(UsageError, match="such as 0/4; got"):
        Shard.parse(wrong)


def test_nested_and_repeated_paths_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a/x.jpg", "ab/x.jpg")
    with pytest.raises(UsageError, match="lies inside"):
        find_sources([tmp_path / "a" / "x.jpg", tmp_path / "ab", tmp_path / "a"])
    with pytest.raises(UsageError, match="is named twice"):
        find_sources([tmp_path / "a", tmp_path / "a"])
    assert len(find_sources([tmp_path / "ab", tmp_path / "a"])) == 2


def test_the_current_folder_holds_relative_paths_and_no_absolute_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "here/z.jpg", "other/a.jpg")
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(UsageError, match="lies inside"):
        find_sources([Path(), Path("z.jpg")])
    sources = find_sources([tmp_path / "other", Path(), Path("../other/a.jpg")])
    paths = [path for source in sources for path in source]
    assert len(paths) == 3
    assert paths == sorted(paths, key=sort_key)


def test_images_are_not_written_among_those_to_read(tmp_path: Path) -> None:
    album = tmp_path / "album"
    album.mkdir()
    for inside in (album, album / "sorted", album / "sub" / ".." / "x"):
        with pytest.raises(UsageError, match="choose a folder outside of it"):
            check_outside(inside, [tmp_path / "other", album])
    check_outside(tmp_path / "album sorted", [album])
