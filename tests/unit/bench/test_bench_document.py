"""What the documents show of a run whose figures are known."""

from typing import Any

import pytest

from catdog_serving.bench.bench_document import capacity, figures, summary
from catdog_serving.errors import UsageError

RATIOS = {"inprocess_int8_b8_over_reference": 3.25, "served_int8_c16_over_reference": 3.0}


def figure(median: float) -> dict[str, Any]:
    return {"median": median, "low": median - 1, "high": median + 1, "values": [median]}


def report(**more: Any) -> dict[str, Any]:
    rate = {"reference": 4.0, "inprocess_int8_b8": 13.0, "served_int8_c16": 12.0}
    return {
        "date": "2026-01-02T03:04:05+00:00",
        "machine": {
            "cpu": "a CPU",
            "cores": 2,
            "instructions": ["avx2"],
            "memory_gb": 16,
            "system": "Linux",
            "load_before": 0.1,
        },
        "versions": {"catdog": "0.1.0"},
        "settings": {
            "network": "resnet152",
            "weights": "seeded",
            "precisions": ["int8"],
            "images": 48,
            "image_bytes": 42_000,
            "batching": {"maxWorkers": 1, "batchSize": 8, "maxBatchDelay": 1},
            "plan": {"seconds": 3, "open_rounds": 3, "open_seconds": 40},
        },
        "images_from": "samples",
        "multiply_adds": 11_510_000_000,
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
        "ratios": RATIOS,
        "overheads_ms": {},
        "spreads": {name: [1, 9] for name in RATIOS},
        "not_200": 7,
        **more,
    }


def test_the_summary_compares_rates_with_the_loop() -> None:
    assert summary(report()).splitlines()[2:] == [
        "| the script's loop | 4 | 1 |",
        "| int8, in batches of 8 in process | 13 | 3.25 |",
        "| int8, served, 16 requests at a time | 12 | 3 |",
    ]


def test_capacity_is_planned_at_80_percent_with_the_most_memory_that_was_seen() -> None:
    # Workers reached 3 GB and Java 1.25; a takeover has two workers.
    assert capacity(report()).splitlines()[2:] == ["| int8 | 12 | 9.6 | 500 | 4.2 | 7.2 |"]


def test_each_figure_of_a_start_stands_under_its_heading() -> None:
    heading, _, row = figures(report()).splitlines()[-3:]
    assert heading.startswith("| start of a server | READY after s | worker's RSS then, GB |")
    assert row == (
        "| `start_int8` | 7 (6 to 8) | 1.5 (0.5 to 2.5) | 2 (1 to 3) | 0.25 (-0.75 to 1.25) |"
    )


def test_figures_and_ratios_have_their_ends() -> None:
    lines = figures(report()).splitlines()
    assert "| `open_int8_80` | 9.6 (8.6 to 10.6) |  | 500 (499 to 501) |" in lines
    assert "| `inprocess_int8_b8_over_reference` | 3.25 | 1 | 9 |" in lines
    assert "| answers that were not 200 | 7 | | |" in lines


def test_a_quick_run_has_no_capacity_to_plan_with() -> None:
    quick = report()
    del quick["figures"]["start_int8"]
    assert "start of a server" not in figures(quick)
    with pytest.raises(UsageError, match="the run was a quick one"):
        capacity(quick)
