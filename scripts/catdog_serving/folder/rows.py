"""Rows: one file's result as plain values, in the journal and in every output."""

from dataclasses import dataclass
from typing import Any, TypeAlias

from catdog.results import Prediction
from catdog_serving.folder.files import FileInfo, ImageFailure
from catdog_serving.folder.remote_path import AnyPath

# path, size, mtime_ns, sha256, then the answer's keys (map only for a report), or
# error: {type, message}.
Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class ImageResult:
    """What became of one file."""

    file: FileInfo
    outcome: Prediction | ImageFailure

    @property
    def path(self) -> AnyPath:
        return self.file.path


def to_row(result: ImageResult) -> Row:
    """A result as plain values."""
    file = result.file
    row = {
        "path": str(file.path),
        "size": file.size,
        "mtime_ns": file.mtime_ns,
        "sha256": file.sha256,
    }
    if isinstance(result.outcome, Prediction):
        return row | result.outcome.to_dict(with_map=True)
    return row | {"error": {"type": result.outcome.type, "message": result.outcome.message}}
