"""The bench's archives are built once, and anew when what they are made of changes."""

from pathlib import Path

import pytest

from catdog_serving.bench import bench_archives
from catdog_serving.bench.bench_archives import PRECISIONS, Subject, bench_files, default_cache
from catdog_serving.build.build_archive import ArchiveSpec
from tests.support.paths import ROOT

SETTINGS = ROOT / "config" / "model-config.yaml"


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[ArchiveSpec]:
    """Archives are files of one byte here; what was asked for is kept."""
    asked: list[ArchiveSpec] = []

    def build(spec: ArchiveSpec, output: Path) -> None:
        asked.append(spec)
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(b"x")

    monkeypatch.setattr(bench_archives, "build_archive", build)
    monkeypatch.setattr(bench_archives, "save_state", lambda _, path: path.write_bytes(b"x"))
    return asked


def test_each_precision_is_built_once(built: list[ArchiveSpec], tmp_path: Path) -> None:
    subject = Subject("efficientnet_lite0", None, SETTINGS)
    files = bench_files(subject, tmp_path)
    assert [spec.precision for spec in built] == list(PRECISIONS)
    assert set(files.archives) == set(PRECISIONS)
    assert bench_files(subject, tmp_path) == files
    assert len(built) == len(PRECISIONS)


def test_int8_has_images_to_be_calibrated_with(built: list[ArchiveSpec], tmp_path: Path) -> None:
    bench_files(Subject("efficientnet_lite0", None, SETTINGS), tmp_path)
    (int8,) = (spec for spec in built if spec.precision == "int8")
    assert int8.calibration is not None
    assert len(list(int8.calibration.glob("*.jpg"))) >= 20


def test_changed_settings_build_anew_and_nothing_old_stays(
    built: list[ArchiveSpec], tmp_path: Path
) -> None:
    cache, settings = tmp_path / "cache", tmp_path / "model-config.yaml"
    settings.write_text(SETTINGS.read_text())
    subject = Subject("efficientnet_lite0", None, settings)
    before = bench_files(subject, cache)
    other = bench_files(Subject("efficientnet_lite0", None, SETTINGS), cache)
    assert other == before  # the same content under another name
    settings.write_text(SETTINGS.read_text() + "# changed\n")
    after = bench_files(subject, cache)
    assert len(built) == 2 * len(PRECISIONS)
    assert not before.state.exists()
    assert after.state.is_file()


def test_the_cache_is_where_the_system_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_cache() == Path("/somewhere/catdog/bench")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache() == Path.home() / ".cache" / "catdog" / "bench"
