"""--backend ray at full size: 1,000 files with 30 bad ones, against --backend local."""

import json
import os
import random
import signal
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from catdog_serving.folder.local_backend import LocalBackend
from tests.support.albums import Row, assert_same_rows, classified, rows_of, said_of
from tests.support.paths import ROOT
from tests.support.processes import wait_until
from tests.support.ray_clusters import actors_of, classify, end_tree, ended
from tests.support.run_states import rows_done

FILES, BAD = 1000, 30
KILLS = 3
ROUNDS = 5
WARM = 128  # files before the measured ones: loading, and the first block of each actor

# One run of a backend in a process of its own; its rate, its seconds, and those of the CPUs,
# which other work on the machine does not change.
PROGRAM = """
import json, sys, time
from pathlib import Path
import psutil
begun = time.perf_counter()
from catdog_serving.cli.backends import open_backend
from catdog_serving.find_images import find_sources
from catdog_serving.folder.process_folder import process_sources
name, actors, archive, folder, warm = sys.argv[1:]
times = []
with open_backend(name, None, Path(archive), None, int(actors) or None) as backend:
    sources = find_sources([Path(folder)])
    process_sources(sources, backend, lambda row: times.append(time.perf_counter()))
    me = psutil.Process()
    cpu_s = sum(sum(each.cpu_times()[:4]) for each in [me, *me.children(recursive=True)])
seconds = time.perf_counter() - begun
warm = int(warm)
rate = (len(times) - warm) / (times[-1] - times[warm - 1])
print(json.dumps({"files": len(times), "seconds": seconds, "cpu_s": cpu_s, "rate": rate}))
"""

# An image that takes its reader along, as a broken decoder would.
POISON = """
import json, os, sys
from pathlib import Path
from catdog_serving.find_images import find_sources
from catdog_serving.folder.process_folder import process_sources
from catdog_serving.on_ray import actor
from catdog_serving.on_ray.ray_backend import RayBackend

class Deadly(actor.FolderActor):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        safely = self._backend.classify_files
        def classify_files(files):
            if any(file.name == "poison.jpg" for file in files):
                os._exit(1)
            return safely(files)
        self._backend.classify_files = classify_files

actor.FolderActor = Deadly
rows = []
with RayBackend(Path(sys.argv[1]), None, None) as backend:
    sources = find_sources([Path(sys.argv[2])])
    process_sources(sources, backend, lambda row: rows.append(row.to_dict()))
print(json.dumps(rows))
"""


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory, photos: list[Path]) -> Path:
    root = tmp_path_factory.mktemp("thousand") / "album"
    for copy in range(10):
        folder = root / f"copy{copy}"
        folder.mkdir(parents=True)
        for photo in photos[:97]:
            (folder / photo.name).write_bytes(photo.read_bytes())
        (folder / "a broken.jpg").write_bytes(b"no image")
        if copy % 2:
            (folder / "empty.jpg").write_bytes(b"")
        else:
            (folder / "gone.jpg").symlink_to("nowhere")
        if copy == 5:
            with (folder / "huge.jpg").open("wb") as file:
                file.truncate(300 * 2**20)
        else:
            (folder / "cut.jpg").write_bytes(photos[copy].read_bytes()[:3000])
    return root


@pytest.fixture(scope="module")
def expected(album: Path, archive: Path) -> list[Row]:
    with LocalBackend(archive) as local:
        rows = classified(album, local)
    assert len(rows) == FILES
    assert sum("error" in row for row in rows) == BAD
    return rows


def run(program: str, *arguments: object) -> str:
    result = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return result.stdout


def options(archive: Path, output: Path) -> tuple[object, ...]:
    return ("--backend", "ray", "--archive", archive, "--keep-state", "--output", output)


def test_the_rows_are_those_of_the_local_backend(
    album: Path, archive: Path, expected: list[Row], tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    assert ended(classify(album, *options(archive, output))) == (1, "", said_of(output, expected))
    assert_same_rows(rows_of(output), expected)


def test_an_actor_that_is_killed_in_the_middle_costs_nothing(
    album: Path, archive: Path, expected: list[Row], tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    process = classify(album, *options(archive, output))
    wait_until(lambda: rows_done(output) > FILES // 3, "a third of the rows", timeout_s=180)
    actors_of(process)[0].kill()
    assert ended(process) == (1, "", said_of(output, expected))
    assert_same_rows(rows_of(output), expected)


def test_killed_in_the_middle_and_resumed_each_file_is_there_once(
    album: Path, archive: Path, expected: list[Row], tmp_path: Path
) -> None:
    output = tmp_path / "out.jsonl"
    environment = os.environ | {"TMPDIR": str(tmp_path)}  # a kill leaves Ray's folder
    chance = random.Random(11)
    for _ in range(KILLS):
        aim = rows_done(output) + chance.randint(50, 200)
        process = classify(album, *options(archive, output), "--resume", env=environment)
        wait_until(lambda aim=aim: rows_done(output) > aim, "more rows", timeout_s=180)  # type: ignore[misc]
        end_tree(process)
        assert process.returncode == -signal.SIGKILL  # it was at work
        process.communicate()
    done = rows_done(output)
    assert 150 < done < FILES
    assert ended(classify(album, *options(archive, output), "--resume")) == (
        1,
        "",
        said_of(output, expected),
    )
    assert_same_rows(rows_of(output), expected)


def test_an_image_that_kills_its_reader_is_a_row(
    archive: Path, photos: list[Path], tmp_path: Path
) -> None:
    for number, photo in enumerate(photos[:40]):
        name = "poison" if number == 20 else f"{number:02}"
        (tmp_path / f"{name}.jpg").write_bytes(photo.read_bytes())
    rows: list[Row] = json.loads(run(POISON, archive, tmp_path))
    assert len(rows) == 40
    (failed,) = [row for row in rows if "error" in row]
    assert failed["path"] == str(tmp_path / "poison.jpg")
    assert failed["error"] == {
        "type": "Unreadable",
        "message": "every process that had it died, 4 in all",
    }


def test_throughput_against_the_local_backend(album: Path, archive: Path) -> None:
    ways = {"local": ("local", 0), "ray, 1 actor": ("ray", 1), "ray, 2 actors": ("ray", 2)}
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, (backend, actors) in ways.items():
            one = json.loads(run(PROGRAM, backend, actors, archive, album, WARM))
            assert one["files"] == FILES
            measured[name].append(one)
    rates = {name: [one["rate"] for one in ones] for name, ones in measured.items()}
    for name, ones in measured.items():
        ratios = [ours / local for ours, local in zip(rates[name], rates["local"], strict=True)]
        print(
            f"\n{name}: {_spread(rates[name])} files/s once it runs, of local's "
            f"{_spread(ratios)}; {FILES} files in {_spread([one['seconds'] for one in ones])} s "
            f"and {_spread([one['cpu_s'] for one in ones])} s of CPU in all"
        )
    assert statistics.median(rates["ray, 2 actors"]) > 0.7 * statistics.median(rates["local"])


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"
