"""How long a person waits: 200 images, each from its drop on the page until it is drawn."""

from pathlib import Path
from statistics import median, quantiles

from playwright.sync_api import expect

from catdog_serving.torchserve.server import TorchServe
from tests.support.browser import chromium
from tests.support.web_pages import drop_to_drawn_s, started_page, web_page

IMAGES = 200


def test_from_drop_to_drawn_before_the_real_server(server: TorchServe, photos: list[Path]) -> None:
    """One after another, the prediction included; docs/web.md keeps the figures."""
    took_s = []
    with (
        chromium() as browser,
        started_page(server.config.path, "--port", "0") as (address, _),
        web_page(browser, address) as page,
    ):
        page.locator("#order").evaluate("order => { order.value = 'name'; }")
        for number in range(IMAGES):
            name = f"{999 - number}.jpg"  # the newest comes first, where it is seen
            content = photos[number % len(photos)].read_bytes()
            took_s.append(drop_to_drawn_s(page, content, name))
        expect(page.locator("#message")).to_contain_text(f"{IMAGES} images:")
    p99_s = quantiles(took_s, n=100)[98]
    print(
        f"\n{IMAGES} photos, each from drop to drawn: median {median(took_s):.3f} s, p99 "
        f"{p99_s:.3f} s, longest {max(took_s):.3f} s"
    )
    assert median(took_s) < 1
