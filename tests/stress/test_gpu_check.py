"""`make gpu-check` from end to end, on the CPU with a few images: does the check itself run?"""

import json
import subprocess
from pathlib import Path

from tests.support.paths import ROOT


def test_the_check_writes_every_part(tmp_path: Path) -> None:
    command = ["make", "gpu-check", "DEVICE=cpu", "SMALL=1", f"OUTPUT={tmp_path}"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    report = json.loads((tmp_path / "gpu-check.json").read_text())
    assert set(report["ended"].values()) == {"done"}, result.stderr[-3000:]
    assert result.returncode == 0
    figures = {
        part: {one["name"]: one for one in report[part]} for part in ("right", "bench", "served")
    }
    assert figures["right"]["mixed requests"]["wrong"] == 0
    assert figures["right"]["mixed requests"]["worst_mass_difference"] <= 1e-4
    assert figures["right"]["resnet152 fp32"]["worst"] <= 4 * max(
        figures["right"]["reference float32 on the CPU"]["worst"], 1e-5
    )
    assert figures["bench"]["prepared fp32 b2"]["images_per_s"] > 0
    under_load = figures["served"]["1 workers a GPU, 4 clients"]
    assert under_load["not_200"] == 0
    assert under_load["worker_cpu_ms_per_image"] > under_load["java_cpu_ms_per_image"]
