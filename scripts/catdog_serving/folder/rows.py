"""Rows: one file's result as plain values, in the journal and in every output."""

from dataclasses import dataclass
from typing import Any, TypeAlias

from catdog.networks import SEEDED
from catdog.postprocess import Prediction
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


@dataclass(frozen=True)
class ModelName:
    """What tells two models apart: results of different ones never go into one journal.

    The version is left out: TorchServe's scale-down and deploys give the same model
    the next number.
    """

    network: str
    weights: str
    precision: str

    def __str__(self) -> str:
        untrained = " (untrained: its answers mean nothing)" if self.untrained else ""
        return f"{self.network} {self.weights}{untrained}, {self.precision}"

    @property
    def untrained(self) -> bool:
        return self.weights == SEEDED

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {
            "network": self.network,
            "weights": self.weights,
            "precision": self.precision,
            "untrained": self.untrained,
        }

    @classmethod
    def of(cls, values: Row) -> "ModelName":
        """The model that a row, or a journal's first line, names."""
        return cls(values["network"], values["weights"], values["precision"])


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
