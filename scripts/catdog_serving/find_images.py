"""Find the images under files and folders, sorted, one folder in memory at a time."""

import fnmatch
import os
import zlib
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path, PurePath, PurePosixPath

from catdog_serving.errors import NotReadyError, UsageError
from catdog_serving.remote_path import AnyPath, RemotePath, local_path

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
        is_missing: There is nothing there, which only a run that goes on may allow.
        found: Files found so far, those of other shards too.
        skipped: Files passed over for their name so far.
        is_walked: It was walked to its end, and a folder could be listed.
    """

    def __init__(
        self,
        root: AnyPath,
        patterns: Sequence[str] = (),
        shard: Shard | None = None,
        never: Collection[Path] = (),
        may_be_missing: bool = False,
    ) -> None:
        """Look at a path.

        Args:
            root: The file or folder.
            patterns: If any: take the files that match one, whatever their suffix. Such as
                *.jpg for the name, or 2024/*.jpg for the path below root (* matches / there).
            shard: Take only the files of this part.
            never: The run's own files. They are no images, by whatever name.
            may_be_missing: Take a path that does not exist for a file that is gone.

        Raises:
            NotReadyError: If it does not exist, or cannot be looked at.
            UsageError: If it is one of the run's own files.
        """
        self.root = root
        try:
            self.is_missing = not root.exists()
            self.is_folder = root.is_dir()
        except OSError as error:
            raise NotReadyError(f"cannot look at {root}: {error.strerror or error}") from error
        if self.is_missing and not may_be_missing:
            raise self.missing()
        if not self.is_missing and _identity(root) in _identities(never):
            raise UsageError(f"{root} is the state of a run, and no image")
        self.found = 0
        self.skipped = 0
        self.is_walked = False
        self._patterns = patterns
        self._shard = shard
        self._never = never

    def missing(self) -> NotReadyError:
        """What is said where nothing is there."""
        return NotReadyError(f"there is no file or folder {self.root}")

    def __iter__(self) -> Iterator[AnyPath]:
        self.found = self.skipped = 0
        self.is_walked = False
        if self.is_missing:
            return
        base, is_listed = self.root if self.is_folder else self.root.parent, True
        for path in self._walk(self.root, ()) if self.is_folder else (self.root,):
            self.found += 1
            is_listed = is_listed and not (self.is_folder and path == self.root)
            if self._shard is None or self._shard.holds(relative_path(path, base)):
                yield path
        self.is_walked = is_listed

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
        # Looked up for each folder: a file may come, and another take its name, meanwhile.
        own = _identities(self._never)
        for path, is_folder in entries:
            if is_folder:
                yield from self._walk(path, (*ancestors, identity))
            elif own and _identity(path) in own:
                continue
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
    paths: Sequence[AnyPath],
    patterns: Sequence[str] = (),
    shard: Shard | None = None,
    never: Collection[Path] = (),
    may_be_missing: bool = False,
) -> list[ImageFiles]:
    """The given files and folders, in the order of `sort_key`; see `ImageFiles`.

    Raises:
        UsageError: If one lies inside another, which would count its images twice.
        NotReadyError: If one does not exist.
    """
    ordered = sorted(paths, key=sort_key)
    for outer, inner in pairwise(ordered):
        if lies_under(sort_key(inner), sort_key(outer)):
            twice = "is named twice" if inner == outer else f"lies inside {outer}"
            raise UsageError(f"{inner} {twice}; name every image once")
    return [ImageFiles(path, patterns, shard, never, may_be_missing) for path in ordered]


def check_outside(target: Path, paths: Iterable[AnyPath]) -> None:
    """Make sure that the images to write do not lie among those to read.

    Raises:
        UsageError: If they would; a run would find its own, or those of the run before.
    """
    for path in paths:
        if isinstance(path, Path) and _real(target).is_relative_to(_real(path)):
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
        if (identity := _identity(path)) in written:
            raise UsageError(
                f"{written[identity]} would replace {path}, which is to be read; "
                "choose another file"
            )


def sort_key(path: PurePath | RemotePath) -> bytes:
    """The order in which files are found: folder by folder, sorted by name in each.

    Names are bytes on Linux; between two of them is a zero, which is in no name.
    """
    parts = path.parts
    if not path.is_absolute() and parts[:1] != ("..",):
        parts = (".", *parts)
    return os.fsencode("\0".join(parts))


def lies_under(key: bytes, folder_key: bytes) -> bool:
    """Whether a path is a folder, or lies in it at any depth; by their sort keys."""
    return key == folder_key or key.startswith(folder_key + b"\0")


def root_index(key: bytes, root_keys: Sequence[bytes]) -> int | None:
    """Which root a path is or lies in, by their sort keys; None if it is in none.

    Args:
        key: Of the path.
        root_keys: In order, none inside another.
    """
    index = bisect_right(root_keys, key) - 1
    return index if index >= 0 and lies_under(key, root_keys[index]) else None


def relative_path(path: AnyPath, base: AnyPath) -> PurePath:
    """The path of a file below a folder that holds it."""
    return PurePosixPath(*path.parts[len(base.parts) :])


def _real(path: Path) -> Path:
    """Where a path leads; unlike `Path.resolve`, of a link to itself too."""
    return Path(os.path.realpath(path))


def _identity(path: AnyPath) -> tuple[int, int] | None:
    """What all names of a file of this machine have in common; None if there is none."""
    here = local_path(path)
    if here is None:
        return None
    try:
        status = here.stat()
    except OSError:  # for another to report, who needs it
        return None
    return status.st_dev, status.st_ino


def _identities(paths: Iterable[Path]) -> set[tuple[int, int]]:
    """Those of the files that are there."""
    return {found for path in paths if (found := _identity(path))}


def _sorted_entries(folder: AnyPath) -> Iterator[tuple[AnyPath, bool]]:
    """What a folder holds, sorted by name, and whether it is a folder; fails at once."""
    if isinstance(folder, RemotePath):
        return ((path, path.is_dir()) for path in folder.iterdir())
    with os.scandir(folder) as entries:
        names = sorted((os.fsencode(entry.name), _is_folder(entry)) for entry in entries)
    return ((folder / os.fsdecode(name), is_folder) for name, is_folder in names)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
