"""What a folder run may write: never over what it reads, and never over a stranger's file."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catdog_serving.cli.classify import run_classify
from catdog_serving.errors import CatDogError, RefusedError, UsageError
from catdog_serving.find_images import Shard
from catdog_serving.folder.image_result import ImageResult
from catdog_serving.folder.run_options import RunOptions
from catdog_serving.remote_path import AnyPath, parse_path
from tests.support.run_states import listing
from tests.support.stub_backend import NameBackend, touch

SUFFIXES = ("txt", "json", "jsonl", "csv", "parquet")


def options(*paths: object, **given: object) -> RunOptions:
    return RunOptions(paths=tuple(parse_path(str(path)) for path in paths), **given)  # type: ignore[arg-type]


def classify(*paths: object, **given: object) -> None:
    run_classify(options(*paths, **given), NameBackend())


@pytest.fixture
def album(tmp_path: Path) -> Path:
    touch(tmp_path / "album", "cat.png", "cup.png", "sub/cup.png", "notes.txt", "old.csv")
    (tmp_path / "album/none.png").touch()
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


@pytest.mark.parametrize("how", [None, "resume", "restart"])
@pytest.mark.parametrize("image", ["sub/cup.png", "none.png"])
@pytest.mark.parametrize("name", NAMES)
def test_an_output_is_none_of_the_images_of_a_folder(
    name: Callable[[Path, Path], Path],
    image: str,
    how: str | None,
    album: Path,
    tmp_path: Path,
) -> None:
    output = name(album / image, tmp_path)
    before = listing(tmp_path)
    with pytest.raises(UsageError, match="is to be read"):
        classify(album, format="csv", output=output, **({how: True} if how else {}))
    assert listing(tmp_path) == before


@pytest.mark.parametrize("option", ["output", "report"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("by_glob", [False, True])
def test_an_output_is_no_file_that_is_read_whatever_its_suffix(
    by_glob: bool, name: Callable[[Path, Path], Path], option: str, album: Path, tmp_path: Path
) -> None:
    output = name(album / "notes.txt", tmp_path)
    before = listing(tmp_path)
    path = album if by_glob else album / "notes.txt"
    patterns = ("*.txt",) if by_glob else ()
    with pytest.raises(UsageError, match="is to be read"):
        classify(path, patterns=patterns, format="csv", **{option: output})
    assert listing(tmp_path) == before


def test_a_file_with_a_uri_is_a_file_of_this_machine(album: Path) -> None:
    for uri in (f"file://{album}", f"file://{album}/cup.png"):
        with pytest.raises(UsageError, match="is to be read"):
            options(uri, remote=True, format="csv", output=album / "cup.png")


@pytest.mark.parametrize("option", ["output", "report"])
def test_no_output_has_the_name_of_an_image(option: str, album: Path, tmp_path: Path) -> None:
    """It is somebody's, though it is not among those that are classified."""
    touch(tmp_path, "precious.jpg")
    with pytest.raises(UsageError, match="is an image by its name"):
        options(album, **{option: tmp_path / "precious.jpg"})


def test_an_image_behind_a_linked_folder_is_read_too(album: Path, tmp_path: Path) -> None:
    touch(tmp_path, "more/cat.png")
    (album / "more").symlink_to(tmp_path / "more")
    with pytest.raises(UsageError, match="is to be read"):
        classify(album, format="csv", output=tmp_path / "more/cat.png")
    assert (tmp_path / "more/cat.png").read_text() == "more/cat.png"


@pytest.mark.parametrize("suffix", [".catdog", ".catdog-wal", ".catdog-journal"])
def test_an_image_is_no_state_either(suffix: str, album: Path, tmp_path: Path) -> None:
    (tmp_path / f"out.csv{suffix}").symlink_to(album / "none.png")
    before = listing(tmp_path)
    with pytest.raises(RefusedError, match="is no run state|is left of a state"):
        classify(album, output=tmp_path / "out.csv", resume=True)
    assert listing(tmp_path) == before


def test_a_state_is_no_image_when_it_is_named(album: Path, tmp_path: Path) -> None:
    classify(album, output=tmp_path / "out.csv", keep_state=True)
    for path in (tmp_path / "out.csv.catdog", tmp_path / "link"):
        if path.name == "link":
            path.symlink_to("out.csv.catdog")
        with pytest.raises(UsageError, match="is the state of a run, and no image"):
            classify(album, path, output=tmp_path / "out.csv", resume=True)


