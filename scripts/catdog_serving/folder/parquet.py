"""Rows as a Parquet file, for DuckDB, pandas, Spark and Ray itself."""

import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catdog_serving.atomic_write import atomic_file
from catdog_serving.errors import NotReadyError, UsageError
from catdog_serving.extras import install_hint
from catdog_serving.folder.rows import Row

if TYPE_CHECKING:
    import pyarrow as pa

# Rows in memory at once, about 1 kB each; readers skip and share out whole groups.
_ROW_GROUP = 10_000


def check_parquet(output: Path | None) -> None:
    """Find out before the work whether such a file can be written.

    Raises:
        UsageError: If there is no file for it.
        NotReadyError: If the package for it is not installed.
    """
    if output is None:
        raise UsageError("--format parquet needs --output FILE.parquet")
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise NotReadyError(
            f"--format parquet needs {error.name}; run: {install_hint('ray')}"
        ) from error


def write_parquet(output: Path, rows: Iterable[Row]) -> None:
    """Write a row per file; the columns are the rows' keys, nested as they are.

    Raises:
        NotReadyError: If the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema()
    remaining = iter(rows)
    with atomic_file(output) as partial, pq.ParquetWriter(partial, schema) as writer:
        while group := list(islice(remaining, _ROW_GROUP)):
            writer.write_table(pa.Table.from_pylist([_plain(row) for row in group], schema))


def _schema() -> "pa.Schema":
    import pyarrow as pa

    breed = {"name": pa.string(), "index": pa.int16(), "share": pa.float64()}
    class_ = {"index": pa.int16(), "name": pa.string(), "probability": pa.float64()}
    return pa.schema(
        {
            "path": pa.string(),
            "size": pa.int64(),
            "mtime_ns": pa.int64(),
            "sha256": pa.string(),
            "label": pa.string(),
            **dict.fromkeys(("cat", "dog", "other"), pa.float64()),
            "breed": pa.struct(breed),
            "top": pa.list_(pa.struct(class_)),
            "box": pa.list_(pa.int32()),
            **dict.fromkeys(("network", "weights", "precision", "version"), pa.string()),
            "error": pa.struct({"type": pa.string(), "message": pa.string()}),
        }
    )


def _plain(row: Row) -> dict[str, Any]:
    """A row without what a Parquet string cannot hold: names that are not UTF-8, escaped."""
    return row | {"path": os.fsencode(row["path"]).decode("utf-8", "backslashreplace")}
