"""The folder report in a real browser: from disk, with hostile names, with 10,000 images."""

import csv
import io
import os
import re
from itertools import cycle
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from catdog_serving.image_formats import folder_decoder
from catdog_serving.reports.folder_report import write_folder_report
from catdog_serving.viewer import gallery
from catdog_serving.viewer.gallery import thumbnail
from tests.support.browser import PHONE, axe_faults, cards, fits_in_width, opened
from tests.support.images import encode, noise
from tests.support.paths import SAMPLES
from tests.support.report_rows import MODEL, failure, folder, image

MARKUP = "<img src=x onerror=alert(1)>.png"
DASH = "\N{EN DASH}"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cats, dogs, neithers and failures, among them every kind of hostile name."""
    root = tmp_path_factory.mktemp("report")
    names = [MARKUP, "</script><script>alert(2)<", "a&b.png", "line\u2028.png", "\"'.png"]
    names.append(os.fsdecode(b"byte-\xff.png"))
    rows = [image(str(root / name.replace("/", "_")), 0.3, 0.1) for name in names]
    for name in names:
        (root / name.replace("/", "_")).write_bytes(encode(noise(64, 64)))
    rows += [image(str(root / f"dog{i}.png"), 0.01, 0.4 + i / 100) for i in range(40)]
    rows += [image(str(root / f"cup{i}.png"), 0.01, 0.02, label="neither") for i in range(5)]
    rows += [failure(MARKUP, "cannot decode <b>12</b> bytes"), failure("empty.jpg", "no bytes")]
    write_folder_report(
        root / "report.html", rows, [folder(51, 2), folder(0) | {"folder": MARKUP}], MODEL
    )
    return root / "report.html"


def test_an_image_under_the_pointer_shows_map_and_box(browser: Browser, tmp_path: Path) -> None:
    found = {
        "box": [50, 0, 100, 60],
        "map": {"size": [100, 60], "view": [20, 0, 80, 60], "grid": [[0, 1], [0, 1]]},
    }
    with_map = image(str(tmp_path / "cat.png"), 0.9, 0.05, **found)
    without = image(str(tmp_path / "old.png"), 0.8, 0.05)
    for name in ("cat.png", "old.png"):
        (tmp_path / name).write_bytes(encode(noise(100, 60)))
    write_folder_report(tmp_path / "report.html", [with_map, without], [folder(2)], MODEL)
    with opened(browser, tmp_path / "report.html") as page:
        old, cat = page.locator(".card").all()
        cat.hover()
        overlay = cat.locator(".overlay.map")
        expect(overlay).to_be_visible()
        expect(overlay).to_have_css("opacity", "0.6")
        expect(cat.locator(".overlay.box")).to_be_visible()
        alphas = overlay.evaluate(
            """(canvas) => {
              const { width, height } = canvas;
              const { data } = canvas.getContext("2d").getImageData(0, height / 2, width, 1);
              return [0.1, 0.7].map((x) => data[4 * Math.round(x * width) + 3]);
            }"""
        )
        assert alphas[0] == 0  # outside the map's view
        assert alphas[1] > 200  # where the map is 1
        old.hover()
        assert old.locator(".overlay").count() == 0
        expect(overlay).to_be_hidden()
        cat.click()
        drawn = page.locator("#detail-body .drawn")
        expect(drawn.locator(".box")).to_be_visible()
        page.get_by_label("Map").fill("20")
        expect(drawn.locator(".map")).to_have_css("opacity", "0.2")
        assert page.locator(".original img").evaluate("image => image.naturalWidth") == 100


def test_wrong_ones_are_marked_and_exported(browser: Browser, tmp_path: Path) -> None:
    """A name is one cell and no formula, whatever it is."""
    paths = ["=1+1.png", 'a "b", c.png', "right.png"]
    rows = [image(path, 0.3 + place / 10, 0.1) for place, path in enumerate(paths)]
    write_folder_report(tmp_path / "x.html", rows, [folder(3)], MODEL)
    with opened(browser, tmp_path / "x.html") as page:
        page.locator(".card").first.click()
        page.get_by_role("button", name="Mark as wrong").click()
        for key in ("ArrowRight", "w", "ArrowRight", "w", "w", "Escape"):
            page.keyboard.press(key)
        chip(page, "wrong 2").click()
        assert cards(page) == paths[:2]
        expect(page.locator(".card").first).to_have_accessible_name(re.compile("marked as wrong"))
        with page.expect_download() as download:
            page.get_by_role("button", name="Export").click()
        exported = list(csv.reader(io.StringIO(Path(download.value.path()).read_text())))
        assert exported == [
            ["path", "label", "cat", "dog", "other"],
            ["'=1+1.png", "cat", "0.3", "0.1", "0.6"],
            ['a "b", c.png', "cat", "0.4", "0.1", "0.5"],
        ]


def test_breeds_are_searched_too(browser: Browser, tmp_path: Path) -> None:
    rows = [image("a.png", 0.9, 0), image("b.png", 0.3, 0), image("tabby.png", 0, 0.9, breed="pug")]
    write_folder_report(tmp_path / "x.html", rows, [folder(3)], MODEL)
    with opened(browser, tmp_path / "x.html") as page:
        page.get_by_label("Search names and breeds").fill("Tabby")
        expect(page.locator(".card")).to_have_count(2)
        assert cards(page) == ["a.png", "tabby.png"]  # b's breed is not shown, as it is unsure


def chip(page: Page, label: str) -> Locator:
    return page.locator("#chips").get_by_role("button", name=label)


def expect_focus_on(page: Page, name: str) -> None:
    """Waits for it: a closed dialog gives the focus back in an event of its own."""
    expect(page.locator(".card:focus .name")).to_have_text(name)


def test_hostile_names_are_text(browser: Browser, report: Path) -> None:
    with opened(browser, report) as page:
        page.get_by_label("Search names").fill("onerror")
        expect(page.locator(".card")).to_have_count(2)
        assert cards(page) == [MARKUP, MARKUP]
        page.locator(".card.failed").click()
        expect(page.locator("#detail-name")).to_have_text(MARKUP)
        expect(page.locator("#detail-body")).to_contain_text("cannot decode <b>12</b> bytes")
        assert page.locator("#detail-body img, #detail-body b").count() == 0


def test_the_summary_is_complete(browser: Browser, report: Path) -> None:
    with opened(browser, report) as page:
        rows = page.locator("tbody tr")
        assert [row.locator("td").all_inner_texts() for row in rows.all()] == [
            ["album", "51", "2", "1", "2.00", "25.50", "0.5000", "0.2500"],
            [MARKUP, "0", "0", "1", "2.00", "0.00", DASH, DASH],
        ]
        expect(page.locator("#model")).to_have_text("net · ids · fp32")
        expect(page.locator("#failure-types")).to_have_text("2 failed: InvalidImage 2")
        assert page.locator("#labels .number").all_inner_texts() == ["6", "40", "5"]
        assert page.locator("#cat-histogram .histogram > *").count() == 20
        expect(page.get_by_title("cat 0.30 to 0.35: 6 images")).to_be_visible()
        expect(page.locator("#untrained, #truncated")).to_have_count(0)


def test_labels_filter_and_say_how_many(browser: Browser, report: Path) -> None:
    with opened(browser, report) as page:
        for label, number in (("cat", 6), ("neither", 5), ("failed", 2), ("all", 53)):
            chip(page, f"{label} {number}").click()
            expect(page.locator("#found")).to_have_text(f"{number} of 53 shown")
            if label != "all":
                expect(page.locator(".card")).to_have_count(number)
                assert page.locator(f".card.{label}").count() == number


def test_the_order_can_be_chosen(browser: Browser, report: Path) -> None:
    with opened(browser, report) as page:
        chip(page, "dog").click()
        for order, first in (
            ("most certain first", ["dog39.png", "dog38.png"]),
            ("by name", ["dog0.png", "dog1.png"]),
            ("least certain first", ["dog0.png", "dog1.png"]),
        ):
            page.get_by_label("Order").select_option(order)
            assert cards(page)[:2] == first
        chip(page, "all").click()
        assert cards(page)[0] == MARKUP
        page.locator(".card").first.focus()
        page.keyboard.press("End")
        expect_focus_on(page, "empty.jpg")  # failures are last


def test_the_detail_panel_shows_the_answer(browser: Browser, report: Path) -> None:
    with opened(browser, report) as page:
        page.get_by_label("Search names").fill("a&b")
        page.locator(".card").click()
        body = page.locator("#detail-body")
        expect(body.locator(".answer")).to_have_text("cat")  # too uncertain for a breed
        assert body.locator(".number").all_inner_texts() == ["0.3000", "0.1000", "0.6000", "0.3000"]
        assert body.locator(".original img").evaluate("image => image.naturalWidth") == 64
        with page.context.expect_page() as original:
            body.get_by_role("link").click()
        original.value.wait_for_load_state()
        assert original.value.url == report.with_name("a&b.png").as_uri()
        assert original.value.locator("img").evaluate("image => image.naturalWidth") == 64


def test_everything_works_with_the_keyboard(browser: Browser, report: Path) -> None:
    with opened(browser, report) as page:
        page.get_by_label("Search names").focus()
        page.keyboard.type("dog")
        for _ in range(2):  # to the order, to the gallery
            page.keyboard.press("Tab")
        expect_focus_on(page, "dog0.png")
        for key in ("ArrowRight", "ArrowRight", "Enter"):
            page.keyboard.press(key)
        expect(page.locator("#detail-name")).to_have_text("dog2.png")
        page.keyboard.press("ArrowRight")
        expect(page.locator("#detail-name")).to_have_text("dog3.png")
        page.keyboard.press("Escape")
        expect(page.locator("#detail")).to_be_hidden()
        expect_focus_on(page, "dog3.png")
        page.keyboard.press("ArrowDown")
        expect(page.locator(".card:focus .name")).not_to_have_text("dog3.png")
        page.keyboard.press("End")
        expect_focus_on(page, "dog39.png")
        expect(page.locator(".card:focus")).to_be_in_viewport(ratio=0.99)
        page.keyboard.press("Home")
        expect_focus_on(page, "dog0.png")


def test_a_phone_needs_no_horizontal_scrolling(browser: Browser, report: Path) -> None:
    with opened(browser, report, PHONE, has_touch=True, is_mobile=True) as page:
        assert fits_in_width(page)
        page.locator(".card").first.tap()
        expect(page.locator("#detail")).to_be_visible()
        assert fits_in_width(page)
        assert page.locator("#detail").evaluate("panel => panel.offsetWidth") == PHONE[0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_untrained_weights_are_called_so_and_everybody_can_use_it(
    browser: Browser, tmp_path: Path, scheme: str
) -> None:
    target = tmp_path / "report.html"
    rows = [image("a", 0.9, 0), image("b", 0, 0.9), image("c", 0, 0, "neither"), failure("d")]
    write_folder_report(target, rows, [folder(3, 1)], MODEL | {"untrained": True})
    with opened(browser, target, color_scheme=scheme) as page:
        expect(page.get_by_role("alert")).to_have_text("Untrained model: its answers mean nothing.")
        assert axe_faults(page) == {}
        for card in page.locator(".card").all():
            card.click()
            assert axe_faults(page) == {}
            page.get_by_label("Close").click()


def test_ten_thousand_images_are_shown_a_few_at_a_time(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = folder_decoder()
    few = cycle([thumbnail(path, decoder) for path in sorted(SAMPLES.iterdir())])
    # 10,000 would take half a minute
    monkeypatch.setattr(gallery, "thumbnail", lambda path, decoder: next(few))
    rows = [image(f"photo-{i:05}.jpg", 0.3 + i / 20_000, 0.0) for i in range(12_000)]
    write_folder_report(tmp_path / "report.html", rows, [folder(12_000)], MODEL)
    with opened(browser, tmp_path / "report.html") as page:
        expect(page.locator("#truncated")).to_contain_text(
            "lists the 10,000 least certain of 12,000 images"
        )
        expect(page.locator("#found")).to_have_text("10,000 of 10,000 shown")
        assert page.locator("*").count() < 1500
        page.locator(".card").first.focus()
        page.keyboard.press("End")
        expect_focus_on(page, "photo-09999.jpg")
        assert page.locator("*").count() < 1500
        page.get_by_label("Search names").fill("photo-042")
        expect(page.locator("#found")).to_have_text("100 of 10,000 shown")
        page.get_by_label("Search names").fill("photo-04242")
        assert cards(page) == ["photo-04242.jpg"]
