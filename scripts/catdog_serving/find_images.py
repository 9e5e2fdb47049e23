"""Find the images under files and folders, sorted, one folder in memory at a time."""

import os
import zlib
from bisect import bisect_right
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path, PurePath, PurePosixPath
from typing import NamedTuple

from catdog_serving.errors import NotReadyError, UsageError
from catdog_serving.image_names import Selection
from catdog_serving.remote_path import AnyPath, RemotePath, local_path


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


class _Entry(NamedTuple):
    """What a folder holds: a file, a folder, or a link to one."""

    path: AnyPath
    is_folder: bool
    is_link: bool


class RealFolders:
    """The folders of one run, each of which is walked under one name, whatever links lead to it.

    A link to what lies under a path that was named is not followed: that is found there, and
    so no image has another path because of a link that comes or goes. Any other folder is
    walked where it is met first.
    """

    def __init__(self, sources: Sequence["ImageFiles"]) -> None:
        """Look at the folders that were named, for one selection of what lies below.

        Raises:
            UsageError: If one is another, or lies inside of it, by a link or a mount.
        """
        self._walked: dict[Hashable, AnyPath] = {}  # a folder's identity -> the path it is under
        self._roots: dict[Hashable, AnyPath] = {}
        real: dict[bytes, AnyPath] = {}  # where a path leads, as its sort key
        for root in (source.root for source in sources if source.is_folder):
            here = local_path(root)
            if here is None:  # in a store nothing has two names
                continue
            with suppress(OSError):  # for the walk to report
                if (other := self._roots.setdefault(_folder_identity(root), root)) != root:
                    raise UsageError(f"{root} is {other}; name every image once")
            real[sort_key(_real(here))] = root
        self._real = sorted(real)
        self._selection = sources[0].selection if sources else Selection()
        for outer, inner in pairwise(self._real):
            if lies_under(inner, outer):
                raise UsageError(f"{real[inner]} lies inside {real[outer]}; name every image once")

    def forget(self, root: AnyPath) -> None:
        """Let what was walked under a path be walked again."""
        self._walked = {one: under for one, under in self._walked.items() if under != root}

    def take(self, folder: _Entry, root: AnyPath) -> bool:
        """Whether a folder is to be walked here, and nowhere else from now on.

        Args:
            folder: Where it was met.
            root: The path that was named, and that it was met under.

        Raises:
            OSError: If it cannot be looked at.
        """
        identity = _folder_identity(folder.path)
        if folder.path != root and (identity in self._roots or self._is_found_elsewhere(folder)):
            return False
        if identity in self._walked:
            return False
        self._walked[identity] = root
        return True

    def _is_found_elsewhere(self, folder: _Entry) -> bool:
        """Whether it is a link to what lies under a path that was named, and is found there."""
        here = local_path(folder.path)
        if here is None or not folder.is_link:
            return False
        key = sort_key(_real(here))
        index = root_index(key, self._real)
        if index is None:
            return False
        below = PurePosixPath(*os.fsdecode(key.removeprefix(self._real[index])).split("\0"))
        folders = [below, *below.parents][:-1]  # without the path itself that was named
        return not any(self._selection.passes_over(one, is_folder=True) for one in folders)


