"""`catdog classify --backend ray`: on a cluster, and on a Ray of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from PIL import Image

from catdog_serving.folder.journal import read_journal
from catdog_serving.folder.local_backend import LocalBackend
from catdog_serving.folder.process import process_folder
from catdog_serving.folder.rows import Row
from tests.support.albums import assert_same_rows, rows_of
from tests.support.paths import ROOT, SAMPLES
from tests.support.pictures import encode
from tests.support.processes import wait_until
from tests.support.ray_clusters import actors_of, classify, ended, ray_cluster
from tests.support.stub_backend import touch

COPIES = 90


# What an actor asks of the counter, which is then lost, as with its node.
ATTEMPTS = """
import json, sys
from pathlib import Path
from catdog_serving.folder.rows import to_row
from catdog_serving.on_ray.attempts import Unfinished, classify_carefully
from catdog_serving.on_ray.session import running_ray
from tests.support.stub_backend import NameBackend
files = [Path(name) for name in sys.argv[1:]]
with running_ray(None, 0):
    import ray
    unfinished = ray.remote(num_cpus=0)(Unfinished).remote()
    def rows():
        found = list(classify_carefully(NameBackend(), files, unfinished))
        return [to_row(one).get("error", {}).get("message") for one in found]
    print(json.dumps(rows()))
    for name in [f"block {files[0]}"] * 2 + [str(files[1])] * 2:
        ray.get(unfinished.begin.remote(name))
    print(json.dumps(rows()))
    ray.kill(unfinished)
    print(json.dumps(rows()))
"""


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """360 small pictures, and files that fail in every way."""
    root = tmp_path_factory.mktemp("ray") / "album"
    small = {sample.stem: _small(sample) for sample in SAMPLES.iterdir()}
    for copy in range(COPIES):
        folder = root / f"copy{copy:02}"
        folder.mkdir(parents=True)
        for name, content in small.items():
            (folder / f"{name}.jpg").write_bytes(content)
    (root / "broken.jpg").write_bytes(b"no picture")
    (root / "copy07" / "empty.jpg").write_bytes(b"")
    (root / "copy08" / "cut.jpg").write_bytes(small["rocket"][:2000])
    os.mkfifo(root / "copy20" / "pipe.jpg")
    with (root / "huge.jpg").open("wb") as file:
        file.truncate(300 * 2**20)
    return root


def _small(sample: Path) -> bytes:
    with Image.open(sample) as image:
        image.thumbnail((300, 300))
        return encode(image.convert("RGB"), "JPEG")


@pytest.fixture(scope="module")
def expected(album: Path, archive: Path) -> list[Row]:
    """The rows of --backend local."""
    rows: list[Row] = []
    with LocalBackend(archive) as local:
        process_folder(album, local, rows.append)
    assert sum("error" in row for row in rows) == 5
    return rows


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    with ray_cluster() as environment:
        yield environment


def test_a_file_that_its_processes_died_on_is_given_up_and_the_counter_may_get_lost(
    tmp_path: Path,
) -> None:
    touch(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    names = [str(path) for path in sorted(tmp_path.iterdir())]
    found = subprocess.run(
        [sys.executable, "-c", ATTEMPTS, *names],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    usual, after_losses, without_counter = map(json.loads, found.stdout.splitlines())
    assert usual == without_counter == [None, None, None]
    assert after_losses == [None, "every process that had it died, 4 in all", None]


def test_a_cluster_and_a_machine_alone_share_the_work(
    album: Path,
    archive: Path,
    expected: list[Row],
    cluster: dict[str, str],
    tmp_path: Path,
) -> None:
    options = ("--archive", archive, "--format", "jsonl")
    here, there, merged = (tmp_path / f"{name}.jsonl" for name in ("here", "there", "merged"))
    folder = album.parent  # paths are as they were given, and actors work elsewhere
    alone = classify(
        album.name, *options, "--backend", "local", "--shard", "1/2", "--output", here, cwd=folder
    )
    assert ended(alone) == (1, "", "")
    on_ray = classify(
        *(album.name, *options, "--backend", "ray", "--address", "auto"),
        *("--shard", "0/2", "--output", there),
        env=cluster,
        cwd=folder,
    )
    assert ended(on_ray) == (1, "", "")  # the picture errors' exit code, and no word of Ray's
    merge = [sys.executable, "-m", "catdog_serving", "merge", merged, here, there]
    subprocess.run(merge, check=True, stdout=subprocess.DEVNULL)
    rows = rows_of(merged)
    assert [row["path"] for row in rows] == [
        str(Path(row["path"]).relative_to(folder)) for row in expected
    ]
    assert_same_rows([row | {"path": str(folder / row["path"])} for row in rows], expected)


def test_a_folder_with_a_uri_becomes_parquet(
    album: Path,
    archive: Path,
    expected: list[Row],
    cluster: dict[str, str],
    tmp_path: Path,
) -> None:
    output = tmp_path / "out.parquet"
    process = classify(
        *(f"file://{album}", "--backend", "ray", "--address", cluster["RAY_ADDRESS"]),
        *("--archive", archive, "--format", "parquet", "--output", output),
        env=cluster,
    )
    assert ended(process) == (1, "", "")
    table = pq.read_table(output).to_pylist()
    journal = list(read_journal(tmp_path / "out.parquet.journal.jsonl")[1])
    assert [row["sha256"] for row in table] == [row["sha256"] for row in journal]
    assert all(row["path"].startswith(f"file://{album}/") for row in table)
    local = [
        row | {"path": row["path"].removeprefix("file://"), "size": row["size"] or 0}  # the pipe's
        for row in journal
    ]
    assert_same_rows(local, expected)


def test_a_lost_actor_costs_nothing_and_ctrl_c_leaves_nothing(
    album: Path,
    archive: Path,
    expected: list[Row],
    cluster: dict[str, str],
    tmp_path: Path,
) -> None:
    journal, scratch = tmp_path / "out.jsonl", tmp_path / "tmp"
    scratch.mkdir()
    options = (
        *(album, "--archive", archive, "--backend", "ray"),
        *("--format", "jsonl", "--output", journal, "--resume"),
    )

    def rows() -> int:
        return journal.read_bytes().count(b"\n") if journal.exists() else 0

    process = classify(*options, "--jobs", 1, env=os.environ | {"TMPDIR": str(scratch)})
    wait_until(lambda: rows() > 1 or process.poll() is not None, "rows", timeout_s=90)
    (actor,) = actors_of(process)
    actor.kill()
    actor.wait(timeout=10)
    # More than a block that was on its way: the one actor came back.
    enough = rows() + 70
    wait_until(lambda: rows() > enough or process.poll() is not None, "more rows", timeout_s=90)
    below = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    code, output, errors = ended(process)
    assert (code, output) == (130, "")
    assert errors.startswith("interrupted; ")
    assert errors.count("\n") == 1
    assert psutil.wait_procs(below, timeout=30)[1] == []
    assert list(scratch.iterdir()) == []
    done = rows()
    assert 1 < done < len(expected)

    assert ended(classify(*options, "--address", "auto", env=cluster)) == (1, "", "")
    assert_same_rows(rows_of(journal), expected)
