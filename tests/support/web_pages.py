"""The page of `catdog web` in a browser, images to drop on it, and a server that answers it."""

import base64
import io
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, expect

from catdog.decode import HTTP_FORMATS
from catdog.results import ActivationMap, Box, ClassProbability, Explanation, ModelId, Prediction
from tests.support.browser import opened
from tests.support.command_line import CATDOG
from tests.support.http_servers import send
from tests.support.paths import SAMPLES


@contextmanager
def started_page(config: Path, *options: str, **environment: str) -> Iterator[tuple[str, int]]:
    """The real command, on a free port; gives the address that it prints, and its process."""
    with subprocess.Popen(
        [*CATDOG, "web", "--config", str(config), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "200"} | environment,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("page  http://"), process.communicate(timeout=10)
            yield line.split()[1], process.pid
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=20)
            assert (process.returncode, errors) == (128 + signal.SIGTERM, "")
        finally:
            process.kill()


def answer_a_cat(request: BaseHTTPRequestHandler, body: bytes) -> None:
    """What a server answers, whatever it is asked about."""
    with Image.open(io.BytesIO(body), formats=HTTP_FORMATS) as image:
        width, height = image.size
    grid = ((0.0, 0.2, 0.1), (0.1, 1.0, 0.4), (0.0, 0.3, 0.1))
    whole = ActivationMap((width, height), (0, 0, width, height), grid)
    side = min(width, height)
    found = Prediction(
        *("cat", 0.9, 0.05, 0.05, None),
        (ClassProbability(281, "tabby", 0.5),),
        Box(0, 0, side // 2, side // 2),
        ModelId("net", "ids", "fp32"),
        "1.0",
        whole,
    )
    answer = found.to_dict(with_map=True)
    if request.path.startswith("/explanations"):
        answer = Explanation(found, Box(0, 0, width // 2, height), whole).to_dict()
    send(request, 200, json.dumps(answer).encode())


@contextmanager
def web_page(browser: Browser, address: str, *given: Any, **options: Any) -> Iterator[Page]:
    """`opened`, when it can be used."""
    with opened(browser, address, *given, **options) as page:
        expect(page.locator("#zone")).to_be_visible()
        yield page


def drop(page: Page, *paths: Path) -> None:
    page.locator("#files").set_input_files([str(path) for path in paths])


# A file in the browser's hands, as what a paste or a drop brings.
_TRANSFER = """
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name));
  const dropped = { dataTransfer: data, bubbles: true, cancelable: true };
"""


def give(page: Page, kind: str, content: bytes, name: str) -> bool:
    """Paste a file, or drop it on the heading; says whether the page took it from the browser."""
    script = f"""([kind, content, name]) => {{
      {_TRANSFER}
      const event = kind === "paste"
        ? new ClipboardEvent("paste", {{ clipboardData: data, bubbles: true }})
        : new DragEvent("drop", dropped);
      return !document.querySelector("h1").dispatchEvent(event);
    }}"""
    return bool(page.evaluate(script, [kind, base64.b64encode(content).decode(), name]))


def drop_to_drawn_s(page: Page, content: bytes, name: str) -> float:
    """Drop a file, wait until its card is drawn, and give how long it took.

    By the page's own clock: what drives the browser is no part of it.
    """
    script = f"""async ([content, name, limit_ms]) => {{
      {_TRANSFER}
      const frame = () => new Promise(requestAnimationFrame);
      const image = () => document.querySelector(`[title="${{name}}"] img`);
      const start = performance.now();
      document.body.dispatchEvent(new DragEvent("drop", dropped));
      while (!image()?.complete) {{
        if (performance.now() - start > limit_ms) throw new Error(`${{name}} is not drawn`);
        await frame();
      }}
      await image().decode();
      await frame(); // which draws it
      await frame(); // it was drawn
      const {{ top, bottom }} = image().getBoundingClientRect();
      if (bottom < 0 || top > innerHeight) throw new Error(`${{name}} is not in the window`);
      return performance.now() - start;
    }}"""
    limit_ms = 30_000
    given = [base64.b64encode(content).decode(), name, limit_ms]
    return float(page.evaluate(script, given)) / 1000


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
