"""Paths with a URI: their grammar, and folders read through PyArrow's file systems."""

import os
import pickle
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from catdog_serving.errors import NotReadyError, UsageError
from catdog_serving.find_images import ImageFiles, Shard, find_sources
from catdog_serving.folder.image_result import ImageFailure, ImageResult
from catdog_serving.folder.process_folder import process_sources
from catdog_serving.folder.read_image import read_file
from catdog_serving.folder.run_state import RunState
from catdog_serving.real_folders import sort_key
from catdog_serving.remote_path import RemotePath, parse_path
from tests.support.albums import process_folder
from tests.support.http_servers import http_server, send
from tests.support.object_store import MODIFIED_NS, object_store
from tests.support.stub_backend import MODEL, NameBackend, touch


def remote(path: Path) -> RemotePath:
    parsed = parse_path(f"file://{path}")
    assert isinstance(parsed, RemotePath)
    return parsed


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("s3://photos", ("s3://photos",)),
        ("s3://photos/", ("s3://photos",)),
        ("S3://photos/2024/a b%20.jpg", ("s3://photos", "2024", "a b%20.jpg")),
        ("s3://anonymous@photos/x", ("s3://anonymous@photos", "x")),
        ("gs://my.photos-1/x/", ("gs://my.photos-1", "x")),
        ("file:///", ("file:///",)),
        ("file:///home/me//photos/", ("file:///", "home", "me", "photos")),
    ],
)
def test_uris_are_taken_as_they_are(text: str, parts: tuple[str, ...]) -> None:
    path = parse_path(text)
    assert isinstance(path, RemotePath)
    assert path.parts == parts
    assert parse_path(str(path)) == path
    assert path.name == parts[-1]


@pytest.mark.parametrize("text", ["photos", "/photos/a.jpg", "./s3:/x", "a b://c", "C:x", "."])
def test_all_else_is_a_path_of_this_machine(text: str) -> None:
    assert parse_path(text) == Path(text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("http://example.org/a.jpg", "there are only s3://, gs://, file://"),
        ("s3://", "is not s3://BUCKET/FOLDER"),
        ("s3:///x", "is not s3://BUCKET/FOLDER"),
        ("s3://KEY:SECRET@photos/x", "belong into the environment"),
        ("gs://Photos/x", "is not gs://BUCKET/FOLDER"),
        ("file://photos", "is not file:// and an absolute path"),
        ("file:///a/../b", "is not file:// and an absolute path"),
    ],
)
def test_what_cannot_be_read_is_wrong_usage(text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        parse_path(text)


def test_a_folder_is_found_as_it_is_without_a_uri(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a/x.PNG", "a.jpg", "a b/x.jpg", "notes.txt", "2024/d.photo")
    (tmp_path / "loop").symlink_to(tmp_path)
    for patterns in ((), ("*.photo",), ("a/*", "b.*")):
        for shard in (None, Shard(0, 2)):
            local = ImageFiles(tmp_path, patterns, shard)
            found = ImageFiles(remote(tmp_path), patterns, shard)
            paths = list(found)
            assert [str(path) for path in paths] == [f"file://{path}" for path in local]
            assert paths == sorted(paths, key=sort_key)
            assert found.skipped == local.skipped


def test_what_a_listing_told_is_not_asked_again(tmp_path: Path) -> None:
    touch(tmp_path, "cat.jpg")
    (path,) = ImageFiles(remote(tmp_path))
    status = (tmp_path / "cat.jpg").stat()
    (tmp_path / "cat.jpg").unlink()
    assert path.stat().st_size == status.st_size
    assert path.stat().st_mtime_ns == status.st_mtime_ns
    assert pickle.loads(pickle.dumps(path)).stat() == path.stat()


def test_rows_name_uris_and_a_file_that_fails_is_one(tmp_path: Path) -> None:
    touch(tmp_path, "cat.jpg", "bad.jpg", "gone.jpg")
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(300 * 1024 * 1024)
    os.mkfifo(tmp_path / "pipe.jpg")
    source = ImageFiles(remote(tmp_path))
    walk = iter(source)
    first = next(walk)
    (tmp_path / "gone.jpg").unlink()  # after it was listed
    results = list(NameBackend().classify_files([first, *walk]))
    whys = [one.outcome.type if isinstance(one.outcome, ImageFailure) else "" for one in results]
    assert [str(one.path) for one in results] == [
        f"file://{tmp_path}/{name}"
        for name in ("bad.jpg", "cat.jpg", "gone.jpg", "huge.jpg", "pipe.jpg")
    ]
    assert whys == ["InvalidImage", "", "Unreadable", "TooLarge", "Unreadable"]
    assert results[1].file.sha256 == read_file(tmp_path / "cat.jpg")[0].sha256
    assert results[2].outcome == ImageFailure("Unreadable", "No such file or directory")


def test_old_rows_are_kept_until_their_file_changes_or_goes(tmp_path: Path) -> None:
    album = tmp_path / "album"
    touch(album, "a.jpg", "b.jpg", "c.jpg")

    def classify() -> tuple[list[str], list[str]]:
        """The rows' paths, and the names of the files that were really classified."""
        backend, rows = NameBackend(), list[ImageResult]()
        with RunState.open(tmp_path / "out.catdog", MODEL, resume=True) as state:
            process_sources(find_sources([remote(album)]), backend, rows.append, state)
            assert state.drop_gone([remote(album)]) == 0
            assert list(state.rows()) == rows
        return [str(row.path) for row in rows], [path.name for path in backend.asked]

    assert classify() == ([f"file://{album}/{n}.jpg" for n in "abc"], ["a.jpg", "b.jpg", "c.jpg"])
    (album / "b.jpg").write_bytes(b"other content")
    (album / "c.jpg").unlink()
    assert classify() == ([f"file://{album}/{n}.jpg" for n in "ab"], ["b.jpg"])


def test_a_file_named_by_its_uri_is_always_tried(tmp_path: Path) -> None:
    touch(tmp_path, "cat.dat")
    rows: list[ImageResult] = []
    process_sources(find_sources([remote(tmp_path / "cat.dat")]), NameBackend(), rows.append)
    assert [row.label for row in rows] == ["cat"]


def test_what_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match=f"there is no file or folder file://{tmp_path}/x"):
        find_sources([remote(tmp_path / "x")])


def test_a_name_that_is_not_unicode_does_not_hide_its_folder(tmp_path: Path) -> None:
    touch(tmp_path, "a/cat.jpg")
    (tmp_path / "b").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path / "b") + b"/\xff.jpg")).write_bytes(b"cat")
    rows: list[ImageResult] = []
    process_folder(remote(tmp_path), NameBackend(), rows.append)
    cat, folder = rows
    assert cat.label == "cat"
    assert folder.outcome == ImageFailure("Unreadable", "a name in it is not UTF-8")


