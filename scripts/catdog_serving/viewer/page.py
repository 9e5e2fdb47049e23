"""The skeleton of every page: one HTML file that opens from disk and loads nothing.

A page is a Jinja2 template that extends viewer/page.html, and names the scripts that it is made
of; all have one style sheet. Texts and tables are the template's. What is drawn (cards, bars,
histograms, maps) is its scripts', from JSON in `<script type="application/json">` blocks, which
browsers never run.

File names are strangers' text. Four things keep them text: templates escape every value, JSON is
escaped so that it cannot end its block, the scripts only ever set text and attributes, and the
content security policy runs no script and applies no style but the two written here, each named
by its hash (https://www.w3.org/TR/CSP3/), and a report's connects to nothing.
"""

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import catdog

_NAMES = ("page", "overlay", "gallery", "panel", "filters", "viewer")
_VIEWER_SCRIPTS = [f"viewer/{name}.js" for name in _NAMES]


def page_parts(
    template: str, values: Mapping[str, Any], items: Iterable[Mapping[str, Any]] = ()
) -> Iterator[bytes]:
    """A page in UTF-8, part by part.

    Args:
        template: By its path in this package, such as "reports/folder_report.html".
        values: What the template shows, plain: `title`, `model` (network, weights, precision,
            untrained; or None), `data` for its scripts, and what else it names.
        items: What its scripts draw, taken as they are written, so that they need not be
            in memory at once.

    Raises:
        UndefinedError: If the template names a value that is not there.
    """
    made = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    own = {"made": made, "version": catdog.__version__, "items": items}
    parts = environment().get_template(template).generate({**values, **own})
    # A lone surrogate (an undecodable byte of a file name) cannot be UTF-8; as a character
    # reference it shows as the replacement character.
    return (part.encode("utf-8", "xmlcharrefreplace") for part in parts)


@cache
def environment() -> Environment:
    """How templates are read: every value is escaped, and one that is not there is an error."""
    found = Environment(
        loader=PackageLoader("catdog_serving", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Of the filter `tojson`, which writes ASCII and escapes what HTML would take for markup.
    found.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    found.globals.update(package_text=_package_text, viewer_scripts=_VIEWER_SCRIPTS)
    found.filters.update(source_hash=_source_hash, count=_count, decimal=_decimal)
    return found


def _package_text(paths: Sequence[str]) -> Markup:
    """Styles or scripts of this package, put together in order, as they are."""
    package = resources.files("catdog_serving")
    return Markup("".join(package.joinpath(path).read_text("utf-8") for path in paths))  # noqa: S704


def _source_hash(text: str) -> str:
    """A style's or script's text as a source of a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _count(number: int, what: str = "") -> str:
    """ "1,200"; with what is counted "1 image", "1,200 images"."""
    return f"{number:,} {what}{'s' * (number != 1)}" if what else f"{number:,}"


def _decimal(number: float | None) -> str:
    """A share in [0, 1]; a dash where there is none."""
    return "\N{EN DASH}" if number is None else f"{number:.4f}"
