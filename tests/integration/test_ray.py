"""`catdog classify --backend ray`: on a cluster, and on a Ray of its own."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from catdog_serving.folder.local_backend import LocalBackend
from catdog_serving.folder.merge import read_state
from catdog_serving.folder.state_file import state_of
from tests.support.albums import Row, assert_same_rows, classified, rows_of, said_of, small_album
from tests.support.ray_clusters import classify, ended, ray_cluster

COPIES = 40


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_album(tmp_path_factory.mktemp("ray") / "album", COPIES)


@pytest.fixture(scope="module")
def expected(album: Path, archive: Path) -> list[Row]:
    """The rows of --backend local."""
    with LocalBackend(archive) as local:
        rows = classified(album, local)
    assert sum("error" in row for row in rows) == 5
    return rows


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    with ray_cluster() as environment:
        yield environment


def test_a_cluster_and_a_machine_alone_share_the_work(
    album: Path,
    archive: Path,
    expected: list[Row],
    cluster: dict[str, str],
    tmp_path: Path,
) -> None:
    options = ("--archive", archive, "--keep-state")
    here, there, merged = (tmp_path / f"{name}.jsonl" for name in ("here", "there", "merged"))
    folder = album.parent  # paths are as they were given, and actors work elsewhere
    alone = classify(
        album.name, *options, "--backend", "local", "--shard", "1/2", "--output", here, cwd=folder
    )
    assert ended(alone) == (1, "", said_of(here, rows_of(here)))
    on_ray = classify(
        *(album.name, *options, "--backend", "ray", "--address", "auto"),
        *("--shard", "0/2", "--output", there),
        env=cluster,
        cwd=folder,
    )
    # The image errors' exit code, and no word of Ray's.
    assert ended(on_ray) == (1, "", said_of(there, rows_of(there)))
    merge = [sys.executable, "-m", "catdog_serving", "merge", merged]
    merge += [state_of(here), state_of(there)]
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
        *("--archive", archive, "--output", output, "--keep-state"),
        env=cluster,
    )
    code, shown, errors = ended(process)
    table = pq.read_table(output).to_pylist()
    with read_state(state_of(output)) as (_, results):
        kept = [row.to_dict() for row in results]
    assert (code, shown, errors) == (1, "", said_of(output, kept))
    assert [row["sha256"] for row in table] == [row["sha256"] for row in kept]
    assert all(row["path"].startswith(f"file://{album}/") for row in table)
    local = [
        row | {"path": row["path"].removeprefix("file://"), "size": row["size"] or 0}  # the pipe's
        for row in kept
    ]
    assert_same_rows(local, expected)
