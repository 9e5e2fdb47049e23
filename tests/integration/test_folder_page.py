"""The folder report in a real browser: from disk, with hostile names, with 10,000 images."""

import os
import time
from collections.abc import Iterable, Iterator
from itertools import cycle
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from catdog_serving.reports.folder_report import write_folder_report
from catdog_serving.viewer import gallery
from catdog_serving.viewer.gallery import thumbnails
from tests.support.browser import PHONE, fits_in_width, opened
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
    for row in rows:
        Path(row["path"]).write_bytes(encode(noise(64, 64)))
    rows += [image(str(root / f"dog{i}.png"), 0.01, 0.4 + i / 100) for i in range(40)]
    rows += [image(str(root / f"cup{i}.png"), 0.01, 0.02, label="neither") for i in range(5)]
    rows += [failure(MARKUP, "cannot decode <b>12</b> bytes"), failure("empty.jpg", "no bytes")]
    write_folder_report(
        root / "report.html", rows, [folder(51, 2), folder(0) | {"folder": MARKUP}], MODEL
    )
    return root / "report.html"


def test_an_image_under_the_pointer_shows_map_and_box(browser: Browser, tmp_path: Path) -> None:
    with_map = image(str(tmp_path / "cat.png"), 0.9, 0.05) | {
        "box": [50, 0, 100, 60],
        "map": {"size": [100, 60], "view": [20, 0, 80, 60], "grid": [[0, 1], [0, 1]]},
    }
    without = image(str(tmp_path / "old.png"), 0.8, 0.05)
    for row in (with_map, without):
        Path(row["path"]).write_bytes(encode(noise(100, 60)))
    write_folder_report(tmp_path / "report.html", [with_map, without], [folder(2)], MODEL)
    with opened(browser, tmp_path / "report.html") as page:
        old, cat = page.locator(".card").all()
        cat.hover()
        overlay = cat.locator(".overlay")
        expect(overlay).to_have_css("opacity", "1")
        alphas = overlay.evaluate(
            """(canvas) => {
              const { width, height } = canvas;
              const { data } = canvas.getContext("2d").getImageData(0, height / 2, width, 1);
              return [0.1, 0.7].map((x) => data[4 * Math.round(x * width) + 3]);
            }"""
        )
        assert alphas[0] == 0  # outside the map's view
        assert alphas[1] > 100  # where the map is 1
        old.hover()
        assert old.locator(".overlay").count() == 0
        expect(overlay).to_have_css("opacity", "0")
        cat.click()
        large = page.locator("#detail-body .overlay")
        expect(large).to_be_visible()
        page.get_by_label("where it is").uncheck()
        expect(large).to_be_hidden()


def names(page: Page) -> list[str]:
    return page.locator(".card .name").all_inner_texts()


def chip(page: Page, label: str) -> Locator:
    return page.locator("#chips").get_by_role("button", name=label)


def expect_focus_on(page: Page, name: str) -> None:
    """Waits for it: a closed dialog gives the focus back in an event of its own."""
    expect(page.locator(".card:focus .name")).to_have_text(name)


def test_hostile_names_are_text(browser: Browser, report: Path) -> None:
    with opened(browser, report) as page:
        page.get_by_label("Search names").fill("onerror")
        expect(page.locator(".card")).to_have_count(2)
        assert names(page) == [MARKUP, MARKUP]
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
        assert page.locator("#cat-histogram rect").count() == 20
        titles = page.locator("#cat-histogram title").all_text_contents()
        assert titles[6] == "cat mass 0.30 to 0.35: 6 images"
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
        assert names(page)[:2] == ["dog0.png", "dog1.png"]
        page.get_by_label("Order").select_option("most certain first")
        assert names(page)[:2] == ["dog39.png", "dog38.png"]
        page.get_by_label("Order").select_option("by name")
        assert names(page)[:3] == ["dog0.png", "dog1.png", "dog2.png"]
        chip(page, "all").click()
        page.get_by_label("Order").select_option("least certain first")
        assert names(page)[0] == MARKUP
        page.locator(".card").first.focus()
        page.keyboard.press("End")
        expect_focus_on(page, "empty.jpg")  # failures are last


