"""Take the screenshots of docs/web.md: python -m tools.web_screenshots ADDRESS docs/images

ADDRESS is that of a running `catdog web`, whose server runs too.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser

from tests.support.browser import chromium
from tests.support.paths import SAMPLES
from tests.support.web_pages import crops, drop, web_page

WINDOW, PHONE = (1100, 800), (390, 844)


def main(address: str, target: Path) -> None:
    with chromium() as browser, tempfile.TemporaryDirectory() as scratch:
        images = crops(Path(scratch))
        _take(browser, address, images, target / "web-gallery.png")
        _take(browser, address, images, target / "web-phone.png", size=PHONE)
        _take(browser, address, images, target / "web-dark.png", color_scheme="dark")
        _take(browser, address, [SAMPLES / "chelsea.png"], target / "web-image.png", opened=True)


def _take(
    browser: Browser,
    address: str,
    images: list[Path],
    path: Path,
    size: tuple[int, int] = WINDOW,
    opened: bool = False,
    **options: Any,
) -> None:
    with web_page(browser, address, size, **options) as page:
        drop(page, *images)
        page.locator("#message").get_by_text(f"{len(images)} image").wait_for()
        page.get_by_label("Order").select_option("by name")
        if opened:
            page.locator(".card").first.click()
            page.get_by_text("fills the image").wait_for()
        page.evaluate("Promise.all([...document.images].map((image) => image.decode()))")
        page.screenshot(path=path)
        Image.open(path).convert("RGB").quantize(256, kmeans=2).save(path, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
