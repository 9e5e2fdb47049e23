"""Every speed figure of README, performance.md and capacity plan is the committed run's."""

import json
from pathlib import Path

import pytest

from catdog_serving.bench.bench_document import markers, replace_parts
from catdog_serving.errors import UsageError
from tests.support.paths import ROOT

DOCUMENT = ROOT / "docs" / "performance.md"
README = ROOT / "README.md"
OPERATIONS = ROOT / "docs" / "operations.md"
REPORT = json.loads((ROOT / "docs" / "performance" / "bench.json").read_text())


@pytest.mark.parametrize(
    ("path", "part"),
    [(DOCUMENT, "figures"), (README, "summary"), (OPERATIONS, "capacity")],
    ids=lambda value: str(value)[-14:],
)
def test_the_figures_are_the_committed_runs(path: Path, part: str) -> None:
    document = path.read_text()
    assert all(marker in document for marker in markers(part))
    assert document == replace_parts(document, REPORT), "run: make bench-document"


@pytest.mark.parametrize(
    "ratio",
    [
        "inprocess_fp32_b8_over_reference",
        "inprocess_int8_b8_over_reference",
        "served_fp32_c16_over_inprocess",
        "served_int8_c16_over_inprocess",
        "served_int8_c16_over_reference",
        "folder_local_int8_over_reference",
        "open_int8_80_p99_over_full_batch",
    ],
)
def test_every_promised_ratio_is_shown(ratio: str) -> None:
    assert f"| `{ratio}` | {REPORT['ratios'][ratio]:g} |" in DOCUMENT.read_text()


def test_the_chart_lies_beside_the_figures() -> None:
    assert (ROOT / "docs" / "performance" / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert "](performance/bench.png)" in DOCUMENT.read_text()


def test_an_old_part_goes_and_the_rest_of_the_document_stays() -> None:
    begin, end = markers("figures")
    changed = replace_parts(f"# Title\n\n{begin}\nold\n{end}\n\nThe rest.\n", REPORT)
    assert changed.startswith(f"# Title\n\n{begin}\n\n- Run on ")
    assert changed.endswith(f"{end}\n\nThe rest.\n")
    assert "old" not in changed.split()
    with pytest.raises(UsageError, match="has no lines"):
        replace_parts("# Title\n", REPORT)
