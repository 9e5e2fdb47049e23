"""Real headless Chromium (Debian's) that opens pages from disk and notes what goes wrong."""

import importlib.util
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Dialog,
    Page,
    Request,
    expect,
    sync_playwright,
)

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
    """What a good page never does."""

    own: tuple[str, ...]  # how addresses begin that it may ask
    expected_errors: tuple[str, ...]  # parts of console messages that the test brings about
    console: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def note_console(self, message: ConsoleMessage) -> None:
        if not any(part in message.text for part in self.expected_errors):
            self.console.append(message.text)

    def note_dialog(self, dialog: Dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def note_request(self, request: Request) -> None:
        if not request.url.startswith(self.own):
            self.requests.append(request.url)


@contextmanager
def opened(
    browser: Browser,
    path: Path | str,
    size: tuple[int, int] = DESKTOP,
    expected_errors: tuple[str, ...] = (),
    **options: Any,
) -> Iterator[Page]:
    """Open a page from disk or from a server; fail on console errors, dialogs and requests.

    Args:
        browser: The browser.
        path: The page's file, which may ask for nothing but files, or its address, which may ask
            its own server.
        size: Of the window.
        expected_errors: Parts of console messages that the test brings about.
        options: For the browser's context.
    """
    address = path.as_uri() if isinstance(path, Path) else path
    parts = urlsplit(address)
    own = "file:" if isinstance(path, Path) else f"{parts.scheme}://{parts.netloc}/"
    problems = Problems((own, f"blob:{own}", "data:"), expected_errors)
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
    try:
        page = context.new_page()
        page.set_default_timeout(LONGEST_WAIT_MS)
        page.on("console", problems.note_console)
        page.on("pageerror", lambda error: problems.console.append(str(error)))
        page.on("dialog", problems.note_dialog)
        page.on("request", problems.note_request)
        page.goto(address)
        yield page
        assert (problems.console, problems.dialogs, problems.requests) == ([], [], [])
    finally:
        context.close()


def cards(page: Page) -> list[str]:
    """The names under the images, in order."""
    return page.locator(".card .name").all_inner_texts()


def fits_in_width(page: Page) -> bool:
    """No horizontal scrolling."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


def axe_faults(page: Page) -> dict[str, list[str]]:
    """What axe-core calls serious or critical, such as text of low contrast, with the elements.

    It is a script in a Python package; the debugger runs it, past the page's policy. The test is
    skipped where it is not installed.
    """
    spec = importlib.util.find_spec("axe_playwright_python")
    if spec is None or spec.origin is None:
        pytest.skip("axe-playwright-python is not installed; it comes with `make install-dev`")
    page.evaluate(Path(spec.origin).with_name("axe.min.js").read_text("utf-8") + ";undefined")
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return {
        fault["id"]: [node["html"] for node in fault["nodes"]]
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
    }
