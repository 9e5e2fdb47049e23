"""An album of 22 files, and the output of its runs."""

from pathlib import Path

import pytest

from tests.support.stub_backend import touch


@pytest.fixture
def album(tmp_path: Path) -> Path:
    touch(tmp_path / "album", *(f"{number:02}.jpg" for number in range(20)), "bad.jpg", "cat.jpg")
    return tmp_path / "album"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"
