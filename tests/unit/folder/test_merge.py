"""Merging the states of several runs, and reading one."""

from pathlib import Path

import pytest

from catdog.results import ModelId
from catdog_serving.errors import NotReadyError, RefusedError, UsageError
from catdog_serving.folder.merge import merge_states, read_state
from catdog_serving.folder.run_state import RunState
from tests.support.albums import rows_of
from tests.support.run_states import ended, held, listing
from tests.support.state_rows import failure, image
from tests.support.stub_backend import MODEL

OTHER = ModelId("net", "ids", "int8")


def test_of_two_rows_of_one_file_a_prediction_wins(tmp_path: Path) -> None:
    states = [
        ended(tmp_path / f"{number}.catdog", *rows)
        for number, rows in enumerate(
            ([failure("a.jpg"), image("b.jpg")], [image("a.jpg"), image("b.jpg", "dog")])
        )
    ]
    report = merge_states(tmp_path / "all.jsonl", states)
    rows = rows_of(tmp_path / "all.jsonl")
    assert [(row["path"], row["label"]) for row in rows] == [("a.jpg", "cat"), ("b.jpg", "cat")]
    assert (report.rows, report.failed, report.repeated) == (2, 0, 2)


def test_merged_is_what_its_suffix_says_and_a_state_can_be_gone_on_with(tmp_path: Path) -> None:
    states = [ended(tmp_path / f"{name}.catdog", image(name), failure(f"{name}x")) for name in "ba"]
    before = listing(tmp_path)
    for suffix in (".jsonl", ".csv", ".parquet", ".catdog"):
        report = merge_states(tmp_path / f"all{suffix}", states)
        assert (report.rows, report.failed, report.repeated) == (4, 2, 0)
    assert [row["path"] for row in rows_of(tmp_path / "all.jsonl")] == ["a", "ax", "b", "bx"]
    assert (tmp_path / "all.csv").read_bytes().count(b"\n") == 5
    assert (tmp_path / "all.parquet").read_bytes()[:4] == b"PAR1"
    assert [row.path.name for row in held(tmp_path / "all.catdog")] == ["a", "ax", "b", "bx"]
    assert before.items() <= listing(tmp_path).items()
    with pytest.raises(UsageError, match=r"should end with \.jsonl"):
        merge_states(tmp_path / "all.json", states)


def test_merging_refuses_what_is_not_whole(tmp_path: Path) -> None:
    first, other = ended(tmp_path / "1.catdog"), ended(tmp_path / "2.catdog", model=OTHER)
    output = tmp_path / "all.jsonl"
    with pytest.raises(RefusedError, match="of two models are not merged"):
        merge_states(output, [first, other])
    with pytest.raises(NotReadyError, match="there is no run state"):
        merge_states(output, [first, tmp_path / "3.catdog"])
    with RunState.open(tmp_path / "4.catdog", MODEL) as state:
        with pytest.raises(RefusedError, match="did not end: go on with it by --resume"):
            merge_states(output, [first, tmp_path / "4.catdog"])
        state.put(image("a.jpg"))
    with pytest.raises(RefusedError, match="did not end: go on with it by --resume"):
        merge_states(output, [tmp_path / "4.catdog"])
    assert not output.exists()


@pytest.mark.parametrize("kind", ["itself", "symbolic link", "hard link"])
def test_merge_does_not_write_what_it_reads(kind: str, tmp_path: Path) -> None:
    state, output = ended(tmp_path / "1.catdog"), tmp_path / "out.catdog"
    if kind == "itself":
        output = state
    elif kind == "symbolic link":
        output.symlink_to(state)
    else:
        output.hardlink_to(state)
    before = listing(tmp_path)
    with pytest.raises(UsageError, match="exists"):
        merge_states(output, [state])
    assert listing(tmp_path) == before


def test_reading_a_state_leaves_it_as_it_is(tmp_path: Path) -> None:
    path = ended(tmp_path / "out.csv.catdog", image("a.jpg"))
    before = listing(path.parent)
    with read_state(path) as (model, rows):
        assert (model, list(rows)) == (MODEL, [image("a.jpg")])
        assert listing(path.parent) == before
