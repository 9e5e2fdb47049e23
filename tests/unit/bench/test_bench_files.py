"""The images that speed is measured with, and the archives: built once, and anew after changes."""

import io
from pathlib import Path

import pytest
from PIL import Image

from catdog.decode import Limits
from catdog_serving.bench import bench_files as module
from catdog_serving.bench.bench_files import (
    CROPS,
    LONG_SIDE,
    Subject,
    bench_files,
    default_cache,
    read_images,
    sample_crops,
)
from catdog_serving.build.build_archive import ArchiveSpec
from catdog_serving.errors import UsageError
from tests.support.images import encode, noise
from tests.support.paths import ROOT

SETTINGS = ROOT / "config" / "model-config.yaml"
LIMITS = Limits(max_pixels=100_000, max_aspect_ratio=20)


def test_crops_of_the_samples_are_all_different_and_always_the_same() -> None:
    crops = sample_crops()
    assert crops == sample_crops()
    assert len(set(crops)) == CROPS
    for crop in crops:
        with Image.open(io.BytesIO(crop)) as image:
            assert image.format == "JPEG"
            assert max(image.size) == LONG_SIDE


def test_a_folder_of_ones_own_is_taken_as_it_is(tmp_path: Path) -> None:
    images = [encode(noise(seed=seed), "JPEG") for seed in range(3)]
    for number, image in enumerate(images):
        (tmp_path / f"{number}.jpg").write_bytes(image)
    assert read_images(tmp_path, LIMITS) == images
    with pytest.raises(UsageError, match=r"0\.jpg cannot be measured with"):
        read_images(tmp_path, Limits(max_pixels=100, max_aspect_ratio=20))


def test_images_that_the_server_would_refuse_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no images"):
        read_images(tmp_path, LIMITS)
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(UsageError, match=r"broken\.jpg cannot be measured with"):
        read_images(tmp_path, LIMITS)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[ArchiveSpec]:
    """Archives are files of one byte here; what was asked for is kept."""
    asked: list[ArchiveSpec] = []

    def build(spec: ArchiveSpec, output: Path) -> None:
        asked.append(spec)
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(b"x")

    monkeypatch.setattr(module, "build_archive", build)
    monkeypatch.setattr(module, "save_state", lambda _, path: path.write_bytes(b"x"))
    return asked


@pytest.mark.parametrize("bf16", [True, False])
def test_each_precision_is_built_once_and_int8_has_images_to_be_calibrated_with(
    built: list[ArchiveSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bf16: bool
) -> None:
    monkeypatch.setattr(module, "has_bf16", lambda: bf16)
    precisions = ["fp32", "bf16", "int8"] if bf16 else ["fp32", "int8"]
    subject = Subject("efficientnet_lite0", None, SETTINGS)
    files = bench_files(subject, tmp_path)
    assert [spec.precision for spec in built] == list(files.archives) == precisions
    assert bench_files(subject, tmp_path) == files
    assert len(built) == len(precisions)
    calibrations = {spec.precision: spec.calibration for spec in built}
    assert calibrations["fp32"] is None
    assert calibrations["int8"] is not None
    assert len(list(calibrations["int8"].glob("*.jpg"))) >= 20


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
    assert len(built) == 2 * len(before.archives)
    assert not before.state.exists()
    assert after.state.is_file()


def test_the_cache_is_where_the_system_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_cache() == Path("/somewhere/catdog/bench")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache() == Path.home() / ".cache" / "catdog" / "bench"
