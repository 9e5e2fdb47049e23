"""Find the pictures under files and folders, sorted, one folder in memory at a time."""

import os
from collections.abc import Iterator
from pathlib import Path

from catdog_serving.errors import NotReadyError

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})


class ImageFiles:
    """The pictures under one path, in order.

    A path that is a file is always taken; in a folder, recursively, the files with
    a picture's suffix. Links to folders are followed, but never in a circle.

    Attributes:
        root: The path.
        skipped: Files passed over for their suffix so far.
    """

    def __init__(self, root: Path) -> None:
        if not root.exists():
            raise NotReadyError(f"there is no file or folder {root}")
        self.root = root
        self.skipped = 0

    def __iter__(self) -> Iterator[Path]:
        self.skipped = 0
        if self.root.is_dir():
            yield from self._walk(self.root, ())
        else:
            yield self.root

    def _walk(self, folder: Path, ancestors: tuple[tuple[int, int], ...]) -> Iterator[Path]:
        status = folder.stat()
        identity = (status.st_dev, status.st_ino)
        if identity in ancestors:
            return
        for name in sorted(os.listdir(folder)):
            path = folder / name
            if path.is_dir():
                yield from self._walk(path, (*ancestors, identity))
            elif path.suffix.lower() in PICTURE_SUFFIXES:
                yield path
            else:
                self.skipped += 1