def test_an_image_of_another_shard_is_an_image(album: Path) -> None:
    for index in range(2):
        with pytest.raises(UsageError, match="is to be read"):
            classify(album, format="csv", output=album / "cup.png", shard=Shard(index, 2))


@pytest.mark.parametrize("option", ["output", "report"])
def test_a_folder_is_no_output(option: str, album: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    for folder in (album, tmp_path / "other"):
        with pytest.raises(UsageError, match="is a folder; name a file in it"):
            classify(album, **{option: folder})


@pytest.mark.parametrize("report", ["out.csv", "out.csv.catdog", "./out.csv.catdog-wal"])
def test_a_page_does_not_replace_the_results(report: str, album: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--report needs a name of its own"):
        classify(album, output=tmp_path / "out.csv", report=tmp_path / report)


def test_a_format_follows_the_outputs_suffix() -> None:
    for name, expected in (("a.CSV", "csv"), ("a.json", "json"), ("a.jsonl", "jsonl")):
        assert options("x", output=Path(name)).output_format == expected
    assert options("x", output=Path("a.parquet")).output_format == "parquet"
    assert options("x", output=Path("a.txt")).output_format == "table"
    assert options("x", output=Path("a.txt"), format="json").output_format == "json"
    assert options("x").output_format == "table"


def test_a_format_and_a_suffix_do_not_contradict_each_other(album: Path, tmp_path: Path) -> None:
    """Such as a table over the lines of another run."""
    output = tmp_path / "out.jsonl"
    classify(album, output=output)
    before = listing(tmp_path)
    with pytest.raises(UsageError, match="--format csv and --output .* say two things"):
        classify(album, format="csv", output=output)
    with pytest.raises(UsageError, match="an HTML page is made by --report"):
        classify(album, output=tmp_path / "page.html")
    assert listing(tmp_path) == before


def test_parquet_needs_a_file(album: Path) -> None:
    for given in ({}, {"output": Path("/dev/null")}):
        with pytest.raises(UsageError, match="needs --output FILE.parquet"):
            options(album, format="parquet", **given)


@pytest.mark.parametrize("option", ["resume", "restart", "keep_state"])
def test_options_of_the_state_need_one(option: str, album: Path) -> None:
    for given in ({}, {"output": Path("/dev/stdout")}):
        with pytest.raises(UsageError, match=f"--{option.replace('_', '-')} needs --output"):
            options(album, **{option: True}, **given)


def test_a_pipe_or_a_device_is_written_into_without_a_state(album: Path, tmp_path: Path) -> None:
    classify(album, format="csv", output=Path("/dev/null"))
    assert Path("/dev/null").is_char_device()
    assert options(album, output=Path("/dev/null")).state is None
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="--report needs a file"):
        classify(album, report=tmp_path / "pipe")


def test_a_state_lies_beside_the_first_output() -> None:
    for given, place in (
        ({"output": Path("b/out.csv"), "report": Path("page.html")}, "b/out.csv.catdog"),
        ({"report": Path("page.html")}, "page.html.catdog"),
        ({"output": Path("/dev/null"), "report": Path("page.html")}, "page.html.catdog"),
    ):
        assert options("x", **given).state == Path(place)
    assert options("x").state is None


def foreign_parquet() -> bytes:
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.table({"path": ["a.jpg"], "label": ["cat"]}), buffer)
    return buffer.getvalue().to_pybytes()


STRANGERS = {
    "notes": b"my notes\nof last week",
    "json": b'{"some": "json", "model": {"network": "resnet"}}\n',
    "json lines": b'{"path":"a.jpg","label":"cat"}\n{"path":"b.jpg","label":"dog"}\n',
    "csv": b"path,label,cat,dog\na.jpg,cat,1,0\n",
    "table": b"label   cat  dog  file\n",
    "parquet": foreign_parquet(),
    "page": b"<!doctype html>\n<title>made 2026-11-27 10:00 by hand</title><p>about catdog</p>",
}


@pytest.mark.parametrize("how", [{}, {"resume": True}, {"restart": True}], ids=str)
@pytest.mark.parametrize("name", ["notes", *(f"notes.{suffix}" for suffix in (*SUFFIXES, "html"))])
@pytest.mark.parametrize("content", STRANGERS.values(), ids=STRANGERS)
def test_a_strangers_file_is_never_written(
    content: bytes, name: str, how: dict[str, bool], album: Path, tmp_path: Path
) -> None:
    """Whatever it holds and is called; by --report what is called a page."""
    path = tmp_path / name
    path.write_bytes(content)
    before, backend = listing(tmp_path), NameBackend()
    given = {"report" if name.endswith(".html") else "output": path, **how}
    with pytest.raises(RefusedError, match="is there, and catdog did not make it; choose another"):
        run_classify(options(album, **given), backend)
    assert listing(tmp_path) == before
    assert not backend.asked


