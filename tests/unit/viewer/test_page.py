"""The scaffold of a page: what it carries stays data, and it is written atomically."""

import importlib.resources
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catdog_serving.errors import NotReadyError
from catdog_serving.reports.folder_report import _LAYOUT as LAYOUT
from catdog_serving.viewer.page import embedded_json, write_page
from tests.support.parsed_page import ParsedPage, policy_hash
from tests.support.report_rows import HOSTILE


def written(tmp_path: Path, title: str, *items: Any) -> ParsedPage:
    target = tmp_path / "page.html"
    write_page(target, LAYOUT, title, {"value": list(items)}, {"list": items})
    return ParsedPage(target)


def test_hostile_texts_come_back_as_they_were(tmp_path: Path) -> None:
    page = written(tmp_path, "title", *HOSTILE)
    assert page.blocks == {"value": HOSTILE, "list": HOSTILE}


def test_hostile_texts_add_no_element(tmp_path: Path) -> None:
    harmless = written(tmp_path, "title", *("x" for _ in HOSTILE))
    hostile = written(tmp_path, "</title><script>alert(1)</script>", *HOSTILE)
    assert hostile.tags == harmless.tags
    assert hostile.title == "</title><script>alert(1)</script>"


@pytest.mark.parametrize("title", HOSTILE[:-2])
def test_every_title_can_be_written(tmp_path: Path, title: str) -> None:
    shown = written(tmp_path, title).title
    assert shown == title.replace("\udcff", "\N{REPLACEMENT CHARACTER}")


@given(st.text(st.characters(codec=None)))
def test_embedded_json_is_plain_ascii_without_markup(text: str) -> None:
    embedded = embedded_json({text: [text]})
    assert embedded.isascii()
    assert not set(embedded) & set("<>&")
    assert json.loads(embedded) == {text: [text]}


def test_numbers_that_json_lacks_are_an_error() -> None:
    with pytest.raises(ValueError, match="JSON"):
        embedded_json(float("nan"))


def test_the_policy_allows_only_the_pages_own_style_and_script(tmp_path: Path) -> None:
    page = written(tmp_path, "title")
    (style,), (script,) = page.inline["style"], page.inline["script"]
    assert page.policy == {
        "default-src": ["'none'"],
        "img-src": ["data:"],
        "style-src": [policy_hash(style)],
        "script-src": [policy_hash(script)],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
    }


def test_no_script_makes_markup_of_text() -> None:
    markup = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(")
    for package in ("catdog_serving.viewer", "catdog_serving.reports"):
        folder = importlib.resources.files(package)
        scripts = [file for file in folder.iterdir() if file.name.endswith(".js")]
        assert scripts
        for script in scripts:
            text = script.read_text(encoding="utf-8")
            assert [name for name in markup if name in text] == [], script.name


def test_a_page_that_fails_half_way_leaves_the_old_one(tmp_path: Path) -> None:
    def items() -> Iterator[str]:
        yield "first"
        raise RuntimeError("half-way")

    target = tmp_path / "page.html"
    target.write_text("old")
    with pytest.raises(RuntimeError, match="half-way"):
        write_page(target, LAYOUT, "title", {}, {"list": items()})
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_folder_of_a_page_is_made(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "page.html"
    write_page(target, LAYOUT, "title", {}, {})
    assert target.is_file()


def test_a_page_that_cannot_be_written_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    target = tmp_path / "file" / "page.html"
    with pytest.raises(NotReadyError, match=r"cannot write .*page\.html"):
        write_page(target, LAYOUT, "title", {}, {})
