"""What a folder holds, and what is old enough in it to be a killed process's."""

import os
import time
from pathlib import Path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def make_old(path: Path) -> None:
    then = time.time() - 120
    os.utime(path, (then, then), follow_symlinks=False)
