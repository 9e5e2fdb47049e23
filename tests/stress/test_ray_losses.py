"""What --backend ray survives: actors, counters and drivers that are lost."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from catdog_serving.folder.local_backend import LocalBackend
from tests.support.albums import Row, assert_same_rows, classified, rows_of, said_of, small_album
from tests.support.paths import ROOT
from tests.support.processes import wait_until
from tests.support.ray_clusters import actors_of, classify, ended, ray_cluster
from tests.support.run_states import rows_done
from tests.support.stub_backend import touch

COPIES = 90

# What an actor asks of the counter, which is then lost, as with its node.
ATTEMPTS = """
import json, sys
from pathlib import Path
from catdog_serving.on_ray.poison_files import AttemptCounter, classify_block
from catdog_serving.on_ray.session import running_ray
from tests.support.stub_backend import NameBackend
files = [Path(name) for name in sys.argv[1:]]
with running_ray(None, 0):
    import ray
    attempts = ray.remote(num_cpus=0)(AttemptCounter).remote()
    def rows():
        found = list(classify_block(NameBackend(), files, attempts))
        return [one.to_dict().get("error", {}).get("message") for one in found]
    print(json.dumps(rows()))
    for name in [f"block {files[0]}"] * 2 + [str(files[1])] * 2:
        ray.get(attempts.begin.remote(name))
    print(json.dumps(rows()))
    ray.kill(attempts)
    print(json.dumps(rows()))
"""


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_album(tmp_path_factory.mktemp("ray") / "album", COPIES)


@pytest.fixture(scope="module")
def expected(album: Path, archive: Path) -> list[Row]:
    """The rows of --backend local."""
    with LocalBackend(archive) as local:
        return classified(album, local)


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


def test_a_lost_actor_costs_nothing_and_ctrl_c_leaves_nothing(
    album: Path,
    archive: Path,
    expected: list[Row],
    cluster: dict[str, str],
    tmp_path: Path,
) -> None:
    output, scratch = tmp_path / "out.jsonl", tmp_path / "tmp"
    scratch.mkdir()
    options = (
        *(album, "--archive", archive, "--backend", "ray"),
        *("--output", output, "--resume", "--keep-state"),
    )

    def rows() -> int:
        return rows_done(output)

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
    code, shown, errors = ended(process)
    assert (code, shown) == (130, "")
    assert errors.startswith("interrupted; ")
    assert errors.count("\n") == 1
    assert psutil.wait_procs(below, timeout=30)[1] == []
    assert list(scratch.iterdir()) == []
    done = rows()
    assert 1 < done < len(expected)

    assert ended(classify(*options, "--address", "auto", env=cluster)) == (
        1,
        "",
        said_of(output, expected),
    )
    assert_same_rows(rows_of(output), expected)
