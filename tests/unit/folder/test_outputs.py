"""Results as a table, JSON, JSON lines, CSV and Parquet; the summary of a folder."""

import csv
import io
import json
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from catdog.results import ModelId
from catdog_serving.cli.classify import run_classify
from catdog_serving.errors import NotReadyError, UsageError
from catdog_serving.folder import outputs
from catdog_serving.folder.image_result import FileInfo, FolderReport, ImageResult
from catdog_serving.folder.merge import merge_states
from catdog_serving.folder.outputs import is_stream, summary_line, write_output
from catdog_serving.folder.run_options import RunOptions
from tests.support.state_rows import failure, image
from tests.support.stub_backend import MODEL, NameBackend, prediction, touch

HOSTILE = ["=cmd|'/C calc'!A0.jpg", "+1.jpg", "-1.jpg", "@SUM(A1).jpg", "\tx.jpg", "\rx.jpg"]


def whole(name: str, rows: Iterable[ImageResult], model: ModelId = MODEL) -> str:
    rows = list(rows)
    report = FolderReport("album", seconds=2.0)
    for one in rows:
        report.add(one)
    return b"".join(outputs.render(name, rows, [report], model)).decode("utf-8", "surrogateescape")


def test_the_table_names_files_failures_and_the_model() -> None:
    long_name = "x" * 300 + "[bold]cat.jpg"
    text = whole("table", [image(long_name), failure("bad.jpg")])
    assert long_name in text  # neither cut nor taken for markup
    assert "cat      0.8000  0.1000  tabby [red] (40%)" in text
    assert "failed   bad.jpg: cannot decode [12]" in text
    assert "\nalbum\n  2 files: 1 cat, 1 failed in 2.0 s, 0.5 images/s\n" in text
    assert "\n  mean cat 0.80, dog 0.10\n" in text
    assert "model: net ids, fp32" in text


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        (
            {
                "labels": Counter(cat=49, dog=53, neither=5),
                "failed": 3,
                "skipped": 1,
                "uncertain": 12,
            },
            "110 files: 49 cat, 53 dog, 5 neither, 3 failed (1 other skipped) in 2.0 s, "
            "54 images/s; 12 are uncertain",
        ),
        (
            {"labels": Counter(dog=2), "reused": 1},
            "2 files: 2 dog in 2.0 s, 0.5 images/s; 1 done before",
        ),
        (
            {"labels": Counter(cat=1), "uncertain": 1},
            "1 file: 1 cat in 2.0 s, 0.5 images/s; 1 is uncertain",
        ),
        ({"failed": 1}, "1 file: 1 failed in 2.0 s, 0.0 images/s"),
        ({}, "0 files: nothing in 2.0 s, 0.0 images/s"),
    ],
)
def test_the_summary_says_how_many_there_are_of_each(counts: dict[str, Any], line: str) -> None:
    images = sum(counts.get("labels", {}).values())
    assert summary_line(FolderReport("album", seconds=2.0, images=images, **counts)) == line


def test_files_named_by_themselves_are_no_folder() -> None:
    report = FolderReport("1 file", is_folder=False, images=1, labels=Counter(cat=1), seconds=1.0)
    assert (
        list(outputs.summary_lines([report], MODEL))[1] == "  1 file: 1 cat in 1.0 s, 1.0 images/s"
    )


def test_a_folder_may_be_called_like_a_count() -> None:
    report = FolderReport("3 files", images=3, labels=Counter(cat=3), seconds=1.0)
    assert list(outputs.summary_lines([report], MODEL))[1] == "3 files"


def test_an_image_is_uncertain_where_less_than_half_speaks_for_its_label() -> None:
    answers = (("cat", 0.21, 0.1), ("cat", 0.5, 0.5), ("dog", 0.1, 0.49), ("neither", 0.1, 0.1))
    report = FolderReport("album")
    for label, cat, dog in answers:
        report.add(ImageResult(FileInfo(Path("x")), prediction(label, cat, dog)))
    assert report.uncertain == report.to_dict()["uncertain"] == 2


def test_the_table_shows_no_breed_of_an_uncertain_label() -> None:
    row = ImageResult(FileInfo(Path("skunk.jpg")), prediction("cat", 0.21, 0.1))
    assert str(outputs.table_row(row)).split() == ["cat", "0.2100", "0.1000", "skunk.jpg"]


