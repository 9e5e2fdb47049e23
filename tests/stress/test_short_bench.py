"""catdog bench with real servers, as short as it goes: efficientnet_lite0."""

import json
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from catdog_serving.bench.bench import Bench, Plan
from catdog_serving.bench.bench_files import BenchFiles, Subject, sample_crops, save_state
from catdog_serving.bench.bench_report import (
    summary_lines,
    table,
    to_dict,
    to_json_line,
    write_chart,
)
from tests.support.configs import MakeConfig
from tests.support.paths import ROOT

SHORT = Plan(
    rounds=2,
    seconds=0.1,
    batches=(1, 8),
    concurrencies=(1, 16),
    loads_percent=(50, 80),
    open_seconds=1.0,
    folder_images=3,
    folder_rounds=1,
    start_rounds=1,
)


def test_a_short_bench_has_every_figure_and_ratio(
    archive: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    subject = Subject("efficientnet_lite0", None, ROOT / "config" / "model-config.yaml")
    files = BenchFiles({"fp32": archive}, tmp_path / "state.pth")
    save_state(subject, files.state)

    images = sample_crops()[:20]
    result = Bench(make_config(None), subject, files, images, SHORT).run()
    report = json.loads(to_json_line(to_dict(result)))

    assert report["answered_503"] == report["not_200"] == 0
    assert report["multiply_adds"] == pytest.approx(0.385e9, rel=0.05)
    for precision in files.archives:
        for name in ("b1", "b8"):
            assert len(report["figures"][f"inprocess_{precision}_{name}"]["p50_ms"]["values"]) == 2
        for ratio in (
            f"inprocess_{precision}_b8_over_reference",
            f"served_{precision}_c16_over_inprocess",
            f"served_{precision}_c16_over_reference",
            f"folder_local_{precision}_over_reference",
            f"inprocess_{precision}_b8_over_matmul_peak",
            f"open_{precision}_80_p99_over_full_batch",
        ):
            low, high = report["spreads"][ratio]
            assert 0 < low <= report["ratios"][ratio] <= high
        assert report["ratios"][f"inprocess_{precision}_b8_over_matmul_peak"] < 1
        assert f"served_{precision}_c1_p50_over_inprocess" in report["overheads_ms"]
        opened = report["figures"][f"open_{precision}_80"]
        capacity = report["figures"][f"served_{precision}_c16"]["images_per_s"]["median"]
        assert opened["offered_images_per_s"]["median"] == pytest.approx(0.8 * capacity, rel=0.01)
        start = report["figures"][f"start_{precision}"]
        assert 0 < start["ready_s"]["median"] < 180
        assert start["worker_gb_when_ready"]["median"] > 0.1
        assert start["worker_gb_when_ready"]["low"] <= start["worker_gb_after_work"]["high"] * 1.2
        # The worker holds torch and the network, and Java neither: they are not mixed up.
        assert 0.05 < start["java_gb_after_work"]["median"] < start["worker_gb_after_work"]["low"]
    assert report["machine"]["cores"] >= 1
    assert {"catdog", "python", "torch", "onnxruntime", "torchserve"} <= set(report["versions"])

    write_chart(report, tmp_path / "bench.png")
    with Image.open(tmp_path / "bench.png") as chart:
        assert chart.format == "PNG"
    console = Console(width=200)
    with console.capture() as shown:
        console.print(table(report))
    assert "served_fp32_c16" in shown.get()
    assert any("over_reference" in line for line in summary_lines(report))
