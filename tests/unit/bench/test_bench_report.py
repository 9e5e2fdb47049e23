"""What the bench's JSON says, from measurements whose ratios are known."""

import json
from dataclasses import replace
from pathlib import Path

from catdog_serving.bench.bench_report import (
    BenchResult,
    summary_lines,
    to_dict,
    to_json_line,
    write_chart,
)
from catdog_serving.bench.interleave import Measurement, RoundResults
from catdog_serving.bench.machine import machine, versions
from catdog_serving.folder.own_outputs import check_own


def of(**quantities: tuple[float, ...]) -> dict[str, Measurement]:
    return {name: Measurement(values) for name, values in quantities.items()}


def result() -> BenchResult:
    """int8 is three times the reference and served 0.9 of that; fp32 twice and all of it."""
    reference = (4.0, 2.0)  # the machine was half as fast in the second round
    measurements: RoundResults = {
        "matmul": of(gflop_per_s=(320, 160)),
        "reference": of(images_per_s=reference),
    }
    for precision, speed, served in (("fp32", 2, 1.0), ("int8", 3, 0.9)):
        a, b = (rate * speed for rate in reference)
        measurements |= {
            f"inprocess_{precision}_b1": of(images_per_s=(a, b), p50_ms=(90, 92)),
            f"inprocess_{precision}_b8": of(images_per_s=(a, b), p50_ms=(1000, 1000)),
            f"served_{precision}_c1": of(
                images_per_s=(a, b), p50_ms=(100, 98), answered_503=(0, 0), not_200=(0, 1)
            ),
            f"served_{precision}_c16": of(images_per_s=(a * served, b * served)),
            # One round only, as open loops have their own number.
            f"open_{precision}_80": of(
                p50_ms=(900,), p99_ms=(2500,), answered_503=(2,), not_200=(3,)
            ),
        }
    for name, rates in (("fp32_onnxruntime_b1", (10, 5)), ("fp32_openvino_b1", (8, 4))):
        measurements[f"engine_{name}"] = of(images_per_s=rates)
    for name, rates in (("int8_onnxruntime_b8", (18, 9)), ("int8_openvino_b8", (20, 10))):
        measurements[f"engine_{name}"] = of(images_per_s=rates)
    engines = {"fp32": "onnxruntime", "int8": "onnxruntime"}
    conditions = {"settings": {"precisions": ["fp32", "int8"], "engines": engines}}
    return BenchResult(conditions, measurements, multiply_adds=10_000_000_000)


def test_ratios_are_plain_numbers_taken_within_a_round() -> None:
    report = to_dict(result())
    assert report["ratios"] == {
        "inprocess_fp32_b8_over_reference": 2,
        "served_fp32_c16_over_inprocess": 1,
        "served_fp32_c16_over_reference": 2,
        "inprocess_fp32_b8_over_matmul_peak": 0.5,
        "open_fp32_80_p99_over_full_batch": 2.5,
        "inprocess_int8_b8_over_reference": 3,
        "served_int8_c16_over_inprocess": 0.9,
        "served_int8_c16_over_reference": 2.7,
        "inprocess_int8_b8_over_matmul_peak": 0.75,
        "open_int8_80_p99_over_full_batch": 2.5,
        "auto_over_best_engine": 0.9,  # int8's, as fp32's is the best one
    }
    no_bf16 = "no engine computes bf16 on this machine's processor"
    assert report["not_measured"] == {
        "inprocess_bf16_b8_over_reference": no_bf16,
        "served_bf16_c16_over_inprocess": no_bf16,
    }
    assert report["overheads_ms"]["served_fp32_c1_p50_over_inprocess"] == 8
    assert report["spreads"]["served_fp32_c1_p50_over_inprocess"] == [6, 10]
    # Refused requests are counted over all loops.
    assert (report["answered_503"], report["not_200"]) == (4, 8)


def test_every_figure_has_its_spread_and_its_rounds() -> None:
    assert to_dict(result())["figures"]["reference"]["images_per_s"] == {
        "median": 3,
        "low": 2,
        "high": 4,
        "values": [4, 2],
    }


def test_the_json_is_one_line() -> None:
    line = to_json_line(to_dict(result()))
    assert "\n" not in line
    assert json.loads(line) == to_dict(result())


def test_the_summary_names_each_ratio_with_its_ends() -> None:
    lines = summary_lines(to_dict(result()))
    assert "inprocess_int8_b8_over_reference  3  (3 to 3)" in lines
    assert "served_int8_c1_p50_over_inprocess  8 ms  (6 to 10)" in lines
    assert lines[-1] == "answers that were not 200: 8"


def test_what_a_bench_wrote_the_next_one_replaces(tmp_path: Path) -> None:
    conditions = {
        "date": "2026-11-27T10:00:00+00:00",
        "machine": machine(),
        "versions": versions(),
        "settings": result().conditions["settings"] | {"network": "resnet152"},
    }
    report = to_dict(replace(result(), conditions=conditions))
    (tmp_path / "bench.json").write_text(to_json_line(report) + "\n")
    for _ in range(2):
        write_chart(report, tmp_path / "bench.png")
    for path in tmp_path.iterdir():
        check_own(path)
