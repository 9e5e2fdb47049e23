"""What became of one image file, and of a folder of them: the rows and sums of every output."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from catdog.results import Prediction
from catdog_serving.remote_path import AnyPath

FAILED = "failed"  # the label of a file without an answer
# The types of failures.
UNREADABLE = "Unreadable"
TOO_LARGE = "TooLarge"
INVALID_IMAGE = "InvalidImage"
UNWRITABLE = "Unwritable"  # of an overlay


@dataclass(frozen=True)
class FileInfo:
    """What identifies a file's content.

    Attributes:
        path: As it was found.
        size: In bytes; None if the file could not be looked at.
        mtime_ns: Time of the last change, in nanoseconds since 1970; None likewise.
        sha256: Of the content, in hex; None if it was not read.
        moved_to: Where `--move-to` took it since; None if it is where it was found.
    """

    path: AnyPath
    size: int | None = None
    mtime_ns: int | None = None
    sha256: str | None = None
    moved_to: Path | None = None


@dataclass(frozen=True)
class ImageFailure:
    """Why a file has no prediction.

    Attributes:
        type: "Unreadable" (the file could not be read; worth another try), "TooLarge",
            "InvalidImage" (what it holds was refused), or "Unwritable" (its overlay, by
            `catdog explain`).
        message: A sentence.
    """

    type: str
    message: str

    @classmethod
    def refused(cls, message: str) -> "ImageFailure":
        """What the core or a server says of an image, for who has the file and sends nothing."""
        if message.startswith("got no bytes"):
            return cls(INVALID_IMAGE, "the file is empty")
        return cls(INVALID_IMAGE, message.partition("; send ")[0])


@dataclass(frozen=True)
class ImageResult:
    """What became of one file: a row of every output."""

    file: FileInfo
    outcome: Prediction | ImageFailure

    @property
    def path(self) -> AnyPath:
        return self.file.path

    @property
    def label(self) -> str:
        """ "cat", "dog", "neither" or "failed"."""
        return self.outcome.label if isinstance(self.outcome, Prediction) else FAILED

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON: path, size, mtime_ns, sha256, the answer's keys or `error`."""
        file, outcome = self.file, self.outcome
        values = {
            "path": str(file.path),
            "size": file.size,
            "mtime_ns": file.mtime_ns,
            "sha256": file.sha256,
        }
        if isinstance(outcome, Prediction):
            return values | outcome.to_dict(with_map=True)
        return values | {"error": {"type": outcome.type, "message": outcome.message}}


@dataclass
class FolderReport:
    """The summary of one folder, or of all files that were named by themselves.

    Attributes:
        folder: The path as it was given; for files, how many.
        is_folder: Whether it is one; not of files that were named by themselves.
        images: Images classified.
        reused: How many of them were done already, in an earlier run.
        failed: Files that could not be classified.
        unreadable: How many of them could not be read; `--resume` tries them again.
        skipped: Files that are no images by their name.
        seconds: Time that this run spent on what was not done already.
        labels: How often each label was given.
        uncertain: Images whose label has a certainty below one half.
        first_failed: The row of the first file that failed, if there is one.
    """

    folder: str
    is_folder: bool = True
    images: int = 0
    reused: int = 0
    failed: int = 0
    unreadable: int = 0
    skipped: int = 0
    seconds: float = 0.0
    labels: Counter[str] = field(default_factory=Counter)
    uncertain: int = 0
    first_failed: tuple[ImageResult, ...] = ()
    _cat_sum: float = 0.0
    _dog_sum: float = 0.0

    @classmethod
    def total(cls, reports: "Iterable[FolderReport]") -> "FolderReport":
        """The sum of several; its folder has no name."""
        total = cls("")
        for report in reports:
            for each in fields(cls)[2:]:
                setattr(total, each.name, getattr(total, each.name) + getattr(report, each.name))
        return total

    def add(self, result: ImageResult, reused: bool = False) -> None:
        """Count one row."""
        if isinstance(result.outcome, ImageFailure):
            self.first_failed = self.first_failed or (result,)
            self.failed += 1
            self.unreadable += result.outcome.type == UNREADABLE
            return
        self.images += 1
        self.reused += reused
        self.labels[result.label] += 1
        self.uncertain += result.outcome.is_uncertain
        self._cat_sum += result.outcome.cat
        self._dog_sum += result.outcome.dog

    @property
    def images_per_s(self) -> float:
        """Of the images that this run classified."""
        return (self.images - self.reused) / self.seconds if self.seconds else 0.0

    @property
    def mean_cat(self) -> float | None:
        """Mean cat mass over the classified images; None if there are none."""
        return self._cat_sum / self.images if self.images else None

    @property
    def mean_dog(self) -> float | None:
        return self._dog_sum / self.images if self.images else None

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {
            "folder": self.folder,
            "images": self.images,
            "reused": self.reused,
            "failed": self.failed,
            "skipped": self.skipped,
            "seconds": round(self.seconds, 3),
            "images_per_s": round(self.images_per_s, 2),
            "mean_cat": self.mean_cat,
            "mean_dog": self.mean_dog,
            "labels": dict(self.labels),
            "uncertain": self.uncertain,
        }
