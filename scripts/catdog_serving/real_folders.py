"""Folders as they are: their order, what they hold, and which names are of one and the same."""

import os
from bisect import bisect_right
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path, PurePath, PurePosixPath
from typing import NamedTuple

from catdog_serving.errors import UsageError
from catdog_serving.image_names import Selection
from catdog_serving.remote_path import AnyPath, RemotePath, local_path


class Entry(NamedTuple):
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

    def __init__(self, roots: Iterable[AnyPath], selection: Selection) -> None:
        """Look at the folders that were named, for one selection of what lies below.

        Raises:
            UsageError: If one is another, or lies inside of it, by a link or a mount.
        """
        self._walked: set[Hashable] = set()  # identities of folders
        self._under: dict[AnyPath, list[Hashable]] = {}  # those of each path that was named
        self._roots: dict[Hashable, AnyPath] = {}
        real: dict[bytes, AnyPath] = {}  # where a path leads, as its sort key
        for root in roots:
            here = local_path(root)
            if here is None:  # in a store nothing has two names
                continue
            with suppress(OSError):  # for the walk to report
                if (other := self._roots.setdefault(_folder_identity(root), root)) != root:
                    raise UsageError(f"{root} is {other}; name every image once")
            real[sort_key(real_path(here))] = root
        self._real = sorted(real)
        self._selection = selection
        for outer, inner in pairwise(self._real):
            if lies_under(inner, outer):
                raise UsageError(f"{real[inner]} lies inside {real[outer]}; name every image once")

    def forget(self, root: AnyPath) -> None:
        """Let what was walked under a path be walked again."""
        self._walked.difference_update(self._under.pop(root, ()))

    def take(self, folder: Entry, root: AnyPath) -> bool:
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
        self._walked.add(identity)
        self._under.setdefault(root, []).append(identity)
        return True

    def _is_found_elsewhere(self, folder: Entry) -> bool:
        """Whether it is a link to what lies under a path that was named, and is found there."""
        here = local_path(folder.path)
        if here is None or not folder.is_link:
            return False
        key = sort_key(real_path(here))
        index = root_index(key, self._real)
        if index is None:
            return False
        below = PurePosixPath(*os.fsdecode(key.removeprefix(self._real[index])).split("\0"))
        folders = [below, *below.parents][:-1]  # without the path itself that was named
        return not any(self._selection.passes_over(one, is_folder=True) for one in folders)


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


def real_path(path: Path) -> Path:
    """Where a path leads; unlike `Path.resolve`, of a link to itself too."""
    return Path(os.path.realpath(path))


def nearest_there(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())


def identity_of(path: AnyPath) -> tuple[int, int] | None:
    """What all names of a file of this machine have in common; None if there is none."""
    here = local_path(path)
    if here is None:
        return None
    try:
        status = here.stat()
    except OSError:  # for another to report, who needs it
        return None
    return status.st_dev, status.st_ino


def identities_of(paths: Iterable[Path]) -> set[tuple[int, int]]:
    """Those of the files that are there."""
    return {found for path in paths if (found := identity_of(path))}


def _folder_identity(folder: AnyPath) -> Hashable:
    """What all names of a folder have in common.

    Raises:
        OSError: If it cannot be looked at.
    """
    status = folder.stat()
    return status.st_dev, status.st_ino


def sorted_entries(folder: AnyPath) -> Iterator[Entry]:
    """What a folder holds, sorted by name; fails at once if it cannot be listed."""
    if isinstance(folder, RemotePath):
        return (Entry(path, path.is_dir(), _is_link(path)) for path in folder.iterdir())
    with os.scandir(folder) as entries:
        found = sorted(
            (os.fsencode(one.name), _is_folder(one), one.is_symlink()) for one in entries
        )
    return (Entry(folder / os.fsdecode(name), *kind) for name, *kind in found)


def count_files(entry: Entry) -> int:
    """The files in a folder that is passed over, but for those behind links; 1 for a file."""
    count, pending = 0, [entry]
    while pending:
        one = pending.pop()
        if not one.is_folder or (one is entry and one.is_link):
            count += 1
        elif not one.is_link:
            try:
                pending.extend(sorted_entries(one.path))
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
