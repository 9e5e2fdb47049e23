"""Every speed figure of docs/performance.md is one of the committed run."""

import json

import pytest

from catdog_serving.errors import UsageError
from catdog_serving.measure.bench_document import BEGIN, END, replace_section
from tests.conftest import ROOT

DOCUMENT = ROOT / "docs" / "performance.md"
REPORT = ROOT / "docs" / "performance" / "bench.json"


def test_the_speed_section_is_the_committed_runs() -> None:
    document = DOCUMENT.read_text()
    report = json.loads(REPORT.read_text())
    assert document == replace_section(document, report), "run: make bench-document"
    for ratio in (
        "inprocess_fp32_b8_over_reference",
        "inprocess_int8_b8_over_reference",
        "served_fp32_c16_over_inprocess",
        "served_int8_c16_over_inprocess",
        "served_int8_c16_over_reference",
    ):
        assert f"| `{ratio}` | {report['ratios'][ratio]:g} |" in document


def test_the_chart_lies_beside_the_figures() -> None:
    assert (ROOT / "docs" / "performance" / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert "](performance/bench.png)" in DOCUMENT.read_text()


def test_an_old_section_goes_and_the_rest_of_the_document_stays() -> None:
    report = json.loads(REPORT.read_text())
    document = f"# Title\n\n{BEGIN}\nold\n{END}\n\nThe rest.\n"
    changed = replace_section(document, report)
    assert changed.startswith(f"# Title\n\n{BEGIN}\n\n- Run on ")
    assert changed.endswith(f"{END}\n\nThe rest.\n")
    assert "old" not in changed.split()
    with pytest.raises(UsageError, match="has no lines"):
        replace_section("# Title\n", report)
