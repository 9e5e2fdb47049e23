"""An evaluation of real photos by the real network, and its page in a real browser."""

import os
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from catdog_serving.evaluation.evaluation import Evaluation, evaluate, evaluate_folder
from catdog_serving.evaluation.plots import draw_plots
from catdog_serving.folder.image_result import ImageFailure
from catdog_serving.folder.local_backend import LocalBackend
from catdog_serving.reports.evaluation_report import write_evaluation_report
from tests.support.browser import PHONE, axe_faults, fits_in_width, opened
from tests.support.images import encode, quadrants
from tests.support.outcomes import always_cat, answer, classified

MARKUP = "<img src=x onerror=alert(1)>.png"


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Always cat; two mistakes and a failure have hostile names."""
    root = tmp_path_factory.mktemp("evaluation")
    (root / MARKUP).write_bytes(encode(quadrants()))
    outcomes = [
        *classified(always_cat, ("cat", "dog", "neither")),
        ("dog", root / MARKUP, answer(0.99, 0.0)),
        ("dog", Path(os.fsdecode(b"byte-\xff</script>.png")), answer(0.98, 0.0)),
        ("cat", Path("a&b.png"), ImageFailure("InvalidImage", "cannot decode <b>12</b> bytes")),
    ]
    return page_of(evaluate(outcomes), root)


def page_of(evaluation: Evaluation, root: Path) -> Path:
    path = root / "evaluation.html"
    write_evaluation_report(path, evaluation.to_dict(), draw_plots(evaluation))
    return path


def test_the_page_shows_figures_and_plots(browser: Browser, page_file: Path) -> None:
    with opened(browser, page_file) as page:
        tiles = page.locator("#tiles section")
        expect(tiles).to_have_count(7)
        expect(tiles.first).to_contain_text("0.4545")
        expect(tiles.first).to_contain_text("10 of 22")
        rows = page.locator("tbody tr")
        assert rows.nth(1).locator("td").all_inner_texts()[:5] == ["dogs", "12", "0", "0", "0"]
        assert rows.nth(0).locator("td").all_inner_texts()[:5] == ["cats", "10", "0", "0", "1"]
        plots = page.locator("#plots img")
        expect(plots).to_have_count(4)
        assert plots.evaluate_all("images => images.every(image => image.naturalWidth > 600)")
        expect(page.locator("#untrained")).to_have_count(0)


def test_hostile_names_are_text(browser: Browser, page_file: Path) -> None:
    with opened(browser, page_file) as page:
        mistakes = page.locator(".card")
        expect(page.locator("#found")).to_have_text("20 of 20 shown")
        expect(mistakes.nth(0)).to_contain_text(MARKUP)
        assert mistakes.nth(0).locator("img").evaluate("image => image.naturalWidth") == 192
        expect(mistakes.nth(1)).to_contain_text("script>.png")
        expect(mistakes.nth(1)).to_contain_text("the image cannot be shown")
        expect(page.locator("#failures")).to_contain_text("cannot decode <b>12</b> bytes")
        assert page.locator("b").count() == 0
        mistakes.nth(0).click()
        expect(page.locator("#detail-body .answer")).to_have_text("cat · in truth dog")
        with page.context.expect_page() as original:
            page.locator("#detail-body").get_by_role("link").click()
        original.value.wait_for_load_state()
        assert original.value.locator("img").evaluate("image => image.naturalWidth") == 300


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_horizontal_scrolling_and_everybody_can_use_it(
    browser: Browser, page_file: Path, scheme: str
) -> None:
    with opened(browser, page_file, PHONE, is_mobile=True, color_scheme=scheme) as page:
        expect(page.locator(".card").first).to_be_visible()
        assert fits_in_width(page)
        assert axe_faults(page) == {}


def test_untrained_weights_are_called_so(browser: Browser, tmp_path: Path) -> None:
    evaluation = evaluate([("cat", Path("a"), answer(1, 0, weights="seeded"))])
    with opened(browser, page_of(evaluation, tmp_path)) as page:
        expect(page.get_by_role("alert")).to_be_visible()
        expect(page.locator("#mistakes-title")).to_contain_text("No mistakes")


@pytest.fixture(scope="module")
def photo_evaluation(
    archive: Path, photos: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Evaluation:
    root = tmp_path_factory.mktemp("labelled")
    (root / "cats").symlink_to(photos[0].parent)
    (root / "dogs").symlink_to(photos[-1].parent)
    with LocalBackend(archive) as backend:
        return evaluate_folder(root, backend, lambda failed: None)


def test_real_photos_are_told_apart(photo_evaluation: Evaluation) -> None:
    assert photo_evaluation.two_way.total == 100
    assert photo_evaluation.two_way.count >= 94
    assert photo_evaluation.roc_auc is not None
    assert photo_evaluation.roc_auc > 0.95
    assert photo_evaluation.failures == ()
    assert not photo_evaluation.untrained
