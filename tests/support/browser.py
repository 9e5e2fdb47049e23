"""Real headless Chromium (Debian's) that opens pages from disk and notes what goes wrong."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Dialog, Page, Request, expect, sync_playwright

DESKTOP = (1360, 900)
PHONE = (360, 740)
LONGEST_WAIT_MS = 30_000  # Playwright's own 5 s are short for two cores with other work
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Whatever the browser or a page may want outside of this machine, it does not get.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)

# Text with a contrast below 4.5 to its background (WCAG 2.2, 1.4.3), as {text: contrast}.
_LOW_CONTRAST = """() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (colour) => {
    const [red, green, blue] = channels(colour).slice(0, 3).map((value) => value / 255)
      .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const background = (element) => {
    for (; element; element = element.parentElement) {
      const colour = getComputedStyle(element).backgroundColor;
      if ((channels(colour)[3] ?? 1) === 1) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const low = {};
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode.textContent.trim();
    const element = texts.currentNode.parentElement;
    if (!text || !element.checkVisibility() || !element.offsetWidth) continue;
    const pair = [getComputedStyle(element).color, background(element)].map(luminance);
    const contrast = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    if (contrast < 4.5) low[text] = contrast;
  }
  return low;
}"""


@contextmanager
def chromium(*more_arguments: str) -> Iterator[Browser]:
    """A running browser; the test is skipped where Chromium is not installed."""
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("chromium is not installed (apt install chromium)")
    expect.set_options(timeout=LONGEST_WAIT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=(*_ARGUMENTS, *more_arguments)
        )
        yield browser
        browser.close()


@dataclass
class Problems:
    """What a good page from disk never does."""

    console: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def note_dialog(self, dialog: Dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def note_request(self, request: Request) -> None:
        if not request.url.startswith(("file:", "data:")):
            self.requests.append(request.url)


@contextmanager
def opened(
    browser: Browser, path: Path, size: tuple[int, int] = DESKTOP, **options: Any
) -> Iterator[Page]:
    """Open a page from disk; fail on console errors, dialogs and requests to anywhere."""
    problems = Problems()
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
    try:
        page = context.new_page()
        page.set_default_timeout(LONGEST_WAIT_MS)
        page.on("console", lambda message: problems.console.append(message.text))
        page.on("pageerror", lambda error: problems.console.append(str(error)))
        page.on("dialog", problems.note_dialog)
        page.on("request", problems.note_request)
        page.goto(path.as_uri())
        yield page
        assert problems == Problems()
    finally:
        context.close()


def fits_in_width(page: Page) -> bool:
    """No horizontal scrolling."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


def low_contrast(page: Page) -> dict[str, float]:
    """What can be read only with good eyes: text, and its contrast."""
    found: dict[str, float] = page.evaluate(_LOW_CONTRAST)
    return found