def test_the_detail_panel_shows_the_answer(browser: Browser, report: Path) -> None:
    with opened(browser, report) as page:
        page.get_by_label("Search names").fill("a&b")
        page.locator(".card").click()
        body = page.locator("#detail-body")
        expect(body.locator(".answer")).to_have_text("cat · tabby (50%)")
        assert body.locator(".number").all_inner_texts() == ["0.3000", "0.1000", "0.6000", "0.3000"]
        assert body.locator("img").evaluate("image => image.naturalWidth") == 64
        with page.context.expect_page() as original:
            body.get_by_role("link").click()
        original.value.wait_for_load_state()
        assert original.value.url == report.with_name("a&b.png").as_uri()
        assert original.value.locator("img").evaluate("image => image.naturalWidth") == 64


def test_everything_works_with_the_keyboard(browser: Browser, report: Path) -> None:
    with opened(browser, report) as page:
        page.get_by_label("Search names").focus()
        page.keyboard.type("dog")
        page.keyboard.press("Tab")  # the order
        page.keyboard.press("Tab")
        expect_focus_on(page, "dog0.png")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
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
def test_texts_can_be_read_in_both_schemes(browser: Browser, report: Path, scheme: str) -> None:
    """WCAG 2.1, 1.4.3: a contrast of 4.5 between text and ground."""
    with opened(browser, report, color_scheme=scheme) as page:
        contrasts = page.evaluate(
            """() => {
              const probe = document.body.appendChild(document.createElement("i"));
              const luminance = (name) => {
                probe.style.color = `var(--${name})`;
                const [r, g, b] = getComputedStyle(probe).color.match(/[0-9.]+/g).map((v) => {
                  const s = v / 255;
                  return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
                });
                return 0.2126 * r + 0.7152 * g + 0.0722 * b;
              };
              const contrast = (a, b) => {
                const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
                return (high + 0.05) / (low + 0.05);
              };
              const texts = ["text", "muted", "cat", "dog", "neither", "failed", "accent"];
              const pairs = texts.flatMap((t) => [[t, "ground"], [t, "surface"]]);
              pairs.push(["warning-text", "warning-ground"], ["muted", "sunken"]);
              return Object.fromEntries(pairs.map(([t, g]) => [`${t} on ${g}`, contrast(t, g)]));
            }"""
        )
    assert {pair: value for pair, value in contrasts.items() if value < 4.5} == {}


def test_untrained_weights_are_called_so(browser: Browser, tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    write_folder_report(target, [image("a", 0.9, 0)], [folder(1)], MODEL | {"untrained": True})
    with opened(browser, target) as page:
        expect(page.get_by_role("alert")).to_have_text("Untrained model: its answers mean nothing.")


def test_ten_thousand_images_are_shown_a_few_at_a_time(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = list(thumbnails(sorted(SAMPLES.iterdir())))  # 10,000 would take half a minute

    def reused(paths: Iterable[Path | None]) -> Iterator[str | None]:
        return (thumbnail for _, thumbnail in zip(paths, cycle(few), strict=False))

    monkeypatch.setattr(gallery, "thumbnails", reused)
    rows = [image(f"photo-{i:05}.jpg", 0.3 + i / 20_000, 0.0) for i in range(12_000)]
    start = time.perf_counter()
    write_folder_report(tmp_path / "report.html", rows, [folder(12_000)], MODEL)
    written = time.perf_counter()
    with opened(browser, tmp_path / "report.html") as page:
        loaded = time.perf_counter()
        expect(page.locator("#truncated")).to_contain_text(
            "lists the 10,000 least certain of 12,000 images"
        )
        expect(page.locator("#found")).to_have_text("10,000 of 10,000 shown")
        assert page.locator("*").count() < 1500
        page.locator(".card").first.focus()
        page.keyboard.press("End")
        expect_focus_on(page, "photo-09999.jpg")
        assert page.locator("*").count() < 1500
        search_ms = page.evaluate(
            """() => {
              const search = document.getElementById("search");
              const times = ["4", "42", "photo-042", ""].map((text) => {
                const start = performance.now();
                search.value = text;
                search.dispatchEvent(new Event("input"));
                return performance.now() - start;
              });
              return Math.max(...times);
            }"""
        )
        page.get_by_label("Search names").fill("photo-042")
        expect(page.locator("#found")).to_have_text("100 of 10,000 shown")
        page.get_by_label("Search names").fill("photo-04242")
        assert names(page) == ["photo-04242.jpg"]
    size_mb = (tmp_path / "report.html").stat().st_size / 1e6
    print(
        f"\n10,000 images, {size_mb:.1f} MB: written in {written - start:.2f} s, "
        f"loaded in {loaded - written:.2f} s, slowest search {search_ms:.1f} ms"
    )