class ImageFiles:
    """The images under one path, in order.

    A path that is a file is always taken; in a folder, recursively, the files that are images
    by their suffix or content, and nothing hidden. Links to folders are followed, and each real
    folder is walked once; see `RealFolders`. A folder that cannot be listed is given as if it
    were a file, so that it is not lost silently.

    Attributes:
        root: The path.
        selection: What of it is taken.
        is_missing: There is nothing there, which only a run that goes on may allow.
        found: Files found so far, those of other shards too.
        skipped: Files passed over so far, those of passed-over folders too.
        is_walked: It was walked to its end, and a folder could be listed.
    """

    def __init__(
        self,
        root: AnyPath,
        patterns: Sequence[str] = (),
        shard: Shard | None = None,
        never: Collection[Path] = (),
        may_be_missing: bool = False,
        exclude: Sequence[str] = (),
    ) -> None:
        """Look at a path.

        Args:
            root: The file or folder.
            patterns, exclude: Which of what lies in a folder; see `Selection`.
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
        self.selection = Selection(tuple(patterns), tuple(exclude))
        self._shard = shard
        self._never = never
        self._folders = RealFolders([self])

    def share(self, folders: "RealFolders") -> None:
        """Walk no folder that another source of the run walks."""
        self._folders = folders

    def missing(self) -> NotReadyError:
        """What is said where nothing is there."""
        return NotReadyError(f"there is no file or folder {self.root}")

    def __iter__(self) -> Iterator[AnyPath]:
        self.found = self.skipped = 0
        self.is_walked = False
        if self.is_missing:
            return
        self._folders.forget(self.root)
        base, is_listed = self.root if self.is_folder else self.root.parent, True
        for path in self._walk() if self.is_folder else (self.root,):
            self.found += 1
            is_listed = is_listed and not (self.is_folder and path == self.root)
            if self._shard is None or self._shard.holds(relative_path(path, base)):
                yield path
        self.is_walked = is_listed

    def _walk(self) -> Iterator[AnyPath]:
        """Depth first, without recursion: folders may be nested deeper than Python's stack is."""
        pending = [iter([_Entry(self.root, is_folder=True, is_link=False)])]
        own: set[tuple[int, int]] = set()
        while pending:
            entry = next(pending[-1], None)
            if entry is None:
                pending.pop()
                continue
            path, is_folder, _ = entry
            below = relative_path(path, self.root)
            if path != self.root and self.selection.passes_over(below, is_folder):
                self.skipped += _count_files(entry)
            elif is_folder:
                try:
                    pending.append(self._listed(entry))
                except OSError:
                    yield path
                # Looked up for each folder: a file may come, and another take its name, meanwhile.
                own = _identities(self._never)
            elif own and _identity(path) in own:
                continue
            elif self.selection.takes(path, below):
                yield path
            else:
                self.skipped += 1

    def _listed(self, folder: _Entry) -> Iterator[_Entry]:
        """What a folder holds; nothing if it is walked under another name."""
        if not self._folders.take(folder, self.root):
            return iter(())
        return _sorted_entries(folder.path)


def find_sources(
    paths: Sequence[AnyPath],
    patterns: Sequence[str] = (),
    shard: Shard | None = None,
    never: Collection[Path] = (),
    may_be_missing: bool = False,
    exclude: Sequence[str] = (),
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
    sources = [
        ImageFiles(path, patterns, shard, never, may_be_missing, exclude) for path in ordered
    ]
    folders = RealFolders(sources)
    for source in sources:
        source.share(folders)
    return sources


def list_folder(folder: Path, exclude: Sequence[str] = ()) -> tuple[list[Path], int]:
    """The folders in a folder, sorted by name, and the number of files in it that are in none.

    What is passed over, as `Selection` has it, is none of the folders, and its files are counted.

    Raises:
        NotReadyError: If it cannot be listed.
    """
    try:
        entries = list(_sorted_entries(folder))
    except OSError as error:
        raise NotReadyError(f"cannot look at {folder}: {error.strerror or error}") from error
    folders, others = [], 0
    selection = Selection(exclude=tuple(exclude))
    for entry in entries:
        below = relative_path(entry.path, folder)
        if entry.is_folder and not selection.passes_over(below, is_folder=True):
            folders.append(folder / entry.path.name)
        else:
            others += _count_files(entry)
    return folders, others


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


def _folder_identity(folder: AnyPath) -> Hashable:
    """What all names of a folder have in common.

    Raises:
        OSError: If it cannot be looked at.
    """
    status = folder.stat()
    return status.st_dev, status.st_ino


def _sorted_entries(folder: AnyPath) -> Iterator[_Entry]:
    """What a folder holds, sorted by name; fails at once if it cannot be listed."""
    if isinstance(folder, RemotePath):
        return (_Entry(path, path.is_dir(), _is_link(path)) for path in folder.iterdir())
    with os.scandir(folder) as entries:
        found = sorted(
            (os.fsencode(one.name), _is_folder(one), one.is_symlink()) for one in entries
        )
    return (_Entry(folder / os.fsdecode(name), *kind) for name, *kind in found)


def _count_files(entry: _Entry) -> int:
    """The files in a folder that is passed over, but for those behind links; 1 for a file."""
    count, pending = 0, [entry]
    while pending:
        one = pending.pop()
        if not one.is_folder:
            count += 1
        elif one is entry or not one.is_link:
            try:
                pending.extend(_sorted_entries(one.path))
            except OSError:
                count += 1
    return count


def _is_link(path: RemotePath) -> bool:
    here = local_path(path)
    return here is not None and here.is_symlink()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
