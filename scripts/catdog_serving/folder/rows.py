"""Rows: one file's result as plain values, in the journal and in every output."""

from dataclasses import dataclass
from typing import Any, TypeAlias

from catdog.results import Prediction
from catdog_serving.folder.contents import FileFacts, ImageError
from catdog_serving.folder.remote_path import AnyPath

# path, size, mtime_ns, sha256, then the answer's keys (map only for a report), or
# error: {type, message}.
Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class ImageResult:
    """What became of one file."""

    facts: FileFacts
    outcome: Prediction | ImageError

    @property
    def path(self) -> AnyPath:
        return self.facts.path


def to_row(result: ImageResult) -> Row:
    """A result as plain values."""
    facts = result.facts
    row = {
        "path": str(facts.path),
        "size": facts.size,
        "mtime_ns": facts.mtime_ns,
        "sha256": facts.sha256,
    }
    if isinstance(result.outcome, Prediction):
        return row | result.outcome.to_dict(with_map=True)
    return row | {"error": {"type": result.outcome.type, "message": result.outcome.message}}
