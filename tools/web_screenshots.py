"""Take the screenshots of docs/web.md: python -m tools.web_screenshots ADDRESS docs/images

ADDRESS is that of a running `catdog web`, whose server runs too.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page

from tests.support.browser import chromium
from tests.support.paths import SAMPLES
from tests.support.web_pages import crops, drop, web_page

WINDOW, PHONE = (1100, 870), (390, 844)


def main(address: str, target: Path) -> None:
    with chromium() as browser, tempfile.TemporaryDirectory() as scratch:
        many = crops(Path(scratch))
        _alone(browser, address, target / "web-picture.png")
        _alone(browser, address, target / "web-dark.png", color_scheme="dark")
        _alone(browser, address, target / "web-phone.png", size=PHONE)
        with web_page(browser, address, WINDOW) as page:
            drop(page, *many)
            page.locator(".cd-card").nth(19).wait_for()
            page.get_by_role("link", name="Download the table").wait_for()
            _keep(page, target / "web-gallery.png")
        with (
            web_page(browser, address, (1100, 400)) as page,
            web_page(browser, address) as busy,
        ):
            page.get_by_role("tab", name="Service").click()
            page.get_by_text("per second").wait_for()
            drop(busy, *many)
            page.get_by_text("ms mean").wait_for()
            _keep(page, target / "web-service.png")


def _alone(
    browser: Browser,
    address: str,
    path: Path,
    size: tuple[int, int] = WINDOW,
    **options: Any,
) -> None:
    with web_page(browser, address, size, **options) as page:
        drop(page, SAMPLES / "chelsea.png")
        page.locator(".cd-alone").wait_for()
        _keep(page, path, full_page=size == PHONE)


def _keep(page: Page, path: Path, full_page: bool = False) -> None:
    page.wait_for_timeout(500)  # for what fades in
    page.screenshot(path=path, full_page=full_page)
    Image.open(path).convert("RGB").quantize(256, kmeans=2).save(path, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
