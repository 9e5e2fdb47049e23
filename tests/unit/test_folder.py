"""Finding, classifying and summing up, with a backend that needs no network."""

import io
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from catdog.postprocess import Breed, ClassProbability, Prediction
from catdog_serving.errors import NotReadyError
from catdog_serving.folder.backends import Backend, ImageError, ImageResult
from catdog_serving.folder.iterate import ImageFiles
from catdog_serving.folder.process import FolderReport, process_folder
from catdog_serving.folder.report import print_table, to_json


def prediction(label: str, cat: float, dog: float) -> Prediction:
    breed = None if label == "neither" else Breed("tabby [red]", 281, 0.5)
    top = (ClassProbability(281, "tabby", cat),)
    return Prediction(label, cat, dog, 1 - cat - dog, breed, top, None, "net", "ids", "fp32", "1.0")


class NameBackend(Backend):
    """Says what the file's name says; "bad" fails."""

    def classify_files(self, paths: Iterable[Path]) -> Iterator[ImageResult]:
        for path in paths:
            if "bad" in path.name:
                yield ImageResult(path, ImageError("InvalidImage", "cannot decode"))
            elif "cat" in path.name:
                yield ImageResult(path, prediction("cat", 0.8, 0.1))
            else:
                yield ImageResult(path, prediction("neither", 0.1, 0.0))


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def found(root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in ImageFiles(root)]


def test_pictures_are_found_recursively_and_sorted(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a.JPEG", "sub/z.png", "sub/deep/y.webp", "c.tiff", "d.gif", "e.bmp")
    assert found(tmp_path) == [
        *("a.JPEG", "b.jpg", "c.tiff", "d.gif", "e.bmp", "sub/deep/y.webp", "sub/z.png")
    ]


def test_other_files_are_counted_as_skipped(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "notes.txt", "sub/Thumbs.db")
    files = ImageFiles(tmp_path)
    assert len(list(files)) == 1
    assert files.skipped == 2
    assert len(list(files)) == 1
    assert files.skipped == 2


def test_a_named_file_is_always_tried(tmp_path: Path) -> None:
    touch(tmp_path, "picture.dat")
    assert list(ImageFiles(tmp_path / "picture.dat")) == [tmp_path / "picture.dat"]


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    touch(tmp_path, "album/a.jpg", "elsewhere/b.jpg")
    (tmp_path / "album" / "loop").symlink_to(tmp_path / "album")
    (tmp_path / "album" / "other").symlink_to(tmp_path / "elsewhere")
    assert found(tmp_path / "album") == ["a.jpg", "other/b.jpg"]


def test_a_missing_path_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotReadyError, match="there is no file or folder"):
        ImageFiles(tmp_path / "nope")


def test_an_empty_folder_is_an_error_and_not_nan(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    with NameBackend() as backend, pytest.raises(NotReadyError, match="holds no pictures"):
        process_folder(tmp_path, backend, print)


def test_the_summary_is_the_references(tmp_path: Path) -> None:
    touch(tmp_path, "cat1.jpg", "cat2.jpg", "cup.png", "bad.jpg", "notes.txt")
    results: list[ImageResult] = []
    with NameBackend() as backend:
        report = process_folder(tmp_path, backend, results.append)
    assert [r.path.name for r in results] == ["bad.jpg", "cat1.jpg", "cat2.jpg", "cup.png"]
    assert (report.images, report.failed, report.skipped) == (3, 1, 1)
    assert report.mean_cat == pytest.approx((0.8 + 0.8 + 0.1) / 3)
    assert report.mean_dog == pytest.approx(0.2 / 3)
    assert report.labels == {"cat": 2, "neither": 1}
    assert report.images_per_s == pytest.approx(3 / report.seconds)


def test_means_of_nothing_are_none() -> None:
    report = FolderReport(Path())
    report.add(ImageResult(Path("a"), ImageError("InvalidImage", "x")))
    assert report.mean_cat is None
    assert report.mean_dog is None


def shown(results: list[ImageResult], reports: list[FolderReport]) -> str:
    console = Console(file=io.StringIO())
    print_table(results, reports, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_table_names_files_failures_and_the_model(tmp_path: Path) -> None:
    long_name = "x" * 300 + "[bold]cat.jpg"
    results = [
        ImageResult(Path(long_name), prediction("cat", 0.8, 0.1)),
        ImageResult(Path("bad.jpg"), ImageError("InvalidImage", "cannot decode [12] bytes")),
    ]
    report = FolderReport(Path("album"), seconds=2.0)
    for result in results:
        report.add(result)
    text = shown(results, [report])
    assert long_name in text  # neither cut nor taken for markup
    assert "tabby [red] (50%)" in text
    assert "cannot decode [12] bytes" in text
    assert "album: 1 images in 2.00 s, 0.50 images/s, 1 failed" in text
    assert "mean masses: cat 0.8000, dog 0.1000" in text
    assert "model: net ids, version 1.0" in text


def test_untrained_weights_are_called_so() -> None:
    seeded = replace(prediction("cat", 0.8, 0.1), weights="seeded")
    results = [ImageResult(Path("a.jpg"), seeded)]
    assert "model: net seeded (untrained: its answers mean nothing)" in shown(results, [])
    assert json.loads(to_json(results, []))["model"]["untrained"] is True


def test_json_has_a_row_per_file_and_no_nan() -> None:
    results = [ImageResult(Path("bad.jpg"), ImageError("InvalidImage", "cannot decode"))]
    report = FolderReport(Path("album"))
    report.add(results[0])
    document = json.loads(to_json(results, [report]))
    assert document["images"] == [
        {"path": "bad.jpg", "error": {"type": "InvalidImage", "message": "cannot decode"}}
    ]
    assert document["folders"][0]["mean_cat"] is None
    assert document["model"] is None


@pytest.mark.skipif(os.getuid() == 0, reason="root can read every folder")
def test_an_unreadable_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(PermissionError):
        list(ImageFiles(tmp_path))
