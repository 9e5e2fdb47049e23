"""catdog bench with real servers, as short as it goes: efficientnet_lite0."""

import json
from pathlib import Path

import pytest
from PIL import Image

from catdog_serving.bench import bench, bench_files
from catdog_serving.bench.bench import Plan
from catdog_serving.bench.bench_files import BenchFiles, Subject, sample_crops, save_state
from tests.support.command_line import catdog_here
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
    archive: Path, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = Subject("efficientnet_lite0", None, ROOT / "config" / "model-config.yaml")
    files = BenchFiles({"fp32": archive}, tmp_path / "state.pth")
    save_state(subject, files.state)
    monkeypatch.setattr(bench_files, "Subject", lambda *_: subject)
    monkeypatch.setattr(bench_files, "bench_files", lambda *_: files)
    monkeypatch.setattr(bench, "QUICK", SHORT)
    images = tmp_path / "own"
    images.mkdir()
    for number, image in enumerate(sample_crops()[:20]):
        (images / f"{number}.jpg").write_bytes(image)

    output = tmp_path / "bench.json"
    options = ("--config", make_config(None).path, "--pictures", images, "--output", output)
    result = catdog_here("bench", "--quick", *options)
    assert result.returncode == 0, result.stderr
    *printed, line = result.stdout.splitlines()
    assert line == output.read_text().rstrip("\n")
    assert any(shown.lstrip().startswith("served_fp32_c16 ") for shown in printed)
    assert any(shown.startswith("inprocess_fp32_b8_over_reference  ") for shown in printed)
    with Image.open(tmp_path / "bench.png") as chart:
        assert chart.format == "PNG"

    report = json.loads(line)
    assert (report["images_from"], report["settings"]["images"]) == ("own", 20)
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