def test_a_long_breed_does_not_move_the_file() -> None:
    answer = prediction("dog", 0.1, 0.8)
    assert answer.breed is not None
    places = set()
    for name in ("pug", "American Staffordshire terrier"):
        breed = replace(answer.breed, name=name, probability=1.0)
        row = ImageResult(FileInfo(Path("x.jpg")), replace(answer, breed=breed))
        places.add(str(outputs.table_row(row)).index("x.jpg"))
    assert len(places) == 1
    assert "American Staffordshire… (100%)" in str(outputs.table_row(row))


def test_untrained_weights_are_called_so() -> None:
    seeded = ModelId("net", "seeded", "fp32")
    assert "net seeded (untrained: its answers mean nothing), fp32" in whole("table", [], seeded)
    assert json.loads(whole("json", [], seeded))["model"]["untrained"] is True


def test_names_cannot_move_the_cursor_or_add_lines() -> None:
    text = whole("table", [image("a\x1b[2Jb\nfailed  c\u202ed\udcff.jpg")])
    assert "a\\x1b[2Jb\\nfailed  c\\u202ed\\udcff.jpg" in text
    assert "\x1b" not in text


def test_json_has_a_row_per_file_and_no_nan() -> None:
    rows = [failure("bad.jpg")]
    document = json.loads(whole("json", rows))
    assert document["images"] == [row.to_dict() for row in rows]
    assert document["folders"][0]["mean_cat"] is None
    assert document["model"] == MODEL.to_dict()
    assert len(json.loads(whole("json", [image(str(n)) for n in range(5)]))["images"]) == 5
    assert json.loads(whole("json", []))["images"] == []


def test_folders_whose_names_are_no_unicode_survive_json() -> None:
    report = FolderReport("album-\udcff")
    document = b"".join(outputs.render("json", [image("a\udcff.jpg")], [report], MODEL))
    values = json.loads(document.decode())
    assert values["folders"][0]["folder"] == "album-\udcff"
    assert values["images"][0]["path"] == "a\udcff.jpg"


def test_csv_has_a_line_per_file_with_flat_columns() -> None:
    lines = list(csv.DictReader(io.StringIO(whole("csv", [image("a.jpg"), failure("b.jpg")]))))
    assert [line["path"] for line in lines] == ["a.jpg", "b.jpg"]
    assert (lines[0]["cat"], lines[0]["breed"], lines[0]["breed_index"]) == (
        *("0.8", "tabby [red]", "281"),
    )
    assert list(lines[0])[-1] == "breed_probability"  # added last: others read by position
    assert (lines[0]["breed_share"], lines[0]["breed_probability"]) == ("0.5", "0.4")
    assert (lines[1]["error_type"], lines[1]["label"]) == ("InvalidImage", "")
    assert None not in lines[0]


@pytest.mark.parametrize("name", HOSTILE)
def test_formulas_in_csv_are_neutralised(name: str) -> None:
    (line,) = csv.DictReader(io.StringIO(whole("csv", [image(name)]), newline=""))
    assert line["path"] == f"'{name}"


@pytest.mark.parametrize("name", ['a,"b\n;.jpg', "a\udcff.jpg", "ünï.jpg", "a=b.jpg"])
def test_other_names_survive_csv(name: str) -> None:
    (line,) = csv.DictReader(io.StringIO(whole("csv", [image(name)]), newline=""))
    assert line["path"] == name


