"""What `package` and `bench` write replaces nothing that they read, and no stranger's file."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from catdog_serving.errors import NotReadyError
from tests.support.command_line import catdog_here
from tests.support.configs import MakeConfig
from tests.support.paths import SAMPLES

WORDS = {
    "package": "--network efficientnet_lite0 --precision int8 --calibration {base}/images "
    "--weights {base}/own.pth --settings {base}/own.yaml --output",
    "bench": "--pictures {base}/images --output",
    "bench chart": "--pictures {base}/images --chart",
}
READ = ("images/rocket.jpg", "images/linked.jpg", "config")
CASES = [
    *((words, name) for words in WORDS for name in READ),
    *(("package", name) for name in ("own.pth", "own.yaml", "link to own.yaml")),
]


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/rocket.jpg").write_bytes((SAMPLES / "rocket.jpg").read_bytes())
    (tmp_path / "more.jpg").write_bytes((SAMPLES / "rocket.jpg").read_bytes())
    (tmp_path / "images/linked.jpg").symlink_to("../more.jpg")
    (tmp_path / "own.pth").write_text("weights")
    (tmp_path / "own.yaml").write_text("settings")
    (tmp_path / "link to own.yaml").hardlink_to(tmp_path / "own.yaml")

    def begun(*_: object, **__: object) -> None:
        raise NotReadyError("the work has begun")

    for work in ("package.build_archive", "bench.bench_files"):
        monkeypatch.setattr(f"catdog_serving.cli.{work}", begun)
    monkeypatch.chdir(tmp_path)
    return tmp_path


Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(base: Path, make_config: MakeConfig) -> Run:
    config = make_config(None).path
    (base / "config").symlink_to(config)

    def run(words: str, *arguments: object) -> tuple[int, str]:
        given = WORDS[words].format(base=base).split() if arguments else []
        ended = catdog_here(words.split()[0], "--config", config, *given, *arguments)
        return ended.returncode, ended.stderr

    return run


@pytest.mark.parametrize(("words", "name"), CASES)
def test_what_is_read_is_not_replaced(words: str, name: str, base: Path, run: Run) -> None:
    code, said = run(words, base / name)
    assert code == 2
    assert "which is to be read; choose another file" in said
    assert len(said.splitlines()) == 1


def identity_and_content(path: Path) -> tuple[int, int, bytes]:
    """Its inode, when it was written, and what is in it; that it was read is no change."""
    return path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes()


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("content", ["my notes", '{"date":"today"}', "PK\x03\x04", "\x89PNG\r\n"])
def test_a_strangers_file_is_not_replaced(words: str, content: str, base: Path, run: Run) -> None:
    (base / "notes").write_bytes(content.encode("latin-1"))
    before = identity_and_content(base / "notes")
    code, said = run(words, base / "notes")
    assert code == 4
    assert "notes is there, and" in said
    assert len(said.splitlines()) == 1
    assert identity_and_content(base / "notes") == before


def test_a_chart_that_nobody_named_replaces_no_strangers_either(base: Path, run: Run) -> None:
    (base / "bench.png").write_text("mine")
    assert run("bench")[0] == 4
    assert run("bench", "other.json") == (3, "catdog: the work has begun\n")
    (base / "bench.png").rename(base / "out.png")
    assert run("bench", "out.json")[0] == 4


@pytest.mark.parametrize("words", WORDS)
def test_what_is_not_there_or_empty_is_made(words: str, base: Path, run: Run) -> None:
    assert run(words, base / "new") == (3, "catdog: the work has begun\n")
    (base / "new").touch()
    assert run(words, base / "new") == (3, "catdog: the work has begun\n")


def test_an_archive_is_replaced(base: Path, run: Run) -> None:
    with zipfile.ZipFile(base / "old.mar", "w") as packed:
        packed.writestr("model.json", "{}")
    assert run("package", base / "old.mar") == (3, "catdog: the work has begun\n")


def test_a_torn_archive_in_the_default_place_is_replaced(make_config: MakeConfig) -> None:
    config = make_config(None)
    config.archive.write_text("torn")
    words = ("--network", "efficientnet_lite0", "--weights", "/nonexistent.pth")
    ended = catdog_here("package", "--config", config.path, *words)
    assert ended.returncode == 3
    assert "/nonexistent.pth" in ended.stderr