def test_a_format_makes_no_text_an_output(album: Path, tmp_path: Path) -> None:
    """The command of the complaint, and the same with a name that says nothing of a format."""
    for name, refused in (("notes.json", UsageError), ("notes", RefusedError)):
        (tmp_path / name).write_text("my notes")
        before = listing(tmp_path)
        with pytest.raises(refused):
            classify(album, format="jsonl", output=tmp_path / name, resume=True)
        assert listing(tmp_path) == before


OWN = (*({"output": f"old.{suffix}"} for suffix in SUFFIXES), {"report": "old.html"})


@pytest.mark.parametrize("then", OWN, ids=str)
@pytest.mark.parametrize("first", [*OWN, {}], ids=str)
def test_what_catdog_made_or_is_empty_is_replaced(
    first: dict[str, str], then: dict[str, str], album: Path
) -> None:
    """As ever: the result of this run takes the place of that of the one before."""
    [(option, name)] = then.items()
    target = album / name
    target.write_bytes(b"")
    if first:
        [(made_as, made)] = first.items()
        classify(album, **{made_as: album.parent / made})
        (album.parent / made).rename(target)
    before = target.read_bytes()
    touch(album, "dog.png")
    classify(album, **{option: target})
    assert target.read_bytes() not in (before, b"")
    assert not list(album.glob("*.catdog*"))
    assert (album / "cat.png").read_text() == "cat.png"


@pytest.mark.parametrize("option", OWN, ids=str)
def test_a_strangers_file_that_comes_during_the_run_stays_and_no_row_is_lost(
    option: dict[str, str], album: Path, tmp_path: Path
) -> None:
    [(name, file)] = option.items()
    output = tmp_path / file

    class Busy(NameBackend):
        def classify_files(self, paths: Iterable[AnyPath]) -> Iterator[ImageResult]:
            yield from super().classify_files(paths)
            output.write_text("my notes")

    with pytest.raises(RefusedError, match="catdog did not make it"):
        run_classify(options(album, **{name: output}), Busy())
    assert output.read_text() == "my notes"
    output.rename(tmp_path / "mine")
    backend = NameBackend()
    run_classify(options(album, **{name: output}, resume=True), backend)
    assert output.exists()
    assert not backend.asked
    assert {path.name for path in tmp_path.iterdir()} == {"album", "mine", file}


def test_the_first_editions_pages_are_catdogs(album: Path) -> None:
    page = album / "page.html"
    page.write_text(f"<!doctype html>{'x' * 10_000}<p>made 2026-11-24 08:05 by catdog 0.1.0</p>")
    classify(album, report=page)
    assert b"made 2026-11-24" not in page.read_bytes()


@pytest.mark.parametrize("option", ["output", "report"])
@pytest.mark.parametrize(
    "name", [".", "/", "..", "", "none/..", "file/out.csv", *("x" * n for n in (244, 255, 300))]
)
def test_a_name_that_cannot_be_written_is_one_line(
    option: str, name: str, album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is classified, or made."""
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "file")
    before = listing(tmp_path)
    with pytest.raises(CatDogError, match="is a folder|cannot write") as refused:
        classify(album, **{option: Path(name)})
    assert len(str(refused.value).splitlines()) == 1
    assert listing(tmp_path) == before


def test_a_long_name_that_can_be_written_is(album: Path, tmp_path: Path) -> None:
    output = tmp_path / ("x" * 236 + ".csv")
    classify(album, output=output)
    assert output.exists()


@pytest.mark.parametrize("name", ["pics.xlsx", "pics.XLS", "pics.ods"])
@pytest.mark.parametrize("given", [{}, {"format": "csv"}], ids=str)
def test_a_spreadsheets_suffix_is_no_format(
    name: str, given: dict[str, str], album: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"pics\.\w+ is none of .*; use \.csv, with --bom"):
        options(album, output=tmp_path / name, **given)


@pytest.mark.parametrize("name", ["page.csv", "page.txt", "page"])
def test_a_page_has_a_pages_suffix(name: str, album: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--report writes an HTML page: name it \.html; got "):
        options(album, report=tmp_path / name)
    for right in ("page.html", "page.HTM"):
        options(album, report=tmp_path / right)
