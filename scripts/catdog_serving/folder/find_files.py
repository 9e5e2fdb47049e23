"""Find the images under files and folders, sorted, one folder in memory at a time."""

import fnmatch
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path, PurePath, PurePosixPath

from catdog_serving.errors import NotReadyError, UsageError
from catdog_serving.folder.remote_path import AnyPath, RemotePath

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif"}
)


@dataclass(frozen=True)
class Shard:
    """One of `count` parts of a folder; a file's part depends on its name alone.

    Attributes:
        index: Which part, 0..count-1.
        count: How many parts there are.
    """

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read "i/n", such as 0/4.

        Raises:
            UsageError: If it is not that.
        """
        index, _, count = text.partition("/")
        if index.isdecimal() and count.isdecimal() and int(index) < int(count):
            return cls(int(index), int(count))
        raise UsageError(f"--shard is i/n with i from 0 to n - 1, such as 0/4; got {text!r}")

    def holds(self, relative_path: PurePath) -> bool:
        """Whether a file, by its path below the folder that was named, is of this part."""
        name = os.fsencode(relative_path.as_posix())
        return zlib.crc32(name) % self.count == self.index


class ImageFiles:
    """The images under one path, in order.

    A path that is a file is always taken; in a folder, recursively, the files with an
    image's suffix. Links to folders are followed, but never in a circle. A folder
    that cannot be listed is given as if it were a file, so that it is not lost silently.

    Attributes:
        root: The path.
        skipped: Files passed over for their name so far.
    """

    def __init__(
        self, root: AnyPath, patterns: Sequence[str] = (), shard: Shard | None = None
    ) -> None:
        """Look at a path.

        Args:
            root: The file or folder.
            patterns: If any: take the files that match one, whatever their suffix. Such as
                *.jpg for the name, or 2024/*.jpg for the path below root (* matches / there).
            shard: Take only the files of this part.
        """
        if not root.exists():
            raise NotReadyError(f"there is no file or folder {root}")
        self.root = root
        self.is_folder = root.is_dir()
        self.is_sharded = shard is not None
        self.skipped = 0
        self._patterns = patterns
        self._shard = shard

    def __iter__(self) -> Iterator[AnyPath]:
        self.skipped = 0
        found = self._walk(self.root, ()) if self.is_folder else iter((self.root,))
        if self._shard is None:
            yield from found
        else:
            base = self.root if self.is_folder else self.root.parent
            yield from (path for path in found if self._shard.holds(relative_path(path, base)))

    def _walk(self, folder: AnyPath, ancestors: tuple[object, ...]) -> Iterator[AnyPath]:
        try:
            status = folder.stat()
            entries = _sorted_entries(folder)
        except OSError:
            yield folder
            return
        identity = (status.st_dev, status.st_ino)
        if identity in ancestors:
            return
        for path, is_folder in entries:
            if is_folder:
                yield from self._walk(path, (*ancestors, identity))
            elif self._is_wanted(path):
                yield path
            else:
                self.skipped += 1

    def _is_wanted(self, path: AnyPath) -> bool:
        if not self._patterns:
            return path.suffix.lower() in IMAGE_SUFFIXES
        relative = relative_path(path, self.root).as_posix()
        return any(
            fnmatch.fnmatchcase(relative if "/" in pattern else path.name, pattern)
            for pattern in self._patterns
        )


def find_sources(
    paths: Sequence[AnyPath], patterns: Sequence[str] = (), shard: Shard | None = None
) -> list[ImageFiles]:
    """The given files and folders, in the order of `sort_key`.

    Raises:
        UsageError: If one lies inside another, which would count its images twice.
        NotReadyError: If one does not exist.
    """
    ordered = sorted(paths, key=sort_key)
    for outer, inner in pairwise(ordered):
        if sort_key(inner)[: len(sort_key(outer))] == sort_key(outer):
            twice = "is named twice" if inner == outer else f"lies inside {outer}"
            raise UsageError(f"{inner} {twice}; name every image once")
    return [ImageFiles(path, patterns, shard) for path in ordered]


def check_outside(target: Path, paths: Iterable[AnyPath]) -> None:
    """Make sure that the images to write do not lie among those to read.

    Raises:
        UsageError: If they would; a run would find its own, or those of the run before.
    """
    for path in paths:
        if isinstance(path, Path) and target.resolve().is_relative_to(path.resolve()):
            raise UsageError(f"{target} lies inside {path}; choose a folder outside of it")


def check_not_read(
    outputs: Iterable[Path], sources: Iterable[ImageFiles], others: Iterable[Path] = ()
) -> None:
    """Make sure that no file to write is one of those to read, by whatever name.

    Args:
        outputs: Files to write; only one that is there already can be read.
        sources: Images to read, on this machine; not looked at if there is no such output.
        others: What else is read: the archive, the configuration.

    Raises:
        UsageError: If one is.
    """
    written: dict[tuple[int, int], Path] = {}
    for output in outputs:
        if (identity := _identity(output)) is not None:
            written[identity] = output
    if not written:
        return
    for path in chain(others, *(chain((source.root,), source) for source in sources)):
        if isinstance(path, Path) and (identity := _identity(path)) in written:
            raise UsageError(
                f"{written[identity]} would replace {path}, which is to be read; "
                "choose another file"
            )


def sort_key(path: PurePath | RemotePath) -> tuple[str, ...]:
    """The order in which files are found: folder by folder, sorted by name in each."""
    parts = path.parts
    return parts if path.is_absolute() or parts[:1] == ("..",) else (".", *parts)


def relative_path(path: AnyPath, base: AnyPath) -> PurePath:
    """The path of a file below a folder that holds it."""
    return PurePosixPath(*path.parts[len(base.parts) :])


def _identity(path: Path) -> tuple[int, int] | None:
    """What all names of a file have in common; None if there is none."""
    try:
        status = path.stat()
    except OSError:  # for another to report, who needs it
        return None
    return status.st_dev, status.st_ino


def _sorted_entries(folder: AnyPath) -> Iterator[tuple[AnyPath, bool]]:
    """What a folder holds, sorted by name, and whether it is a folder; fails at once."""
    if isinstance(folder, RemotePath):
        return ((path, path.is_dir()) for path in folder.iterdir())
    with os.scandir(folder) as entries:
        names = sorted((entry.name, _is_folder(entry)) for entry in entries)
    return ((folder / name, is_folder) for name, is_folder in names)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
