"""Places that may not be read, written or entered: one line and its exit code."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from catdog_serving.archive_copies import has_files_of
from catdog_serving.cli.classify import run_classify
from catdog_serving.errors import CatDogError
from catdog_serving.evaluation.labelled_files import LabelledFolder
from catdog_serving.find_images import find_sources
from catdog_serving.folder.explain_files import explain_files
from catdog_serving.folder.run_options import RunOptions
from catdog_serving.model_archive import check_owner
from tests.support.command_line import catdog_here
from tests.support.images import encode, noise
from tests.support.ordinary_user import as_ordinary_user
from tests.support.stub_backend import GreenBackend, NameBackend, touch

MODES = (0o000, 0o111, 0o300, 0o444)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder of all that can be named, to be closed by its test."""
    place = tmp_path / "place"
    touch(place, "cats/a.jpg", "dogs/b.jpg", "x.mar", "s.catdog", "o.csv")
    (tmp_path / "album").mkdir()
    (tmp_path / "album/cat.png").write_bytes(encode(noise(60, 40)))
    yield place
    place.chmod(0o755)


COMMANDS = {
    "archive": ("classify", "album", "--backend", "local", "--archive", "{}/x.mar"),
    "output": ("classify", "album", "--output", "{}/o.csv"),
    "new output": ("classify", "album", "--output", "{}/new/o.csv"),
    "report": ("classify", "album", "--report", "{}/page.html"),
    "sorted": ("classify", "album", "--copy-to", "{}/cats"),
    "evaluated": ("evaluate", "{}"),
    "evaluated report": ("evaluate", "album", "--report", "{}/page.html"),
    "merged": ("merge", "{}/all.jsonl", "{}/s.catdog"),
    "explained": ("explain", "{}", "--output", "maps"),
}


@pytest.mark.parametrize("mode", MODES, ids=oct)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_it_in_one_line(
    name: str, mode: int, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place.chmod(mode)
    said = tmp_path / "said"
    words = [word.format(place.name) for word in COMMANDS[name]]

    def work() -> int:
        result = catdog_here(*words)
        said.write_text(result.stderr)
        return result.returncode

    code = as_ordinary_user(work)
    assert code in (2, 3, 4)
    if code != 2:  # which comes with a line of how it is called
        assert said.read_text().startswith("catdog: ")
        assert said.read_text().count("\n") == 1
    assert "Traceback" not in said.read_text()


def classified(place: Path) -> None:
    run_classify(RunOptions((place,)), NameBackend())


def written(place: Path) -> None:
    run_classify(RunOptions((Path("album"),), output=place / "o.csv", restart=True), NameBackend())


def sorted_into(place: Path) -> None:
    run_classify(RunOptions((Path("album"),), sort_into=place / "sorted"), NameBackend())


def explained(place: Path) -> None:
    list(explain_files(find_sources([Path("album")]), GreenBackend(), place / "maps"))


def evaluated(place: Path) -> None:
    LabelledFolder.find(place)


def archive(place: Path) -> None:
    assert not has_files_of(place / "x.mar", Path("album"))
    check_owner(place / "x.mar")


@pytest.mark.parametrize("mode", MODES, ids=oct)
@pytest.mark.parametrize("work", [classified, written, sorted_into, explained, evaluated, archive])
def test_what_a_command_calls_raises_what_catdog_knows(
    work: Callable[[Path], None],
    mode: int,
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (place / "o.csv").unlink()
    place.chmod(mode)

    def known() -> int:
        try:
            work(Path(place.name))
        except CatDogError as error:
            return 1 + str(error).count("\n")
        return 0

    assert as_ordinary_user(known) in (0, 1)
    place.chmod(0o755)
    assert list(tmp_path.rglob(".catdog-tmp-*")) == []


@pytest.mark.parametrize("option", ["output", "report", "sort_into"])
def test_a_long_chain_of_links_is_one_line(option: str, tmp_path: Path) -> None:
    touch(tmp_path, "album/cat.jpg")
    for number in range(1_200):
        (tmp_path / f"link{number}.x").symlink_to(f"link{number + 1}.x")
    with pytest.raises(CatDogError, match="Too many levels of symbolic links"):
        RunOptions((tmp_path / "album",), **{option: tmp_path / "link0.x"})  # type: ignore[arg-type]


def test_a_target_that_is_no_folder_is_said_before_the_work(tmp_path: Path) -> None:
    touch(tmp_path, "album/cat.jpg", "file")
    for target in (tmp_path / "file", tmp_path / "file" / "sorted", tmp_path / ("x" * 300)):
        with pytest.raises(CatDogError, match="is no folder|Not a directory|File name too long"):
            RunOptions((tmp_path / "album",), sort_into=target)


@pytest.mark.skipif(os.getuid() != 0, reason="others have no powers to drop")
def test_it_is_really_tried(tmp_path: Path) -> None:
    touch(tmp_path, "closed/a.jpg")
    (tmp_path / "closed").chmod(0)
    assert os.listdir(tmp_path / "closed") == ["a.jpg"]
    assert as_ordinary_user(lambda: len(os.listdir(tmp_path / "closed"))) == 70
