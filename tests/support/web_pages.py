"""The page of `catdog web` in a browser, and the images to drop on it."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image
from playwright.sync_api import Browser, Page, Request, expect

from tests.support.browser import DESKTOP, LONGEST_WAIT_MS
from tests.support.paths import SAMPLES

# Gradio's own note about a feature that it lacks itself.
_HARMLESS = "Method not implemented."


@contextmanager
def web_page(
    browser: Browser,
    address: str,
    size: tuple[int, int] = DESKTOP,
    expected_errors: tuple[str, ...] = (),
    **options: Any,
) -> Iterator[Page]:
    """Open the page; fail on a request to anywhere but loopback, and on console errors.

    Args:
        browser: The browser.
        address: The page's.
        size: Of the window.
        expected_errors: Parts of console messages that the test brings about.
        options: For the browser's context.
    """
    harmless = (_HARMLESS, *expected_errors)
    outside: list[str] = []
    errors: list[str] = []

    def note_request(request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and parts.hostname != "127.0.0.1":
            outside.append(request.url)

    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
    try:
        page = context.new_page()
        page.set_default_timeout(LONGEST_WAIT_MS)
        page.on("request", note_request)
        page.on(
            "console",
            lambda message: (
                None
                if any(part in message.text for part in harmless)
                else errors.append(message.text)
            ),
        )
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        expect(page.locator("#cd-drop input[type=file]")).to_be_attached()
        expect(page.locator("#cd-message[aria-live=polite]")).to_be_attached()  # page.js has run
        yield page
        assert (outside, errors) == ([], [])
    finally:
        context.close()


def drop(page: Page, *paths: Path) -> None:
    page.locator("#cd-drop input[type=file]").set_input_files([str(path) for path in paths])


def drop_beside(page: Page, content: bytes, name: str) -> bool:
    """Drop a file on the page's heading; says whether the page took it from the browser."""
    script = """([heading, content, name]) => {
      const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
      const transfer = new DataTransfer();
      transfer.items.add(new File([bytes], name));
      const event = new DragEvent("drop",
        { dataTransfer: transfer, bubbles: true, cancelable: true });
      return !document.querySelector(heading).dispatchEvent(event);
    }"""
    return bool(page.evaluate(script, ["h1", base64.b64encode(content).decode(), name]))


def asked_hosts(net_log: Path) -> set[str | None]:
    """The hosts that pages asked for anything, in a log of Chromium's `--log-net-log`.

    What the browser wants for itself (updates, for example) has no page as its initiator.
    """
    log = json.loads(net_log.read_text("utf-8"))
    request = log["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    begun = [event.get("params", {}) for event in log["events"] if event["type"] == request]
    urls = [asked["url"] for asked in begun if asked.get("initiator", "").startswith("http")]
    return {urlsplit(url).hostname for url in urls if not url.startswith(("data:", "blob:"))}


def crops(folder: Path, count: int = 20) -> list[Path]:
    """Squares of the samples, each another part, so that a gallery has something to show."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = sorted(SAMPLES.iterdir())
    paths = []
    for number in range(count):
        sample = samples[number % len(samples)]
        with Image.open(sample) as image:
            side = min(image.size) * 3 // 4
            step = number // len(samples)
            left = (image.width - side) * (step % 3) // 2
            top = (image.height - side) * (step % 2)
            path = folder / f"{number:02}-{sample.stem}.png"
            image.convert("RGB").crop((left, top, left + side, top + side)).save(path)
            paths.append(path)
    return paths
