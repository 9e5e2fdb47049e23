"""The folder report's data: bounded lists, complete counts, links that cannot be scripts."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urljoin

import pytest

from catdog_serving.reports import folder_report
from catdog_serving.reports.folder_report import write_folder_report
from catdog_serving.viewer.links import file_link
from tests.support.images import encode, noise
from tests.support.parsed_page import ParsedPage
from tests.support.report_rows import HOSTILE, MODEL, failure, folder, image


def blocks(tmp_path: Path, *rows: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    target = tmp_path / "report.html"
    write_folder_report(target, iter(rows), [folder(len(rows))], MODEL)
    found = ParsedPage(target).blocks
    return found["summary"], found["images"]


def test_the_least_certain_come_first_and_failures_last(tmp_path: Path) -> None:
    rows = [
        failure("bad.jpg"),
        image("sure.jpg", 0.9, 0.05),
        image("nothing.jpg", 0.01, 0.02, label="neither"),
        image("unsure.jpg", 0.2, 0.3),
    ]
    _, listed = blocks(tmp_path, *rows)
    assert [(item["path"], item.get("certainty")) for item in listed] == [
        ("unsure.jpg", 0.3),
        ("sure.jpg", 0.9),
        ("nothing.jpg", 0.97),
        ("bad.jpg", None),
    ]


def test_equally_certain_images_keep_their_order(tmp_path: Path) -> None:
    _, listed = blocks(tmp_path, *(image(f"{i}.jpg", 0.9, 0.0) for i in range(20)))
    assert [item["path"] for item in listed] == [f"{i}.jpg" for i in range(20)]


def test_the_histograms_have_twenty_bins_with_both_ends(tmp_path: Path) -> None:
    summary, _ = blocks(tmp_path, image("a", 1.0, 0.0), image("b", 0.05, 0.9499))
    assert summary["histograms"]["cat"] == [0, 1, *[0] * 17, 1]
    assert summary["histograms"]["dog"] == [1, *[0] * 17, 1, 0]


def test_beyond_the_limit_the_least_certain_are_listed_and_all_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_report, "MAX_PICTURES", 3)
    monkeypatch.setattr(folder_report, "MAX_FAILURES", 2)
    masses = [0.95, 0.55, 0.75, 0.65, 0.85]
    rows = [image(f"{m}.jpg", m, 0.01) for m in masses] + [failure(f"{i}") for i in range(4)]
    summary, listed = blocks(tmp_path, *rows)
    assert [item["path"] for item in listed] == ["0.55.jpg", "0.65.jpg", "0.75.jpg", "0", "1"]
    assert summary["listed"] == {"images": 3, "failed": 2}
    assert summary["labels"] == {"cat": 5}
    assert summary["failed"] == 4
    assert summary["failed_by_type"] == {"InvalidImage": 4}
    assert sum(summary["histograms"]["cat"]) == 5


def test_rows_are_read_once_and_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_report, "MAX_PICTURES", 3)
    alive = 0
    most = 0

    class Counted(dict[str, Any]):
        def __init__(self, values: dict[str, Any]) -> None:
            nonlocal alive, most
            super().__init__(values)
            alive += 1
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def rows() -> Iterator[dict[str, Any]]:
        for i in range(1000):
            yield Counted(image(f"{i}.jpg", i / 1000, 0))

    write_folder_report(tmp_path / "report.html", rows(), [folder(1000)], MODEL)
    assert most < 10


def test_hostile_names_and_reasons_are_kept_as_text(tmp_path: Path) -> None:
    rows = [image(name, 0.9, 0.0) for name in HOSTILE] + [failure(HOSTILE[0], HOSTILE[1])]
    _, listed = blocks(tmp_path, *rows)
    assert [item["path"] for item in listed] == [*HOSTILE, HOSTILE[0]]
    assert listed[-1]["error"]["message"] == HOSTILE[1]


def test_images_get_thumbnails_and_missing_ones_none(tmp_path: Path) -> None:
    (tmp_path / "here.png").write_bytes(encode(noise()))
    rows = [image(str(tmp_path / name), 0.9, 0.0) for name in ("here.png", "gone.png")]
    _, listed = blocks(tmp_path, *rows)
    assert listed[0]["thumbnail"].startswith("data:image/webp;base64,")
    assert listed[1]["thumbnail"] is None


def test_a_link_leads_from_the_page_to_the_image(tmp_path: Path) -> None:
    name = os.fsdecode(b"a b#c?d%41&\"'<\xff\xc3\xa9.jpg")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / name).touch()
    link = file_link(str(tmp_path / "photos" / name), str(tmp_path / "reports"))
    assert link is not None
    followed = urljoin(f"file://{tmp_path}/reports/report.html", link)
    assert Path(os.fsdecode(unquote_to_bytes(followed.removeprefix("file://")))).is_file()


@pytest.mark.parametrize("name", ["javascript:alert(1)", "data:text/html,x", "//host/x", "C:\\x"])
def test_a_link_never_has_a_scheme_or_host(name: str) -> None:
    link = file_link(name, os.getcwd())
    assert link is not None
    assert re.fullmatch(r"\./[A-Za-z0-9_.~%/-]*", link)
    assert not link.startswith(".//")


def test_a_name_that_no_file_can_have_gets_no_link() -> None:
    assert file_link("\ud800.jpg", os.getcwd()) is None


def test_nothing_classified_is_still_a_page(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    write_folder_report(target, [failure("bad.jpg")], [folder(0, 1)], None)
    assert ParsedPage(target).blocks["summary"]["model"] is None