def test_a_uri_inside_another_is_named_twice(tmp_path: Path) -> None:
    touch(tmp_path, "a/cat.jpg")
    with pytest.raises(UsageError, match="lies inside"):
        find_sources([remote(tmp_path), remote(tmp_path / "a")])


@pytest.mark.parametrize("bucket", ["s3://catdog-test", "s3://anonymous@catdog-test"])
def test_a_bucket_is_a_folder(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = {
        "2024/a b%20.jpg": b"a cat",
        "2024/deep/cat.jpg": b"another cat",
        "2024/notes.txt": b"",
        "x.jpg": b"elsewhere",
    }
    with object_store(objects) as endpoint:
        for name, value in {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            monkeypatch.setenv(name, value)
        (source,) = find_sources([parse_path(f"{bucket}/2024")])
        first, second = (read_file(path) for path in source)
        assert source.skipped == 1
        gone, why = read_file(parse_path(f"{bucket}/2024/gone.jpg"))
        with pytest.raises(NotReadyError, match=f"there is no file or folder {bucket}/202"):
            find_sources([parse_path(f"{bucket}/202")])
    assert str(first[0].path) == f"{bucket}/2024/a b%20.jpg"
    assert (first[0].size, first[0].mtime_ns, first[1]) == (5, MODIFIED_NS, b"a cat")
    assert str(second[0].path) == f"{bucket}/2024/deep/cat.jpg"
    assert gone.sha256 is None
    assert why == ImageFailure("Unreadable", "No such file or directory")


def test_a_store_that_refuses_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(request: BaseHTTPRequestHandler, _: bytes) -> None:
        send(request, 403, b"")

    with http_server(refuse) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        with pytest.raises(NotReadyError, match="cannot look at s3://catdog-closed/x: ") as caught:
            find_sources([parse_path("s3://catdog-closed/x")])
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("credentials and region are those of the environment")
