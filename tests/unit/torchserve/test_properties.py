"""Properties are read as java.util.Properties.load reads them, and written so that it can."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catdog_serving.torchserve.properties import parse_properties, write_properties


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# note\n! note\na=1\n b = x=y \n\n", {"a": "1", "b": "x=y"}),
        ("c={\\\n  1,\\\n 2}\n", {"c": "{1,2}"}),
        ("a:1\nb 2\nc\nd = : 3", {"a": "1", "b": "2", "c": "", "d": ": 3"}),
        ("a\\ b\\=c=d", {"a b=c": "d"}),
        (r"a=\u00e9\\\t\z\ud83d\udc08", {"a": "é\\\tz🐈"}),
        ("a=1\\\\\nb=2", {"a": "1\\", "b": "2"}),
        ("# note\\\na=1", {"a": "1"}),
        ("a=1\\", {"a": "1"}),
        ("a=é", {"a": "é"}),
        ("\\", {}),
    ],
)
def test_they_are_read_as_java_reads_them(text: str, expected: dict[str, str]) -> None:
    assert parse_properties(text) == expected


@settings(max_examples=30)
@given(st.text(st.characters(codec="utf-8", exclude_categories=())))
def test_every_value_comes_back(value: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.properties")
        write_properties(path, {"key": value, "next": "1"})
        assert path.read_bytes().isascii()
        assert parse_properties(path.read_text()) == {"key": value, "next": "1"}
