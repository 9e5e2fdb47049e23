"""The folder report's data: bounded lists, complete counts, and nothing kept that is not shown."""

import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from catdog_serving.folder.image_result import FileInfo, ImageResult
from catdog_serving.reports import folder_report
from catdog_serving.reports.folder_report import write_folder_report
from tests.support.parsed_page import ParsedPage
from tests.support.report_rows import HOSTILE, MODEL, failure, folder, image


def page_of(tmp_path: Path, *rows: ImageResult) -> ParsedPage:
    target = tmp_path / "report.html"
    write_folder_report(target, iter(rows), [folder(len(rows))], MODEL)
    return ParsedPage(target)


def test_the_least_certain_come_first_and_failures_last(tmp_path: Path) -> None:
    rows = [
        failure("bad.jpg"),
        image("sure.jpg", 0.9, 0.05),
        image("nothing.jpg", 0.01, 0.02, label="neither"),
        image("unsure.jpg", 0.2, 0.3),
    ]
    listed = page_of(tmp_path, *rows).data["items"]
    assert [(item["path"], item.get("certainty")) for item in listed] == [
        ("unsure.jpg", 0.3),
        ("sure.jpg", 0.9),
        ("nothing.jpg", 0.97),
        ("bad.jpg", None),
    ]


def test_equally_certain_images_keep_their_order(tmp_path: Path) -> None:
    page = page_of(tmp_path, *(image(f"{i}.jpg", 0.9, 0.0) for i in range(20)))
    assert [item["path"] for item in page.data["items"]] == [f"{i}.jpg" for i in range(20)]


def test_the_breed_of_an_uncertain_image_is_not_listed(tmp_path: Path) -> None:
    items = page_of(tmp_path, image("a", 0.3, 0.1), image("b", 0.6, 0.1)).data["items"]
    assert [item["breed"] and item["breed"]["probability"] for item in items] == [None, 0.3]


def test_a_file_that_was_moved_is_shown_where_it_lies_by_now(tmp_path: Path) -> None:
    row = image("here.jpg", 0.9, 0.0)
    moved = ImageResult(FileInfo(row.path, moved_to=tmp_path / "cat" / "here.jpg"), row.outcome)
    (item,) = page_of(tmp_path, moved).data["items"]
    assert (item["path"], item["link"]) == (str(tmp_path / "cat" / "here.jpg"), "./cat/here.jpg")


def test_the_histograms_have_twenty_bins_with_both_ends(tmp_path: Path) -> None:
    charts = page_of(tmp_path, image("a", 1.0, 0.0), image("b", 0.05, 0.9499)).data["charts"]
    assert charts["histograms"]["cat"] == [0, 1, *[0] * 17, 1]
    assert charts["histograms"]["dog"] == [1, *[0] * 17, 1, 0]


def test_beyond_the_limit_the_least_certain_are_listed_and_all_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_report, "MAX_IMAGES", 3)
    monkeypatch.setattr(folder_report, "MAX_FAILURES", 2)
    masses = [0.95, 0.55, 0.75, 0.65, 0.85]
    rows = [image(f"{m}.jpg", m, 0.01) for m in masses] + [failure(f"{i}") for i in range(4)]
    page = page_of(tmp_path, *rows)
    assert [item["path"] for item in page.data["items"]] == [
        *("0.55.jpg", "0.65.jpg", "0.75.jpg", "0", "1")
    ]
    assert page.texts["truncated"].startswith(
        "This page lists the 3 least certain of 5 images and 2 of 4 failed files."
    )
    assert page.texts["failure-types"] == "4 failed: InvalidImage 4"
    assert page.data["charts"]["labels"] == {"cat": 5, "dog": 0, "neither": 0}
    assert sum(page.data["charts"]["histograms"]["cat"]) == 5


def test_rows_are_read_once_and_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_report, "MAX_IMAGES", 3)
    alive: weakref.WeakSet[ImageResult] = weakref.WeakSet()
    most = 0

    def rows() -> Iterator[ImageResult]:
        nonlocal most
        for i in range(1000):
            row = image(f"{i}.jpg", i / 1000, 0)
            alive.add(row)
            most = max(most, len(alive))
            yield row

    write_folder_report(tmp_path / "report.html", rows(), [folder(1000)], MODEL)
    assert most < 10


def test_hostile_names_and_reasons_are_kept_as_text(tmp_path: Path) -> None:
    rows = [image(name, 0.9, 0.0) for name in HOSTILE] + [failure(HOSTILE[0], HOSTILE[1])]
    listed = page_of(tmp_path, *rows).data["items"]
    assert [item["path"] for item in listed] == [*HOSTILE, HOSTILE[0]]
    assert listed[-1]["error"]["message"] == HOSTILE[1]


def test_hostile_folders_and_types_add_no_element(tmp_path: Path) -> None:
    pages = []
    for texts in (["x"] * len(HOSTILE), HOSTILE):
        folders = [folder(1) | {"folder": text} for text in texts]
        row = failure("x", kind="".join(texts))
        write_folder_report(tmp_path / "x.html", [row], folders, MODEL)
        pages.append(ParsedPage(tmp_path / "x.html"))
    assert pages[0].tags == pages[1].tags
    assert HOSTILE[0] in pages[1].texts["failure-types"]


def test_nothing_classified_is_still_a_page(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    write_folder_report(target, [failure("bad.jpg")], [folder(0, 1)], None)
    page = ParsedPage(target)
    assert {"model", "untrained"}.isdisjoint(page.texts)
    assert [item["path"] for item in page.data["items"]] == ["bad.jpg"]
