"""SIGKILL at random moments of the commands that work on files: nothing is lost or half done.

`make soak KILLS=60` does it 60 times for each command.
"""

import csv
import json
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from catdog_serving.build.verify import verify_archive
from catdog_serving.folder.image_result import ImageResult
from catdog_serving.folder.merge import make_state, read_state
from catdog_serving.folder.state_file import state_of
from catdog_serving.model_archive import archive_version, file_sha256
from catdog_serving.torchserve.server import TorchServe
from tests.support.albums import Row, assert_same_rows, rows_of
from tests.support.configs import MakeConfig
from tests.support.images import encode
from tests.support.leftovers import make_old, names
from tests.support.paths import SAMPLES
from tests.support.random_kills import KILLS, Killer, traces
from tests.support.run_states import left_beside
from tests.support.state_rows import failure, image
from tests.support.stub_backend import MODEL

FILES = 60
MERGED_ROWS = 2_000  # of each of three states
OUTPUTS = ("out.csv", "out.jsonl", "out.parquet", "out.json")
SCRATCH = ".catdog-tmp-*"


@pytest.fixture(scope="module")
def photos_of_all_kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 files of contents of their own in three folders, with the same names in each; 6 fail."""
    folder = tmp_path_factory.mktemp("kinds")
    samples = [Image.open(path).convert("RGB") for path in sorted(SAMPLES.iterdir())]
    for number in range(FILES):
        place = folder / f"folder{number % 3}" / f"{number // 3:02}.jpg"
        place.parent.mkdir(exist_ok=True)
        pixels = samples[number % len(samples)].resize((200 + number, 150))
        place.write_bytes(b"no %d" % number if number % 10 == 7 else encode(pixels, "JPEG"))
    return folder


def contents(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file below a folder that has its final name."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): file_sha256(path)
        for path in files
        if not any(part.startswith(SCRATCH[:-1]) for part in path.parts)
    }


def rows_in(output: Path) -> list[Row]:
    """The rows of an output of any format, as JSON has them."""
    match output.suffix:
        case ".jsonl":
            return rows_of(output)
        case ".json":
            found: list[Row] = json.loads(output.read_text())["images"]
            return found
        case ".parquet":
            return [{k: v for k, v in row.items() if v is not None} for row in _parquet(output)]
        case _:
            lines = output.read_text().splitlines()
            return [_from_csv(row) for row in csv.DictReader(lines)]


def _parquet(output: Path) -> list[Row]:
    rows: list[Row] = pq.read_table(output).to_pylist()
    return rows


def _from_csv(cells: dict[str, Any]) -> Row:
    row: Row = {key: cells[key] for key in ("path", "sha256", "label") if cells[key]}
    row |= {key: int(cells[key]) for key in ("size", "mtime_ns")}
    row |= {key: float(cells[key]) for key in ("cat", "dog") if cells[key]}
    if cells["error_type"]:
        row["error"] = {"type": cells["error_type"], "message": cells["error_message"]}
    return row


def scratch_in(*folders: Path) -> list[Path]:
    """What killed commands have left; made old, as if the next command came a minute later."""
    found = [path for folder in folders for path in folder.rglob(SCRATCH)]
    for path in found:
        make_old(path)
    return found


def assert_whole_page(page: Path, expected: list[Row]) -> None:
    """It has each image with its label, and shows all that could be read."""
    text = page.read_text()
    assert text.rstrip().endswith("</html>")
    items = json.loads(text.partition('id="data-items">')[2].partition("</script>")[0])
    assert {(i["path"], i.get("label")) for i in items} == {
        (row["path"], row.get("label")) for row in expected
    }
    assert sum(item["thumbnail"] is not None for item in items) == FILES - 6


def test_classify_leaves_each_output_whole_or_none(
    server: TorchServe, photos_of_all_kinds: Path, tmp_path: Path
) -> None:
    killer = Killer("classify", KILLS)
    page = tmp_path / "out.html"

    def words(output: Path) -> tuple[object, ...]:
        options = ("--config", server.config.path, "--report", page, "--resume")
        return ("classify", photos_of_all_kinds, "--output", output, *options)

    look = partial(traces, tmp_path)
    whole = tmp_path / "whole.jsonl"
    killer.measure(words(whole), look, code=1)  # some images failed
    expected = rows_of(whole)
    assert len(expected) == FILES
    assert {row.get("label") for row in expected} >= {"cat", "neither", None}
    for number in killer.rounds():
        output = tmp_path / OUTPUTS[number % len(OUTPUTS)]
        page.unlink(missing_ok=True)
        while killer.strike(words(output), look, code=1) < 0:
            scratch_in(tmp_path)
            if output.exists():
                assert_same_rows(rows_in(output), expected)
            if page.exists():
                assert_whole_page(page, expected)
            if killer.chance.random() < 0.5:  # else what goes on is killed as well
                break
        killer.finish(words(output), code=1)
        assert_same_rows(rows_in(output), expected)
        assert_whole_page(page, expected)
        assert left_beside(output) == scratch_in(tmp_path) == []
        output.unlink()


@pytest.fixture(params=("this disk", "another disk"))
def disk(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def sorted_folder(disk: str, tmp_path: Path) -> Iterator[Path]:
    """Where to sort into; renaming alone brings nothing to another disk."""
    if disk == "this disk":
        yield tmp_path / "sorted"
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        if Path(memory).stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("/dev/shm is on the same disk")
        yield Path(memory, "sorted")


@pytest.mark.parametrize("option", ["--move-to", "--copy-to"])
def test_sorting_loses_no_image_and_no_row(
    option: str,
    disk: str,
    sorted_folder: Path,
    server: TorchServe,
    photos_of_all_kinds: Path,
    tmp_path: Path,
) -> None:
    # Of both disks together, as many as the other commands get.
    killer = Killer(f"classify {option}, {disk}", max(2, KILLS // 2))
    originals = contents(photos_of_all_kinds)
    halfway = 0
    album, output = tmp_path / "album", tmp_path / "out.jsonl"
    words = ("classify", album, "--output", output, option, sorted_folder, "--resume")
    words += ("--config", server.config.path)

    look = partial(traces, sorted_folder)

    def is_done() -> bool:
        """Whether a run came to its end, killed or not: to a second one a folder may be empty."""
        return output.exists() and not state_of(output).exists()

    def start_anew() -> None:
        for folder in (album, sorted_folder):
            shutil.rmtree(folder, ignore_errors=True)
        output.unlink(missing_ok=True)
        shutil.copytree(photos_of_all_kinds, album)

    def check() -> None:
        """No image is lost, and none is half there."""
        here, there = contents(album), contents(sorted_folder)
        assert {*here.values(), *there.values()} == {*originals.values()}
        assert here.items() <= originals.items()
        assert len(there.values()) == len({*there.values()})
        if option == "--copy-to":
            assert here == originals

    start_anew()
    killer.measure(words, look, code=1)
    expected, places = rows_of(output), contents(sorted_folder)
    assert sorted(places.values()) == sorted(originals.values())
    assert contents(album) == (originals if option == "--copy-to" else {})
    for _ in killer.rounds():
        start_anew()
        while killer.strike(words, look, code=1) < 0 and not is_done():
            scratch_in(tmp_path, sorted_folder)
            check()
            halfway += 0 < len(contents(sorted_folder)) < FILES
            if killer.chance.random() < 0.5:  # else what goes on is killed as well
                break
        if not is_done():
            killer.finish(words, code=1)
        check()
        assert contents(sorted_folder) == places
        assert contents(album) == (originals if option == "--copy-to" else {})
        assert_same_rows(rows_of(output), expected)
        assert left_beside(output) == []
        # One may stay whose file got its name just before the kill: it holds nothing.
        assert not any(any(scratch.iterdir()) for scratch in scratch_in(tmp_path, sorted_folder))
    print(f"{halfway} kills while files were on their way")


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet", ".html.catdog"])
def test_merge_leaves_its_sources_alone_and_its_target_whole_or_none(
    suffix: str, tmp_path: Path
) -> None:
    killer = Killer(f"merge to {suffix}", max(1, KILLS // 4))
    sources = [tmp_path / f"part{part}.jsonl.catdog" for part in range(3)]
    for part, source in enumerate(sources):
        make_state(source, MODEL, some_rows(part))
    target = tmp_path / "merged" / f"all{suffix}"
    other = target.with_name(f"other{suffix}")
    words = ("merge", target, *sources)
    look = partial(traces, target.parent)
    killer.measure(words, look)
    expected, everything = merged(target), contents(tmp_path)
    for _ in killer.rounds():
        shutil.rmtree(target.parent)
        killer.strike(words, look)
        scratch_in(tmp_path)
        killer.finish(("merge", other if target.exists() else target, *sources))
        assert scratch_in(tmp_path) == []
        other.unlink(missing_ok=True)
        assert merged(target) == expected
        assert contents(tmp_path).keys() == everything.keys()
        assert [file_sha256(source) for source in sources] == [
            everything[source.name] for source in sources
        ]


def some_rows(part: int) -> Iterator[ImageResult]:
    for number in range(part, 3 * MERGED_ROWS, 3):
        yield (failure if number % 97 == 0 else image)(f"/photos/{number:06}.jpg")


def merged(target: Path) -> object:
    if target.suffix != ".catdog":
        return file_sha256(target)
    with read_state(target) as (model, rows):
        return model, list(rows)


def test_package_leaves_the_old_archive_or_the_new_one(
    make_config: MakeConfig, archive: Path, tmp_path: Path
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    killer = Killer("package", KILLS, TMPDIR=str(temporary))
    config = make_config(archive)

    def words(version: str) -> tuple[object, ...]:
        options = ("--version", version, "--config", config.path)
        return ("package", "--network", "efficientnet_lite0", *options)

    look = partial(traces, config.model_store)
    killer.measure(words("2.0"), look)
    old = file_sha256(config.archive)
    left: list[Path] = []
    for number in killer.rounds():
        version = f"{number + 3}.0"
        killer.strike(words(version), look)
        if file_sha256(config.archive) != old:
            assert archive_version(config.archive) == version
            verify_archive(config.archive)
            old = file_sha256(config.archive)
        now = scratch_in(config.model_store, temporary)
        assert not {*left} & {*now} or now == left  # the latter: killed before it could look
        left = now
    killer.finish(words("1000.0"))
    assert archive_version(config.archive) == "1000.0"
    assert names(config.model_store) == ["catdog.mar"]
    assert scratch_in(temporary) == []