def test_csv_for_excel_begins_with_a_byte_order_mark_and_is_else_the_same(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    touch(tmp_path / "album", "ä.jpg")
    rows = {}
    for bom in (False, True):
        output = tmp_path / f"{bom}.csv"
        given = {"paths": (tmp_path / "album",), "bom": bom}
        run_classify(RunOptions(**given, output=output, keep_state=True), NameBackend())
        run_classify(RunOptions(**given, format="csv"), NameBackend())
        merge_states(tmp_path / f"merged {bom}.csv", [tmp_path / f"{bom}.csv.catdog"], bom)
        rows[bom] = output.read_bytes()
        assert capsysbinary.readouterr().out == rows[bom]
        assert (tmp_path / f"merged {bom}.csv").read_bytes() == rows[bom]
    assert rows[True] == b"\xef\xbb\xbf" + rows[False]
    assert rows[True].decode("utf-8-sig") == rows[False].decode()
    run_classify(
        RunOptions(paths=(tmp_path / "album",), output=output, restart=True), NameBackend()
    )


@pytest.mark.parametrize("output", ["rows.json", "rows.jsonl", "rows.parquet", "rows.txt", None])
def test_a_byte_order_mark_goes_with_csv_only(output: str | None, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--bom goes with CSV"):
        RunOptions((tmp_path,), output=None if output is None else tmp_path / output, bom=True)
    with pytest.raises(UsageError, match="--bom goes with CSV|should end with"):
        merge_states(tmp_path / str(output), [], bom=True)


def test_the_table_has_colours_on_a_terminal() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=200)
    console.print(outputs.table_row(image("a.jpg")))
    assert isinstance(console.file, io.StringIO)
    assert "\x1b[32mcat" in console.file.getvalue()


def parquet(output: Path, rows: Iterable[ImageResult]) -> None:
    write_output(output, "parquet", rows, [], MODEL)


def test_every_row_comes_back_from_parquet(tmp_path: Path) -> None:
    rows = [image("a.jpg"), failure("bad.jpg"), image("c.jpg", "neither")]
    parquet(tmp_path / "new" / "out.parquet", rows)
    read = pq.read_table(tmp_path / "new" / "out.parquet").to_pylist()
    everything = dict.fromkeys([*rows[0].to_dict(), "error"])
    for written, row in zip(read, rows, strict=True):
        expected = row.to_dict()
        top = expected.get("top") and list(expected["top"])
        assert written == everything | expected | {"top": top}


def test_no_column_is_forgotten(tmp_path: Path) -> None:
    parquet(tmp_path / "x.parquet", [])
    columns = pq.read_schema(tmp_path / "x.parquet").names
    assert columns == [*image("a.jpg").to_dict(), "error"]


def test_rows_are_written_in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "_ROW_GROUP", 10)
    parquet(tmp_path / "x.parquet", (image(f"{number}.jpg") for number in range(25)))
    file = pq.ParquetFile(tmp_path / "x.parquet")
    sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    file.close()
    assert sizes == [10, 10, 5]


def test_a_name_that_is_not_unicode_is_escaped_in_parquet(tmp_path: Path) -> None:
    parquet(tmp_path / "x.parquet", [image("a\udcff ä.jpg")])
    assert pq.read_table(tmp_path / "x.parquet")["path"].to_pylist() == ["a\\xff ä.jpg"]


@pytest.mark.parametrize("output_format", ["parquet", "csv", "json"])
def test_what_breaks_off_leaves_no_file(output_format: str, tmp_path: Path) -> None:
    def rows() -> Iterator[ImageResult]:
        yield image("a.jpg")
        raise RuntimeError("the state is broken")

    (tmp_path / "x").write_text("as it was")
    with pytest.raises(RuntimeError):
        write_output(tmp_path / "x", output_format, rows(), [], MODEL)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["as it was"]


def test_a_pipe_is_written_into_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "out.csv"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_output(pipe, "csv", [image("a.jpg")], [], MODEL)
    reader.join(timeout=30)
    assert read[0].splitlines()[1].startswith("a.jpg,")
    assert pipe.is_fifo()


def test_a_device_is_written_into_and_what_fails_there_is_one_line() -> None:
    write_output(Path("/dev/null"), "csv", [image("a.jpg")], [], MODEL)
    assert Path("/dev/null").is_char_device()
    with pytest.raises(NotReadyError, match="cannot write /dev/full: No space left on device"):
        write_output(Path("/dev/full"), "csv", [image("a.jpg")], [], MODEL)


def test_what_is_open_already_is_a_stream_even_if_it_is_a_file(tmp_path: Path) -> None:
    """/dev/stdout after `> out.csv`."""
    with (tmp_path / "out.csv").open("w") as file:
        for name in (f"/dev/fd/{file.fileno()}", f"/proc/self/fd/{file.fileno()}"):
            assert is_stream(Path(name))
        (tmp_path / "link").symlink_to(f"/proc/self/fd/{file.fileno()}")
        assert is_stream(tmp_path / "link")
    assert not is_stream(tmp_path / "out.csv")
    assert not is_stream(tmp_path / "none.csv")
    assert not is_stream(tmp_path)
