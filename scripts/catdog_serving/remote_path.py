"""Files that have a URI: in an object store (s3://, gs://), or file:// for the same code here.

They are read through PyArrow's file systems, which are those of Ray Data. Credentials,
regions and endpoints come from where these look: the environment, and their usual files.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from catdog_serving.errors import NotReadyError, UsageError

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem

SCHEMES = ("s3", "gs", "file")

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_ANONYMOUS = "anonymous@"
_BUCKET = re.compile(rf"({_ANONYMOUS})?[a-z0-9][a-z0-9._-]*")


class RemoteStatus(NamedTuple):
    """What is used of `os.stat_result`.

    Attributes:
        st_mode: A file, a folder, or 0 for anything else.
        st_size: In bytes; None if the file system does not say, as for st_mtime_ns.
        st_mtime_ns: Time of the last change, in nanoseconds since 1970.
        st_dev, st_ino: What tells two folders apart.
    """

    st_mode: int
    st_size: int | None
    st_mtime_ns: int | None
    st_dev: str
    st_ino: str


@dataclass(frozen=True)
class RemotePath:
    """The URI of a file or folder, with as much of `pathlib.Path` as folders need.

    What follows the scheme is taken as it is, as by `aws s3` and Ray: % stands for itself.

    Attributes:
        scheme: One of `SCHEMES`.
        place: "bucket/key"; for file:// an absolute path.
        known: What a listing told of it, so that it need not be asked for again.
    """

    scheme: str
    place: str
    known: RemoteStatus | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.place}"

    @property
    def parts(self) -> tuple[str, ...]:
        """The root, which is "s3://bucket" or "file:///", and the names below it."""
        bucket, *names = self.place.split("/")
        return (f"{self.scheme}://{bucket or '/'}", *filter(None, names))

    @property
    def name(self) -> str:
        return self.parts[-1]

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.name).suffix

    @property
    def parent(self) -> "RemotePath":
        return RemotePath(self.scheme, self.place.rpartition("/")[0] or "/")

    def is_absolute(self) -> bool:
        return True

    def stat(self) -> RemoteStatus:
        """What is known of it.

        Raises:
            OSError: If it is not there, or the file system does not answer.
        """
        if self.known is not None:
            return self.known
        with _plain_errors():
            (info,) = self._file_system.get_file_info([self._place_inside])
        status = self._status(info)
        if status is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return status

    def exists(self) -> bool:
        """Whether it is there.

        Raises:
            NotReadyError: If the file system does not answer.
        """
        try:
            self.stat()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise NotReadyError(
                f"cannot look at {self}: {error.strerror}; credentials and region are those "
                "of the environment"
            ) from error
        return True

    def is_dir(self) -> bool:
        return self.exists() and stat.S_ISDIR(self.stat().st_mode)

    def iterdir(self) -> Iterator["RemotePath"]:
        """What a folder holds, sorted by name, each with what the listing told of it.

        Raises:
            OSError: If it cannot be listed; at once, not when the first is taken.
        """
        from pyarrow.fs import FileSelector

        with _plain_errors():
            found = self._file_system.get_file_info(FileSelector(self._place_inside))
            found.sort(key=lambda info: (info.base_name, not info.is_file))
        prefix = self.place.removesuffix(self._place_inside)
        return (RemotePath(self.scheme, prefix + info.path, self._status(info)) for info in found)

    def read_bytes(self, size: int | None = None) -> bytes:
        """The content, or so many bytes of it from its beginning.

        Raises:
            OSError: If it cannot be read.
        """
        with _plain_errors(), self._file_system.open_input_stream(self._place_inside) as stream:
            content: bytes = stream.read(size)
        return content

    @property
    def _place_inside(self) -> str:
        """What the file system knows it by: who asks is not part of a name."""
        return self.place.removeprefix(_ANONYMOUS)

    @property
    def _file_system(self) -> "FileSystem":
        return _file_system(self.scheme, self.parts[0])

    def _status(self, info: "FileInfo") -> RemoteStatus | None:
        """What an answer of the file system says; None if there is no such file."""
        from pyarrow.fs import FileType

        modes = {FileType.File: stat.S_IFREG, FileType.Directory: stat.S_IFDIR}
        if info.type == FileType.NotFound:
            return None
        place = os.path.realpath(info.path) if self.scheme == "file" else info.path
        return RemoteStatus(
            modes.get(info.type, 0), info.size, info.mtime_ns, st_dev=self.parts[0], st_ino=place
        )


AnyPath: TypeAlias = Path | RemotePath


def parse_path(text: str) -> AnyPath:
    """Read a path of this machine, or the URI of a file or folder.

    Raises:
        UsageError: If it is a URI that cannot be read.
    """
    found = _URI.fullmatch(text)
    if found is None:
        return Path(text)
    scheme, place = found[1].lower(), found[2].rstrip("/")
    if scheme not in SCHEMES:
        raise UsageError(
            f"{text}: there are only " + ", ".join(f"{scheme}://" for scheme in SCHEMES)
        )
    root, *names = place.split("/")
    if scheme == "file":
        if root or ".." in names:
            raise UsageError(f"{text} is not file:// and an absolute path, such as file:///photos")
        return RemotePath(scheme, "/" + "/".join(filter(None, names)))
    if not _BUCKET.fullmatch(root):
        raise UsageError(
            f"{text} is not {scheme}://BUCKET/FOLDER; keys and tokens belong into the environment"
        )
    return RemotePath(scheme, place)


def local_path(path: AnyPath) -> Path | None:
    """The path on this machine; None for what lies in a store."""
    if isinstance(path, Path):
        return path
    return Path(path.place) if path.scheme == "file" else None


@cache
def _file_system(scheme: str, root: str) -> "FileSystem":
    """The file system of a bucket: asking a store where the bucket lies takes time."""
    from pyarrow.fs import FileSystem

    file_system, _ = FileSystem.from_uri(root)
    return file_system


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Make PyArrow's errors those of the operating system, in one line."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from error
    except OSError as error:
        text = str(error.strerror or error).splitlines()
        raise OSError(error.errno or errno.EIO, text[0] if text else "unknown") from error
    except UnicodeError as error:  # the local disk may hold such names, a store may not
        raise OSError(errno.EILSEQ, "a name in it is not UTF-8") from error
