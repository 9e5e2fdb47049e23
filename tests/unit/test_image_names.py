"""Which files of a folder are images: by content, and by what a person asks for."""

import os
import socket
from pathlib import Path

import pytest
from PIL import Image

from catdog_serving.find_images import ImageFiles
from catdog_serving.image_formats import folder_formats
from catdog_serving.remote_path import parse_path
from tests.support.images import encode
from tests.support.stub_backend import touch

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "HEIF", "AVIF")
NAMES = (
    *("a.jfif", "a.jpe", "a.HIF", "a.AVIF", "a.jpg?w=640", "a.jpg_large", "a.jpg~", "photo"),
    *("a.dat", "a.txt", "a.b.c", "ä\udcff", "2024-05-01 12.30.15"),
)


def image(format: str) -> bytes:
    assert format in ("MPO", *folder_formats())  # registers Pillow's plug-ins
    return encode(Image.new("RGB", (16, 16), "teal"), format)


def names(root: str | Path, **given: object) -> list[str]:
    return [path.name for path in ImageFiles(parse_path(str(root)), **given)]  # type: ignore[arg-type]


@pytest.mark.parametrize("scheme", ["", "file://"])
@pytest.mark.parametrize("format", FORMATS)
def test_content_decides(format: str, scheme: str, tmp_path: Path) -> None:
    expected = sorted((name for name in NAMES if not scheme or name.isprintable()), key=os.fsencode)
    for name in expected:
        (tmp_path / name).write_bytes(image(format))
    assert names(f"{scheme}{tmp_path}") == expected


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.txt", b"a text"),
        ("notes", b"BMW and other cars"),
        ("notes.txt", b"BM" + bytes(100)),
        ("clip.mp4", b"\0\0\0\x1cftypisom\0\0\2\0isomiso2avc1mp41"),
        ("sound.m4a", b"\0\0\0\x1cftypM4A \0\0\2\0isomiso2"),
        ("a.pdf", b"%PDF-1.7\n"),
        ("a.zip", b"PK\3\4" + bytes(60)),
        ("sound.wav", b"RIFF\x24\0\0\0WAVEfmt "),
        ("empty", b""),
        ("a.CR2", b"II*\0\x10\0\0\0CR\2\0" + bytes(60)),
        ("a.nef", b"MM\0*\0\0\0\x08" + bytes(60)),
        ("a.dng", b"II*\0" + bytes(60)),
    ],
)
def test_what_is_no_image_or_a_camera_s_raw_data_is_skipped(
    name: str, content: bytes, tmp_path: Path
) -> None:
    """Raw data is a TIFF by its content, and lies beside the JPEG of the same photo."""
    (tmp_path / name).write_bytes(content)
    files = ImageFiles(tmp_path)
    assert list(files) == []
    assert files.skipped == 1


def test_what_has_no_content_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "null").symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(tmp_path)  # a socket's path is short
        listening.bind("socket")
    (tmp_path / "closed").write_bytes(image("JPEG"))
    assert names(tmp_path) == ["closed"]


def test_a_name_that_promises_an_image_is_tried_whatever_it_holds(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jfif", "c.avif", "d.mpo", "e.hif")
    assert names(tmp_path) == ["a.jpg", "b.jfif", "c.avif", "d.mpo", "e.hif"]


@pytest.mark.parametrize("option", ["patterns", "exclude"])
@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("*.JPG", "a.jpg"),
        ("*.jpg", "a.JPG"),
        ("\u00e9*", "e\u0301t\u00e9.jpg"),  # as macOS and as others keep it
        ("e\u0301*", "\u00e9t\u00e9.jpg"),
        ("?t?.jpg", "e\u0301te\u0301.jpg"),
        ("STRASSE*", "straße.jpg"),
        ("stra?e.jpg", "straße.jpg"),
        ("[A-C]*", "b.jpg"),
        ("*\udcff*", "b\udcff.jpg"),
        ("2024/*", "2024/deep/x.jpg"),
        ("Été/*", "ÉTÉ/x.jpg"),
    ],
)
def test_patterns_know_no_case_and_no_unicode_form(
    pattern: str, name: str, option: str, tmp_path: Path
) -> None:
    touch(tmp_path, name, "zzz.png")
    taken = option == "patterns"
    assert names(tmp_path, **{option: (pattern,)}) == [Path(name).name if taken else "zzz.png"]


def test_what_is_excluded_is_passed_over_and_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "thumbs/b.jpg", "thumbs/notes.txt", "2024/thumbs/c.jpg", "2024/d.jpg")
    touch(tmp_path, "2024/raw/e.jpg", "2025/raw/f.jpg", "small_a.jpg")
    (tmp_path / "link").symlink_to("2024/raw")
    files = ImageFiles(tmp_path, exclude=("Thumbs/", "2024/raw/", "small_*", "nothing"))
    assert [str(path.relative_to(tmp_path)) for path in files] == [
        *("2024/d.jpg", "2025/raw/f.jpg", "a.jpg", "link/e.jpg")
    ]
    assert files.skipped == 5
    assert names(tmp_path, patterns=("*.jpg",), exclude=("*",)) == []
    assert names(tmp_path / "thumbs", exclude=("thumbs",)) == ["b.jpg"]  # it is named itself
