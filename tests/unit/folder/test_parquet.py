"""Rows as Parquet: every key a column, nested as in the journal."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from catdog.results import Box
from catdog_serving.errors import UsageError
from catdog_serving.folder import parquet
from catdog_serving.folder.classify_run import ClassifyRun
from catdog_serving.folder.files import FileInfo, ImageFailure
from catdog_serving.folder.parquet import write_parquet
from catdog_serving.folder.rows import ImageResult, Row, to_row
from tests.support.stub_backend import prediction


def row(name: str, failed: bool = False, label: str = "cat") -> Row:
    outcome = (
        ImageFailure("InvalidImage", "cannot decode") if failed else prediction(label, 0.8, 0.1)
    )
    return to_row(ImageResult(FileInfo(Path(name), 3, 1795505454409342769, "ab"), outcome))


def test_every_row_comes_back(tmp_path: Path) -> None:
    rows = [row("a.jpg"), row("bad.jpg", failed=True), row("c.jpg", label="neither")]
    rows[0]["box"] = list(Box(1, 2, 30, 40))
    write_parquet(tmp_path / "new" / "out.parquet", rows)
    read = pq.read_table(tmp_path / "new" / "out.parquet").to_pylist()
    everything = dict.fromkeys([*row("a.jpg"), "error"])
    for written, expected in zip(read, rows, strict=True):
        top = expected.get("top") and list(expected["top"])
        assert written == everything | expected | {"top": top}


def test_no_column_is_forgotten(tmp_path: Path) -> None:
    write_parquet(tmp_path / "x.parquet", [])
    columns = pq.read_schema(tmp_path / "x.parquet").names
    assert columns == [*row("a.jpg"), "error"]


def test_rows_are_written_in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_ROW_GROUP", 10)
    write_parquet(tmp_path / "x.parquet", (row(f"{number}.jpg") for number in range(25)))
    file = pq.ParquetFile(tmp_path / "x.parquet")
    sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    file.close()
    assert sizes == [10, 10, 5]


def test_a_name_that_is_not_unicode_is_escaped(tmp_path: Path) -> None:
    write_parquet(tmp_path / "x.parquet", [row("a\udcff ä.jpg")])
    assert pq.read_table(tmp_path / "x.parquet")["path"].to_pylist() == ["a\\xff ä.jpg"]


def test_it_needs_a_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs --output"):
        ClassifyRun(paths=(tmp_path,), format="parquet")


def test_a_run_that_breaks_leaves_no_file(tmp_path: Path) -> None:
    def rows() -> Iterator[Row]:
        yield row("a.jpg")
        raise RuntimeError("the journal is broken")

    with pytest.raises(RuntimeError):
        write_parquet(tmp_path / "x.parquet", rows())
    assert list(tmp_path.iterdir()) == []
