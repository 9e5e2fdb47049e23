"""The skeleton of a page: what it carries stays data, and it is written atomically."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

import catdog_serving
from catdog_serving.errors import NotReadyError
from catdog_serving.folder.own_outputs import write_own
from catdog_serving.viewer.page import environment, page_parts
from tests.support.parsed_page import ParsedPage, policy_hash
from tests.support.report_rows import HOSTILE, MODEL

PACKAGE = Path(catdog_serving.__file__).parent
SOURCES = [path for folder in ("viewer", "reports", "web") for path in (PACKAGE / folder).iterdir()]


def write(target: Path, items: Iterable[dict[str, Any]] = (), **values: object) -> None:
    parts = {"sources": "img-src data:", "scripts": ["viewer/page.js"], "data": {}}
    shown = parts | {"title": "title", "heading": "heading", "model": None} | values
    write_own(target, page_parts("viewer/page.html", shown, items))


def written(tmp_path: Path, *texts: str, **values: object) -> ParsedPage:
    write(tmp_path / "page.html", ({text: text} for text in texts), **values)
    return ParsedPage(tmp_path / "page.html")


def test_hostile_texts_come_back_as_they_were_and_add_no_element(tmp_path: Path) -> None:
    harmless = written(tmp_path, *("x" for _ in HOSTILE), model=MODEL)
    more = {text: text for text in HOSTILE}
    model = MODEL | {"network": "".join(HOSTILE)}
    hostile = written(tmp_path, *HOSTILE, model=model, data={"more": more})
    assert hostile.data == {"more": more, "items": [{text: text} for text in HOSTILE]}
    assert hostile.tags == harmless.tags


@pytest.mark.parametrize("title", ["</title><script>alert(1)</script>", *HOSTILE[:-2]])
def test_every_title_can_be_written(tmp_path: Path, title: str) -> None:
    shown = written(tmp_path, title=title).title
    assert shown == title.replace("\udcff", "\N{REPLACEMENT CHARACTER}")


@given(st.text(st.characters(codec=None)))
def test_embedded_json_is_plain_ascii_without_markup(text: str) -> None:
    embedded = environment().from_string("{{ value | tojson }}").render(value={text: [text]})
    assert embedded.isascii()
    assert not set(embedded) & set("<>&'")
    assert json.loads(embedded) == {text: [text]}


def test_what_json_or_the_page_lacks_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write(tmp_path / "page.html", [{"cat": float("nan")}])
    with pytest.raises(UndefinedError, match="network"):
        write(tmp_path / "page.html", model={"weights": "ids"})


def test_the_policy_allows_only_the_pages_own_style_and_script(tmp_path: Path) -> None:
    page = written(tmp_path)
    (style,), (script,) = page.inline["style"], page.inline["script"]
    assert page.policy == {
        "default-src": ["'none'"],
        "img-src": ["data:"],
        "style-src": [policy_hash(style)],
        "script-src": [policy_hash(script)],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
    }


@pytest.mark.parametrize(
    ("suffix", "markup"),
    [
        (".js", r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\("),
        (".html", r"\|\s*safe\b|autoescape|\son\w+=|\sstyle=|javascript:"),
    ],
)
def test_no_source_makes_markup_of_text(suffix: str, markup: str) -> None:
    texts = {path.name: path.read_text() for path in SOURCES if path.suffix == suffix}
    assert len(texts) > 3
    assert {
        name: found for name, text in texts.items() if (found := re.findall(markup, text))
    } == {}


def test_a_page_that_fails_half_way_leaves_the_old_one(tmp_path: Path) -> None:
    def items() -> Iterator[dict[str, Any]]:
        yield {}
        raise RuntimeError("half-way")

    target = tmp_path / "page.html"
    target.write_text("old")
    with pytest.raises(RuntimeError, match="half-way"):
        write(target, items())
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_folder_of_a_page_is_made_or_named(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "page.html"
    write(target)
    assert target.is_file()
    with pytest.raises(NotReadyError, match=r"cannot write .*page\.html"):
        write(target / "page.html")
