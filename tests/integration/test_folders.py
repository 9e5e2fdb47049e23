"""Whole folders through the real command and the real server."""

import json
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

from catdog_serving.errors import RefusedError
from catdog_serving.folder.backends import HttpBackend
from catdog_serving.folder.image_result import FolderReport
from catdog_serving.folder.local_backend import LocalBackend
from catdog_serving.torchserve.server import TorchServe
from tests.support.albums import (
    Row,
    assert_same_rows,
    catdog_classify,
    classified,
    finished,
    make_album,
    process_folder,
    rows_of,
)
from tests.support.archive_cache import repack
from tests.support.images import encode, noise
from tests.support.paths import PHOTOS
from tests.support.processes import wait_until
from tests.support.run_states import left_beside, rows_done


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory, photos: list[Path]) -> Path:
    """200 names of 100 photos in two folders, and a broken file in each."""
    return make_album(tmp_path_factory.mktemp("album"), photos, copies=2)


@pytest.fixture(scope="module")
def album_rows(album: Path, archive: Path) -> list[Row]:
    """In this process; without messages, which name other formats than HTTP's."""
    with LocalBackend(archive) as local:
        return without_messages(classified(album, local))


def without_messages(rows: list[Row]) -> list[Row]:
    for row in rows:
        row.get("error", {}).pop("message", None)
    return rows


def test_both_backends_give_the_same_rows(
    album: Path, album_rows: list[Row], server: TorchServe
) -> None:
    with HttpBackend.open(server.config.path) as http:
        over_http = classified(album, http)
    assert_same_rows(without_messages(over_http), album_rows)


def test_tiff_and_heic_are_classified_over_http_as_locally(
    archive: Path, server: TorchServe, photos: list[Path], tmp_path: Path
) -> None:
    from PIL import Image
    from pillow_heif import register_heif_opener

    register_heif_opener()
    for photo in photos[::20]:
        image = Image.open(photo)
        (tmp_path / f"{photo.stem}.tiff").write_bytes(encode(image, "TIFF"))
        (tmp_path / f"{photo.stem}.heic").write_bytes(encode(image, "HEIF", quality=90))
    with HttpBackend.open(server.config.path) as http:
        over_http = classified(tmp_path, http)
    with LocalBackend(archive) as local:
        in_process = classified(tmp_path, local)
    assert not any("error" in row for row in over_http)
    assert len(over_http) == 10
    assert_same_rows(over_http, in_process)


def test_a_server_that_is_started_again_in_the_middle_costs_no_file(
    album: Path, album_rows: list[Row], own: TorchServe, tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    process = catdog_classify(album, "--config", own.config.path, "--jobs", 2, "--output", output)
    try:
        wait_until(lambda: rows_done(output) > 20, "some rows")
        own.stop()
        assert rows_done(output) < 202
        assert process.poll() is None
        own.start()
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 1, errors.decode()  # the two broken files
    rows = rows_of(output)
    assert [row["path"] for row in rows if "error" in row] == [
        str(album / "copy0" / "broken.jpg"),
        str(album / "copy1" / "broken.jpg"),
    ]
    assert_same_rows(without_messages(rows), album_rows)


@pytest.mark.parametrize("folder", ["cats", "dogs"])
def test_the_summary_is_the_references_on_the_same_weights(
    folder: str,
    archive: Path,
    server: TorchServe,
    photos: list[Path],
    photo_masses: np.ndarray,
) -> None:
    chosen = [path.parent.name == folder for path in photos]
    cat, dog = photo_masses[chosen].mean(axis=0)
    for open_one in (
        lambda: LocalBackend(archive),
        lambda: HttpBackend.open(server.config.path),
    ):
        with open_one() as backend:
            report: FolderReport = process_folder(PHOTOS / folder, backend, lambda row: None)
        assert (report.images, report.failed, report.skipped) == (50, 0, 0)
        assert report.mean_cat == pytest.approx(cat, abs=1e-4)
        assert report.mean_dog == pytest.approx(dog, abs=1e-4)


def test_ctrl_c_on_the_local_backend_is_130_and_can_be_resumed(
    album: Path, archive: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.csv"
    arguments = (
        *(album, "--backend", "local", "--archive", archive),
        *("--output", output),
    )
    with catdog_classify(*arguments) as process:
        wait_until(lambda: rows_done(output) > 20, "some rows")
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert 20 < rows_done(output) < 202
    assert left_beside(output) == [""]
    assert not output.exists()
    assert finished(*arguments) == 4  # without --resume
    assert finished(*arguments, "--resume") == 1
    assert output.read_text().count("\n") == 1 + 202
    assert left_beside(output) == []


def test_small_outputs_agree_with_each_other(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "noise.png").write_bytes(encode(noise()))
    (tmp_path / "in" / "bad.png").write_bytes(b"x")
    common = (tmp_path / "in", "--backend", "local", "--archive", archive)
    for name in ("json", "csv", "jsonl", "table"):
        assert finished(*common, "--output", tmp_path / f"out.{name}") == 1
    for _ in range(2):  # a page can be made again, and leaves no state
        assert finished(*common, "--report", tmp_path / "page.html") == 1
    assert "noise.png" in (tmp_path / "page.html").read_text()
    assert not list(tmp_path.glob("page.html.*"))
    document = json.loads((tmp_path / "out.json").read_text())
    assert document["images"] == rows_of(tmp_path / "out.jsonl")
    assert document["folders"][0]["failed"] == 1
    assert [line.split(",")[0] for line in (tmp_path / "out.csv").read_text().splitlines()] == [
        "path",
        *(row["path"] for row in document["images"]),
    ]
    assert "failed   " in (tmp_path / "out.table").read_text()


def test_an_archive_of_another_version_is_one_line(archive: Path, tmp_path: Path) -> None:
    settings = {"model-config_yaml": b"handler: {old_setting: 1}"}
    other = repack(archive, tmp_path / "other.mar", **settings)
    with pytest.raises(RefusedError, match="is not for this version of catdog.*old_setting"):
        LocalBackend(other)


def test_threads_end_when_a_run_is_given_up(server: TorchServe, album: Path) -> None:
    def stop(row: object) -> None:
        raise KeyboardInterrupt

    with HttpBackend.open(server.config.path, jobs=4) as backend:
        with pytest.raises(KeyboardInterrupt):
            process_folder(album, backend, stop)
    wait_until(lambda: not any("ordered-map" in t.name for t in threading.enumerate()), "the end")
