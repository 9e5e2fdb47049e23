"""The scaffold of every page: one HTML file that opens from disk and loads nothing.

A page is made of package files and of JSON in `<script type="application/json">`
blocks, which browsers never run and the page's own script reads.

File names are strangers' text. Three things keep them text: JSON is escaped so that
it cannot end its block, the scripts only ever set text and attributes, and the
content security policy runs no script and applies no style but the two written here,
each named by its hash (https://www.w3.org/TR/CSP3/), and connects to nothing.
"""

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

import catdog
from catdog_serving.atomic_write import atomic_write

# In JSON these occur inside strings alone, where an escape means the same. U+2028,
# U+2029 and lone surrogates are escaped by json.dumps, which writes ASCII.
_ESCAPES = str.maketrans({"<": r"\u003c", ">": r"\u003e", "&": r"\u0026"})


# page.js fills in the model and the warning.
_HEAD = """<header class="head">
  <h1>{heading}</h1>
  <p class="muted">made {made} by catdog {version}</p>
  <p class="model" id="model"></p>
</header>
<p class="warning" id="untrained" role="alert" hidden>
  Untrained model: its answers mean nothing.
</p>
<noscript><p class="warning">This page needs JavaScript.</p></noscript>
"""


@dataclass(frozen=True)
class Layout:
    """The files of one kind of page, each by its path in this package.

    Attributes:
        heading: What kind of page it is.
        body: The HTML below the page's head.
        styles: CSS, put together in this order.
        scripts: JavaScript, put together in this order, run after the body.
    """

    heading: str
    body: str
    styles: tuple[str, ...]
    scripts: tuple[str, ...]


def write_page(
    target: Path,
    layout: Layout,
    title: str,
    values: Mapping[str, Any],
    lists: Mapping[str, Iterable[Any]],
) -> None:
    """Write one page; `target` is replaced when all of it is there.

    Args:
        target: The .html file; its folder is made if missing.
        layout: What the page is made of.
        title: Plain text.
        values: What the page's script reads, by the block's name.
        lists: The same for lists, whose items are written as they come, so that
            they need not be in memory at once.

    Raises:
        NotReadyError: If the file cannot be written.
    """
    # A lone surrogate (an undecodable byte of a file name) cannot be UTF-8; as a character
    # reference it shows as the replacement character.
    blocks = (
        text.encode("utf-8", "xmlcharrefreplace") for text in _page(layout, title, values, lists)
    )
    atomic_write(target, blocks)


def _page(
    layout: Layout, title: str, values: Mapping[str, Any], lists: Mapping[str, Iterable[Any]]
) -> Iterator[str]:
    style = "".join(map(_package_file, layout.styles))
    script = "".join(map(_package_file, layout.scripts))
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; "
        f"script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )
    yield (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{html.escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
    )
    made = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    yield _HEAD.format(heading=layout.heading, made=made, version=catdog.__version__)
    yield _package_file(layout.body)
    for block, value in values.items():
        yield from _block(block, (embedded_json(value),))
    for block, items in lists.items():
        yield from _block(block, _list_chunks(items))
    yield f"<script>{script}</script>\n</body>\n</html>\n"


def embedded_json(value: Any) -> str:
    """JSON in ASCII that may stand inside a `<script type="application/json">` block.

    Raises:
        ValueError: For NaN and infinity, which JSON does not have.
    """
    return json.dumps(value, allow_nan=False, separators=(",", ":")).translate(_ESCAPES)


def _block(block: str, chunks: Iterable[str]) -> Iterator[str]:
    yield f'<script type="application/json" id="data-{block}">'
    yield from chunks
    yield "</script>\n"


def _list_chunks(items: Iterable[Any]) -> Iterator[str]:
    yield "["
    for number, item in enumerate(items):
        yield (",\n" if number else "") + embedded_json(item)
    yield "]"


def _package_file(name: str) -> str:
    return resources.files("catdog_serving").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """The text as a source of a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
