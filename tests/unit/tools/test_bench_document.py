"""Speed figures in documents are a run's: of one whose figures are known, and of the committed."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from catdog_serving.errors import UsageError
from tests.support.paths import ROOT
from tools.bench_document import capacity, figures, markers, replace_parts, summary

DOCUMENT = ROOT / "docs" / "performance.md"
COMMITTED = json.loads((ROOT / "docs" / "performance" / "bench.json").read_text())


def figure(median: float) -> dict[str, Any]:
    return {"median": median, "low": median - 1, "high": median + 1, "values": [median]}


@pytest.fixture
def report() -> dict[str, Any]:
    """The committed run with one precision alone, and with few benchmarks."""
    rate = {"reference": 4.0, "inprocess_int8_b8": 13.0, "served_int8_c16": 12.0}
    ratios = {"inprocess_int8_b8_over_reference": 3.25, "served_int8_c16_over_reference": 3.0}
    machine = {"cpu": "a CPU", "cores": 2}
    return COMMITTED | {
        "machine": COMMITTED["machine"] | machine,
        "settings": COMMITTED["settings"] | {"precisions": ["int8"]},
        "figures": {
            **{name: {"images_per_s": figure(value)} for name, value in rate.items()},
            "open_int8_80": {"images_per_s": figure(9.6), "p99_ms": figure(500)},
            # The order of a start's quantities in the JSON must not matter.
            "start_int8": {
                "java_gb_after_work": figure(0.25),
                "worker_gb_after_work": figure(2.0),
                "worker_gb_when_ready": figure(1.5),
                "ready_s": figure(7),
            },
        },
        "ratios": ratios,
        "overheads_ms": {},
        "spreads": {name: [1, 9] for name in ratios},
        "not_200": 7,
    }


def test_the_summary_compares_rates_with_the_loop(report: dict[str, Any]) -> None:
    assert summary(report).splitlines()[2:] == [
        "| the script's loop | 4 | 1 |",
        "| int8, in batches of 8 in process | 13 | 3.25 |",
        "| int8, served, 16 requests at a time | 12 | 3 |",
    ]


def test_capacity_is_planned_at_80_percent_with_the_most_memory_that_was_seen(
    report: dict[str, Any],
) -> None:
    # Workers reached 3 GB and Java 1.25; a takeover has two workers.
    assert capacity(report).splitlines()[2:] == ["| int8 | 12 | 9.6 | 500 | 4.2 | 7.2 |"]


def test_figures_ratios_and_starts_have_their_ends(report: dict[str, Any]) -> None:
    lines = figures(report).splitlines()
    assert "| `open_int8_80` | 9.6 (8.6 to 10.6) |  | 500 (499 to 501) |" in lines
    assert "| `inprocess_int8_b8_over_reference` | 3.25 | 1 | 9 |" in lines
    assert "| answers that were not 200 | 7 | | |" in lines
    heading, _, row = lines[-3:]
    assert heading.startswith("| start of a server | READY after s | worker's RSS then, GB |")
    assert row == (
        "| `start_int8` | 7 (6 to 8) | 1.5 (0.5 to 2.5) | 2 (1 to 3) | 0.25 (-0.75 to 1.25) |"
    )


def test_a_quick_run_has_no_capacity_to_plan_with(report: dict[str, Any]) -> None:
    del report["figures"]["start_int8"]
    assert "start of a server" not in figures(report)
    with pytest.raises(UsageError, match="the run was a quick one"):
        capacity(report)


def test_an_old_part_goes_and_the_rest_of_the_document_stays() -> None:
    begin, end = markers("figures")
    changed = replace_parts(f"# Title\n\n{begin}\nold\n{end}\n\nThe rest.\n", COMMITTED)
    assert changed.startswith(f"# Title\n\n{begin}\n\n- Run on ")
    assert changed.endswith(f"{end}\n\nThe rest.\n")
    assert "old" not in changed.split()
    with pytest.raises(UsageError, match="has no lines"):
        replace_parts("# Title\n", COMMITTED)


# ---- the committed run ----


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("docs/performance.md", "figures"),
        ("README.md", "summary"),
        ("docs/scale-and-deploy.md", "capacity"),
    ],
)
def test_the_figures_are_the_committed_runs(path: str, part: str) -> None:
    document = (ROOT / path).read_text()
    assert all(marker in document for marker in markers(part))
    assert document == replace_parts(document, COMMITTED), "run: make bench-document"


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
    assert f"| `{ratio}` | {COMMITTED['ratios'][ratio]:g} |" in DOCUMENT.read_text()


def test_the_chart_lies_beside_the_figures() -> None:
    assert (ROOT / "docs" / "performance" / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert "](performance/bench.png)" in DOCUMENT.read_text()


def test_a_wheel_holds_no_tools() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    packed = build["targets"]["wheel"]["only-include"]
    assert {Path(path).parts[0] for path in packed} == {"config", "handler", "scripts"}
