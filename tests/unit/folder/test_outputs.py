import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from rich.console import Console

from catdog.results import ModelId
from catdog_serving.folder import outputs
from catdog_serving.folder.files import FileInfo, ImageFailure
from catdog_serving.folder.process_folder import FolderReport
from catdog_serving.folder.rows import ImageResult, Row, to_row
from tests.support.stub_backend import MODEL, prediction

HOSTILE = ["=cmd|'/C calc'!A0.jpg", "+1.jpg", "-1.jpg", "@SUM(A1).jpg", "\tx.jpg", "\rx.jpg"]


def row(name: str, failed: bool = False) -> Row:
    file = FileInfo(Path(name), 3, 4, "ab")
    outcome = ImageFailure("InvalidImage", "cannot decode [12] bytes") if failed else None
    return to_row(ImageResult(file, outcome or prediction("cat", 0.8, 0.1)))


def whole(name: str, rows: Iterable[Row], model: ModelId = MODEL) -> str:
    rows = list(rows)
    report = FolderReport("album", seconds=2.0)
    for one in rows:
        report.add(one)
    return b"".join(outputs.render(name, rows, [report], model)).decode("utf-8", "surrogateescape")


def test_the_table_names_files_failures_and_the_model() -> None:
    long_name = "x" * 300 + "[bold]cat.jpg"
    text = whole("table", [row(long_name), row("bad.jpg", failed=True)])
    assert long_name in text  # neither cut nor taken for markup
    assert "cat      0.8000  0.1000  tabby [red] (50%)" in text
    assert "failed   bad.jpg: cannot decode [12] bytes" in text
    assert "album: 1 images in 2.00 s, 0.50 images/s, 1 failed" in text
    assert "mean masses: cat 0.8000, dog 0.1000" in text
    assert "model: net ids, fp32" in text


def test_untrained_weights_are_called_so() -> None:
    seeded = ModelId("net", "seeded", "fp32")
    assert "net seeded (untrained: its answers mean nothing), fp32" in whole("table", [], seeded)
    assert json.loads(whole("json", [], seeded))["model"]["untrained"] is True


def test_names_cannot_move_the_cursor_or_add_lines() -> None:
    text = whole("table", [row("a\x1b[2Jb\nfailed  c\u202ed\udcff.jpg")])
    assert "a\\x1b[2Jb\\nfailed  c\\u202ed\\udcff.jpg" in text
    assert "\x1b" not in text


def test_json_has_a_row_per_file_and_no_nan() -> None:
    rows = [row("bad.jpg", failed=True)]
    document = json.loads(whole("json", rows))
    assert document["images"] == rows
    assert document["folders"][0]["mean_cat"] is None
    assert document["model"] == MODEL.to_dict()
    assert len(json.loads(whole("json", [row(str(n)) for n in range(5)]))["images"]) == 5
    assert json.loads(whole("json", []))["images"] == []


def test_folders_whose_names_are_no_unicode_survive_json() -> None:
    report = FolderReport("album-\udcff")
    document = b"".join(outputs.render("json", [row("a\udcff.jpg")], [report], MODEL))
    values = json.loads(document.decode())
    assert values["folders"][0]["folder"] == "album-\udcff"
    assert values["images"][0]["path"] == "a\udcff.jpg"


def test_csv_has_a_line_per_file_with_flat_columns() -> None:
    lines = list(csv.DictReader(io.StringIO(whole("csv", [row("a.jpg"), row("b.jpg", True)]))))
    assert [line["path"] for line in lines] == ["a.jpg", "b.jpg"]
    assert (lines[0]["cat"], lines[0]["breed"], lines[0]["breed_index"]) == (
        *("0.8", "tabby [red]", "281"),
    )
    assert (lines[1]["error_type"], lines[1]["label"]) == ("InvalidImage", "")
    assert None not in lines[0]


@pytest.mark.parametrize("name", HOSTILE)
def test_formulas_in_csv_are_neutralised(name: str) -> None:
    (line,) = csv.DictReader(io.StringIO(whole("csv", [row(name)]), newline=""))
    assert line["path"] == f"'{name}"


@pytest.mark.parametrize("name", ['a,"b\n;.jpg', "a\udcff.jpg", "ünï.jpg", "a=b.jpg"])
def test_other_names_survive_csv(name: str) -> None:
    (line,) = csv.DictReader(io.StringIO(whole("csv", [row(name)]), newline=""))
    assert line["path"] == name


def test_the_table_has_colours_on_a_terminal() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=200)
    console.print(outputs.table_row(row("a.jpg")))
    assert isinstance(console.file, io.StringIO)
    assert "\x1b[32mcat" in console.file.getvalue()
