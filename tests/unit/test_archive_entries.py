"""Archives that are broken, lie, or cost more than they look: one line, and nothing is left."""

import io
import json
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from catdog_serving.archive_copies import copy_archive, has_files_of
from catdog_serving.errors import NotReadyError, RefusedError
from catdog_serving.model_archive import (
    archive_facts,
    archive_runtime,
    archive_settings,
    archive_version,
    check_archive_format,
    open_archive,
)
from tests.support.command_line import catdog_here

MANIFEST = "MAR-INF/MANIFEST.json"
FILES = {
    MANIFEST: b'{"model": {"modelVersion": "1.0"}}',
    "model.json": b'{"runtime": "onnx"}',
    "model-config.yaml": b"handler: {}\n",
    "model.onnx": b"weights" * 1000,
}


def zipped(
    files: dict[str, bytes] = FILES, method: int = zipfile.ZIP_STORED, comment: bytes = b""
) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.comment = comment
    return buffer.getvalue()


DEFLATED = zipped(method=zipfile.ZIP_DEFLATED)


def with_file(name: str, content: bytes = b"x") -> bytes:
    return zipped({**FILES, name: content})


def patched(
    archive: bytes, local: int, central: int, value: bytes, name: str = "model.onnx"
) -> bytes:
    """Other bytes in both headers of one entry, at their offsets there; -1: not in that one."""
    changed = bytearray(archive)
    with zipfile.ZipFile(io.BytesIO(archive)) as packed:
        start = packed.getinfo(name).header_offset
    directory = archive.index(b"PK\1\2", archive.rindex(b"PK\3\4"))
    while changed[directory + 46 : directory + 46 + len(name)] != name.encode():
        directory = archive.index(b"PK\1\2", directory + 1)
    for offset, at in ((local, start), (central, directory)):
        if offset >= 0:
            changed[at + offset : at + offset + len(value)] = value
    return bytes(changed)


def moved(archive: bytes, at: int, inserted: bytes) -> bytes:
    """Bytes inserted before the entry that lies at `at`, and the directory tells where all lie."""
    end = archive.rindex(b"PK\5\6")
    length, start = struct.unpack_from("<2L", archive, end + 12)
    directory = bytearray(archive[start : start + length])
    place = 0
    while place < length:
        (offset,) = struct.unpack_from("<L", directory, place + 42)
        if offset >= at:
            struct.pack_into("<L", directory, place + 42, offset + len(inserted))
        name, extra, comment = struct.unpack_from("<3H", directory, place + 28)
        place += 46 + name + extra + comment
    tail = bytearray(archive[end:])
    struct.pack_into("<L", tail, 16, start + len(inserted))
    return archive[:at] + inserted + archive[at:start] + bytes(directory) + bytes(tail)


def hidden() -> bytes:
    """A file that Java finds before the first one, and Python's directory does not tell of."""
    other = zipped({"numpy.py": b"print('run')"})
    return moved(zipped(), 0, other[: other.index(b"PK\1\2")])


def overrun() -> bytes:
    """Data that goes on after the size that is told; its checksum is of that size."""
    content = FILES["model.onnx"]
    told = struct.pack("<L", zlib.crc32(content[:10]))
    archive = patched(DEFLATED, 14, 16, told)
    return patched(archive, 22, 24, struct.pack("<L", 10))


