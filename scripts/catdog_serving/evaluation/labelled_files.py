"""Images whose truth is known by their folder (DIR/cats, DIR/dogs, DIR/neither), a row for each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from catdog.results import ModelId
from catdog_serving.errors import NotReadyError, UsageError
from catdog_serving.find_images import ImageFiles, find_sources, list_folder
from catdog_serving.folder.image_result import FAILED, FolderReport, ImageResult
from catdog_serving.folder.outputs import FORMAT_OF_SUFFIX, render, to_csv
from catdog_serving.folder.own_outputs import write_own
from catdog_serving.real_folders import Entry, count_files

TRUTHS = ("cat", "dog", "neither")
_FOLDER_NAMES = {
    **dict.fromkeys(("cat", "cats"), "cat"),
    **dict.fromkeys(("dog", "dogs"), "dog"),
    **dict.fromkeys(("neither", "other", "others"), "neither"),
}
_FORMATS = ("csv", "json", "jsonl")


@dataclass(frozen=True)
class LabelledResult(ImageResult):
    """A row of an evaluation.

    Attributes:
        truth: "cat", "dog" or "neither".
    """

    truth: str

    def to_dict(self) -> dict[str, Any]:
        """As of any file, and then its truth."""
        return super().to_dict() | {"truth": self.truth}


def rows_format(output: Path) -> str:
    """In which format the rows are written, by the file's suffix.

    Raises:
        UsageError: If it is none of those that have room for the truth.
    """
    found = FORMAT_OF_SUFFIX.get(output.suffix.lower())
    if found not in _FORMATS:
        raise UsageError(f"the rows go into .csv, .json or .jsonl; got --output {output}")
    return found


def write_rows(
    output: Path, rows: Iterable[LabelledResult], report: FolderReport, model: ModelId
) -> None:
    """Write a row per image, with its truth last; the file appears when it is complete.

    Raises:
        NotReadyError: If it cannot be written.
        RefusedError: If what has the name by then was not made by catdog.
    """
    name = rows_format(output)
    is_csv = name == "csv"
    blocks = to_csv(rows, more=("truth",)) if is_csv else render(name, rows, [report], model)
    write_own(output, blocks)


@dataclass(frozen=True)
class LabelledFolder:
    """The class folders of a folder.

    Attributes:
        sources: Truth -> the images of its folder; no image is of two.
        other_files: Files beside the class folders, which are none of a class.
        failed: The folder of images that could not be classified, if `classify --copy-to` made
            one beside the others; it is passed over, and its files are among `other_files`.
    """

    sources: dict[str, ImageFiles]
    other_files: int
    failed: Path | None = None

    @classmethod
    def find(cls, directory: Path, exclude: Sequence[str] = ()) -> "LabelledFolder":
        """The folder of each truth, by its name: `cats`, `Dog`, `neither`, `other`.

        Raises:
            NotReadyError: If one is missing, empty, there twice, or of another name.
        """
        folders, other_files, failed = _class_folders(directory, exclude)
        for truth in ("cat", "dog"):
            if truth not in folders:
                raise NotReadyError(
                    f"{directory} has no folder {truth}s; name a folder that has one"
                )
        truths = [truth for truth in TRUTHS if truth in folders]
        roots = [folders[truth] for truth in truths]
        for source in find_sources(roots, exclude=exclude):  # a look leaves traces in sources
            if next(iter(source), None) is None:
                raise NotReadyError(f"{source.root} holds no images; every class needs one")
        sources = {source.root: source for source in find_sources(roots, exclude=exclude)}
        return cls({truth: sources[folders[truth]] for truth in truths}, other_files, failed)

    @property
    def skipped(self) -> int:
        """Files that are no images, as far as the folders were walked."""
        return self.other_files + sum(source.skipped for source in self.sources.values())


def _class_folders(
    directory: Path, exclude: Sequence[str]
) -> tuple[dict[str, Path], int, Path | None]:
    """The folder of each truth that is there, how many files lie beside them, and `failed/`."""
    if not directory.is_dir():
        raise NotReadyError(f"there is no folder {directory}")
    folders, other_files = list_folder(directory, exclude)
    found: dict[str, Path] = {}
    failed: Path | None = None
    for path in folders:
        if path.name == FAILED:
            failed = path
            other_files += count_files(Entry(path, is_folder=True, is_link=path.is_symlink()))
            continue
        truth = _FOLDER_NAMES.get(path.name.lower())
        if truth is None:
            raise NotReadyError(
                f"{path} is no class that catdog knows; its folders may be called: "
                f"{', '.join(_FOLDER_NAMES)}"
            )
        if truth in found:
            raise NotReadyError(f"{found[truth]} and {path} are the same class; keep one")
        found[truth] = path
    return found, other_files, failed
