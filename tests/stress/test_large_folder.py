"""A hundred thousand files: memory that does not grow, and next to no time of our own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

FILES = 100_000
RSS_GROWTH_MB = 30
OVERHEAD_MS = 1.0

# Runs `catdog classify` itself, but for the backend, which reads each file and answers at once.
PROGRAM = """
import json, sys, time
from pathlib import Path
import psutil
from catdog_serving.folder.image_result import ImageResult
from catdog_serving.folder.read_image import read_file
from catdog_serving.cli.classify import run_classify
from catdog_serving.folder.run_options import RunOptions
from tests.support.stub_backend import NameBackend, prediction

folder, output, how = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
answer = prediction("cat", 0.8, 0.1)
rss_mb, count = {}, 0

class Instant(NameBackend):
    def classify_files(self, paths):
        for path in paths:
            file, _ = read_file(path)
            yield ImageResult(file, answer)

def count_one(progress, failed):
    global count
    count += 1
    if count in (10_000, 100_000):
        rss_mb[count] = psutil.Process().memory_info().rss / 1e6

from catdog_serving.cli.progress import FolderProgress
FolderProgress.add = count_one
options = RunOptions((folder,), output=output, **{how: True})
start = time.perf_counter()
run_classify(options, Instant())
seconds = time.perf_counter() - start
rss_mb["end"] = psutil.Process().memory_info().rss / 1e6
print(json.dumps({"seconds": seconds, "rss_mb": rss_mb}))
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, photos: list[Path]) -> Path:
    """100,000 hard links of 100 photos, 10,000 in each of ten folders."""
    root = tmp_path_factory.mktemp("many")
    originals = [root / f"original-{number}" for number in range(len(photos))]
    for photo, original in zip(photos, originals, strict=True):
        original.write_bytes(photo.read_bytes())
    for number in range(FILES):
        folder = root / "files" / f"{number // 10_000}"
        folder.mkdir(parents=True, exist_ok=True)
        os.link(originals[number % len(originals)], folder / f"{number:06}.jpg")
    return root / "files"


def test_memory_and_time_do_not_grow_with_the_number_of_files(many: Path, tmp_path: Path) -> None:
    """Of a run from nothing, and of one that finds everything done."""
    output = tmp_path / "out.jsonl"
    for how in ("keep_state", "resume"):
        result = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(many), str(output), how],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        )
        measured = json.loads(result.stdout)
        rss_mb = measured["rss_mb"]
        growth_mb = max(rss_mb["100000"], rss_mb["end"]) - rss_mb["10000"]
        overhead_ms = measured["seconds"] / FILES * 1000
        print(
            f"\n{how}: RSS {rss_mb['10000']:.1f} MB at 10,000 files, {growth_mb:+.1f} MB "
            f"at 100,000 and the end; {overhead_ms:.3f} ms per file on top of the backend"
        )
        with output.open() as file:
            assert sum(1 for _ in file) == 1 + FILES
        assert growth_mb < RSS_GROWTH_MB
        assert overhead_ms < OVERHEAD_MS