DEEP = b"[" * 100_000 + b"]" * 100_000
HOSTILE: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "junk": lambda: b"junk" * 100,
    "cut off": lambda: zipped()[:-30],
    "half": lambda: zipped()[:4000],
    "encrypted": lambda: patched(zipped(), 6, 8, b"\1\0"),
    "sizes after the data": lambda: patched(zipped(), 6, 8, b"\x08\0"),
    "method 99": lambda: patched(zipped(), 8, 10, b"\x63\0"),
    "method 12": lambda: zipped(method=zipfile.ZIP_BZIP2),
    "corrupt deflate": lambda: DEFLATED.replace(
        zlib.compress(FILES["model.onnx"])[2:12], b"\xff" * 10
    ),
    "wrong checksum": lambda: patched(zipped(), 14, 16, b"abcd", "model.json"),
    "lying size": lambda: patched(zipped(), 22, 24, b"\xff\0\0\0"),
    "too small a size": overrun,
    "two sizes": lambda: patched(zipped(), 22, -1, b"\xff\0\0\0"),
    "two methods": lambda: patched(zipped(), 8, -1, b"\x08\0"),
    "two names": lambda: patched(zipped(), 30, -1, b"numpy.onnx"),
    "2,000 files": lambda: zipped({f"{number}": b"" for number in range(2_000)}),
    "twice": lambda: with_file("model.onny").replace(b"model.onny", b"model.onnx"),
    "outside": lambda: with_file("../x"),
    "outside, deeper": lambda: with_file("catdog/../../x"),
    "absolute": lambda: with_file("/x"),
    "backslash": lambda: with_file("..\\x"),
    "no name": lambda: with_file("./x"),
    "not ASCII": lambda: with_file("\N{LATIN SMALL LETTER U WITH DIAERESIS}.py"),
    "a NUL": lambda: zipped({**FILES, "abc.py": b"x"}).replace(b"abc.py", b"a\0c.py"),
    "a long name": lambda: with_file("x" * 300),
    "hidden": hidden,
    "before it": lambda: b"#!/bin/sh\n" + zipped(),
    "before it, and told": lambda: moved(zipped(), 0, b"#!/bin/sh\n"),
    "between": lambda: moved(zipped(), zipped().index(b"PK\3\4", 4), b"#"),
    "behind": lambda: zipped() + b"x",
    "a comment": lambda: zipped(comment=b"PK\5\6" + b"\0" * 30),
    "bomb": lambda: zipped({**FILES, "x": bytes(200 << 20)}, zipfile.ZIP_DEFLATED),
    "manifest is a list": lambda: zipped({**FILES, MANIFEST: b"[]"}),
    "manifest is deep": lambda: zipped({**FILES, MANIFEST: DEEP}),
    "manifest is Latin": lambda: zipped({**FILES, MANIFEST: b'{"\xe9": 1}'}),
    "no manifest": lambda: zipped({"model.json": b"{}"}),
    "version is a number": lambda: zipped({**FILES, MANIFEST: b'{"model": {"modelVersion": 1}}'}),
    "model.json is a list": lambda: zipped({**FILES, "model.json": b"[1]"}),
    "model.json is deep": lambda: zipped({**FILES, "model.json": DEEP}),
    "YAML": lambda: zipped({**FILES, "model-config.yaml": b"a: ["}),
    "YAML list": lambda: zipped({**FILES, "model-config.yaml": b"- 1"}),
    "YAML tag": lambda: zipped({**FILES, "model-config.yaml": b"!!python/object:os.x {}"}),
}
# What of them is only read where it is needed.
READERS = {
    "manifest": archive_version,
    "version": archive_version,
    "no manifest": archive_version,
    "model.json": archive_facts,
    "wrong checksum": archive_facts,
    "YAML": archive_settings,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_is_one_line_and_leaves_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, scratch = tmp_path / "x.mar", tmp_path / "scratch"
    archive.write_bytes(HOSTILE[kind]())
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    name = next((name for name in READERS if kind.startswith(name)), None)
    readers = (archive_version, archive_facts, archive_settings, check_archive_format)
    for read in readers if name is None else (READERS[name],):
        with pytest.raises((NotReadyError, RefusedError)) as caught:
            read(archive)
        assert str(archive) in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1
    if name is None:
        assert not has_files_of(archive, scratch)
        with pytest.raises((NotReadyError, RefusedError)), open_archive(archive):
            pass
        with pytest.raises((NotReadyError, RefusedError)):
            copy_archive(archive, tmp_path / "copy.mar", "2.0")
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    "kind", ["encrypted", "bomb", "hidden", "junk", "method 99", "2,000 files"]
)
def test_a_command_ends_with_one_line(kind: str, tmp_path: Path) -> None:
    archive = tmp_path / "x.mar"
    archive.write_bytes(HOSTILE[kind]())
    image = tmp_path / "x.png"
    image.write_bytes(b"x")
    result = catdog_here("classify", image, "--backend", "local", "--archive", archive)
    assert result.returncode in (3, 4), result.stderr
    assert result.stderr.startswith("catdog: ")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_honest_archive_is_read_however_it_was_packed(method: int, tmp_path: Path) -> None:
    archive = tmp_path / "x.mar"
    archive.write_bytes(zipped(method=method))
    assert archive_version(archive) == "1.0"
    assert archive_runtime(archive) == "onnx"
    assert archive_settings(archive) == {"handler": {}}
    with open_archive(archive) as folder:
        assert {path.name for path in folder.iterdir()} == {"MAR-INF", *list(FILES)[1:]}
    for size in (2**20 + 37, 2**20 + 74, 2**20 + 111):  # what zlib holds back at a block's end
        archive.write_bytes(zipped({**FILES, "model.onnx": bytes(size)}, method))
        with open_archive(archive) as folder:
            assert (folder / "model.onnx").stat().st_size == size
    archive.write_bytes(zipped(method=method))
    copy_archive(archive, tmp_path / "copy.mar", "2.0")
    assert archive_version(tmp_path / "copy.mar") == "2.0"
    assert json.loads(FILES["model.json"]) == archive_facts(tmp_path / "copy.mar")
