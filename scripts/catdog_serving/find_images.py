"""Find the images under files and folders, sorted, one folder in memory at a time."""

import os
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path, PurePath

from catdog_serving.errors import NotReadyError, UsageError
from catdog_serving.image_names import Selection
from catdog_serving.real_folders import (
    Entry,
    RealFolders,
    count_files,
    identities_of,
    identity_of,
    lies_under,
    real_path,
    relative_path,
    sort_key,
    sorted_entries,
)
from catdog_serving.remote_path import AnyPath


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
        if not self.is_missing and identity_of(root) in identities_of(never):
            raise UsageError(f"{root} is the state of a run, and no image")
        self.found = 0
        self.skipped = 0
        self.is_walked = False
        self.selection = Selection(tuple(patterns), tuple(exclude))
        self._shard = shard
        self._never = never
        self._folders = RealFolders([root] if self.is_folder else [], self.selection)

    def share(self, folders: RealFolders) -> None:
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
        pending = [iter([Entry(self.root, is_folder=True, is_link=False)])]
        own: set[tuple[int, int]] = set()
        while pending:
            entry = next(pending[-1], None)
            if entry is None:
                pending.pop()
                continue
            path, is_folder, _ = entry
            below = relative_path(path, self.root)
            if path != self.root and self.selection.passes_over(below, is_folder):
                self.skipped += count_files(entry)
            elif is_folder:
                try:
                    pending.append(self._listed(entry))
                except OSError:
                    yield path
                # Looked up for each folder: a file may come, and another take its name, meanwhile.
                own = identities_of(self._never)
            elif own and identity_of(path) in own:
                continue
            elif self.selection.takes(path, below):
                yield path
            else:
                self.skipped += 1

    def _listed(self, folder: Entry) -> Iterator[Entry]:
        """What a folder holds; nothing if it is walked under another name."""
        if not self._folders.take(folder, self.root):
            return iter(())
        return sorted_entries(folder.path)


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
    roots = [source.root for source in sources if source.is_folder]
    folders = RealFolders(roots, Selection(tuple(patterns), tuple(exclude)))
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
        entries = list(sorted_entries(folder))
    except OSError as error:
        raise NotReadyError(f"cannot look at {folder}: {error.strerror or error}") from error
    folders, others = [], 0
    selection = Selection(exclude=tuple(exclude))
    for entry in entries:
        below = relative_path(entry.path, folder)
        if entry.is_folder and not selection.passes_over(below, is_folder=True):
            folders.append(folder / entry.path.name)
        else:
            others += count_files(entry)
    return folders, others


def check_outside(target: Path, paths: Iterable[AnyPath]) -> None:
    """Make sure that the images to write do not lie among those to read.

    Raises:
        UsageError: If they would; a run would find its own, or those of the run before.
    """
    for path in paths:
        if isinstance(path, Path) and real_path(target).is_relative_to(real_path(path)):
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
        if (identity := identity_of(output)) is not None:
            written[identity] = output
    if not written:
        return
    for path in chain(others, *(chain((source.root,), source) for source in sources)):
        if (identity := identity_of(path)) in written:
            raise UsageError(
                f"{written[identity]} would replace {path}, which is to be read; "
                "choose another file"
            )
