"""docs/api.html: made from openapi.yaml, complete, without scripts."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from catdog_serving.torchserve.api_page import STYLE, render
from tests.support.parsed_page import policy_hash
from tests.support.paths import ROOT

SOURCE = ROOT / "docs" / "openapi.yaml"
DOCUMENT = yaml.safe_load(SOURCE.read_text())


def test_the_committed_page_is_up_to_date(tmp_path: Path) -> None:
    page = tmp_path / "api.html"
    command = [sys.executable, "-m", "catdog_serving.torchserve.api_page", SOURCE, page]
    subprocess.run(command, check=True)
    assert page.read_text() == (ROOT / "docs" / "api.html").read_text(), (
        "run: python -m catdog_serving.torchserve.api_page docs/openapi.yaml docs/api.html"
    )


def test_everything_of_the_document_is_on_the_page() -> None:
    page = render(DOCUMENT)
    for path, methods in DOCUMENT["paths"].items():
        for method in set(methods) - {"servers"}:
            assert f"<code>{method.upper()} {path}</code>" in page
            for status in methods[method]["responses"]:
                assert f"<td><code>{status}</code></td>" in page
    for schema in ("Prediction", "Error"):
        for field in DOCUMENT["components"]["schemas"][schema]["properties"]:
            assert f"<td><code>{field}</code></td>" in page
    for target in re.findall(r'href="#(\w+)"', page):
        assert f'id="{target}"' in page


def test_nothing_is_loaded_or_run() -> None:
    page = render(DOCUMENT)
    assert not re.search(r"<script|<link|<img|src=|@import|url\(|\son\w+=|style=", page)


def test_text_of_the_document_is_escaped() -> None:
    hostile = DOCUMENT | {"info": DOCUMENT["info"] | {"title": "<script>", "summary": "a & `b<c`"}}
    page = render(hostile)
    assert "<script>" not in page
    assert "a &amp; <code>b&lt;c</code>" in page


def test_a_schema_of_an_unknown_kind_fails() -> None:
    field = {"type": "boolean"}
    schemas = {"New": {"type": "object", "properties": {"field": field}}}
    document = DOCUMENT | {"components": DOCUMENT["components"] | {"schemas": schemas}}
    with pytest.raises(ValueError, match=r"no words for the schema \{'type': 'boolean'\}"):
        render(document | {"paths": {}})


def test_nginx_allows_exactly_the_pages_style() -> None:
    allowed = re.findall(r"'(sha256-[^']+)'", (ROOT / "config" / "nginx.conf").read_text())
    assert allowed == [policy_hash(STYLE).strip("'")]
