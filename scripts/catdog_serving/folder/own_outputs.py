"""What catdog made: besides what is empty, the only files that an output takes the place of.

A file is known by how it begins, whatever its name: any of catdog's formats may replace any other.
"""

import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from catdog_serving.atomic_write import atomic_write
from catdog_serving.errors import NotReadyError, RefusedError

_HEAD_BYTES = 65_536  # the first edition's pages name their maker after their styles

# How each format begins, of this edition and of the first; overlays and charts of this one only. An
# overlay's comment follows the header (2 + 18 bytes), a chart's first text its own (8 + 25).
_OWN = re.compile(
    rb'\{"catdog_journal":\d'
    rb'|\{\s*"model": ?\{\s*"network": ?"[^"]*",\s*"weights":'
    rb'|\{"date":"[^"]*","machine":\{[^}]*\},"versions":'
    rb"|(\xef\xbb\xbf)?path,size,mtime_ns,sha256,label,cat,dog,other,"
    rb"|label +cat +dog +breed +file\r?\n"
    rb'|<!doctype html>.*?(<meta name="generator" content="catdog |made [\d: -]{16} by catdog )'
    rb"|\xff\xd8\xff\xe0.{16}\xff\xfe..catdog overlay"
    rb"|\x89PNG\r\n\x1a\n.{25}.{4}tEXtSoftware\x00catdog ",
    re.DOTALL,
)
_PARQUET = b"PAR1"
_PARQUET_COLUMNS = ["path", "size", "mtime_ns", "sha256", "label", "cat", "dog", "other"]


def check_own(path: Path) -> None:
    """Make sure that an output may take the place of what is there.

    Nothing that is there is waited for: a pipe or a device replaces nothing.

    Raises:
        RefusedError: If catdog did not make it, and it is not empty.
        NotReadyError: If it cannot be looked at.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        raise NotReadyError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return
        head = os.read(descriptor, _HEAD_BYTES)
    finally:
        os.close(descriptor)
    if head and not _OWN.match(head) and not (head.startswith(_PARQUET) and _is_parquet(path)):
        raise RefusedError(
            f"{path} is there, and catdog did not make it; choose another name, or delete it"
        )


def write_own(path: Path, blocks: Iterable[bytes]) -> None:
    """Atomic write of an output, which is checked again just before it gets its name.

    Hours may lie between the start of a run and its end.

    Raises:
        RefusedError: If there is a file by then that catdog did not make.
        NotReadyError: If it cannot be written.
    """

    def checked() -> Iterator[bytes]:
        yield from blocks
        check_own(path)

    atomic_write(path, checked())


def _is_parquet(path: Path) -> bool:
    """Whether it has the columns of catdog's rows."""
    try:
        import pyarrow.parquet as pq

        names = pq.read_schema(path).names
    except (ImportError, OSError, ValueError):  # it is no whole Parquet file
        return False
    return bool(names[: len(_PARQUET_COLUMNS)] == _PARQUET_COLUMNS)
