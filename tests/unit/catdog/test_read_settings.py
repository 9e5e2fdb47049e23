from pathlib import Path

import pytest
import yaml

from catdog.read_settings import Settings
from tests.support.paths import ROOT

SHIPPED = yaml.safe_load((ROOT / "config" / "model-config.yaml").read_text())


def write(tmp_path: Path, **changes: object) -> Path:
    handler = {k: v for k, v in (SHIPPED["handler"] | changes).items() if v != "remove"}
    path = tmp_path / "model-config.yaml"
    path.write_text(yaml.safe_dump({"handler": handler}))
    return path


def test_the_shipped_settings_are_read(tmp_path: Path) -> None:
    settings = Settings.read(write(tmp_path))
    assert settings.presence_threshold == 0.25
    assert settings.limits.max_pixels == 52_000_000


def test_threads_are_a_number_or_auto(tmp_path: Path) -> None:
    assert Settings.read(write(tmp_path)).fixed_threads is None
    assert Settings.read(write(tmp_path, threads=3)).fixed_threads == 3


def test_only_time_outs_stand_beside_the_handlers_section() -> None:
    # Batching keys here would silently win over config.properties.
    assert set(SHIPPED) == {"responseTimeout", "startupTimeout", "handler"}


def test_an_unknown_key_names_file_key_and_choices(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="presence_treshold") as caught:
        Settings.read(write(tmp_path, presence_treshold=0.3))
    assert "model-config.yaml" in str(caught.value)
    assert "decode_memory_mb" in str(caught.value)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"missing \['max_pixels'\]"):
        Settings.read(write(tmp_path, max_pixels="remove"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("presence_threshold", 0),
        ("presence_threshold", 1.5),
        ("presence_threshold", "high"),
        ("max_pixels", 10**9),  # above what Pillow opens at all
        ("max_pixels", 1.5),
        ("threads", 0),
        ("threads", "all"),
        ("threads", 1.5),
        ("max_aspect_ratio", True),
        ("decode_memory_mb", 831),  # one image of max_pixels needs 832
    ],
)
def test_a_value_out_of_range_names_the_key(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{key} .*must be|{key} must be"):
        Settings.read(write(tmp_path, **{key: value}))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"handler: [", r"is no YAML \(line 1, column 11\)"),
        (b"handler:\n\tthreads: 1", r"is no YAML \(line 2, column 1\)"),
        (b"a: b: c", "is no YAML"),
        (b"handler: !!python/object:os.x {}", "is no YAML"),
        (b"\xe9: 1", "is no YAML"),
        (b"[" * 500, "is no YAML"),
        (b"- 1", "holds no keys"),
        (b"", "holds no keys"),
        (b"text", "holds no keys"),
        (b"handler: 3", "holds no keys"),
        (b"handler:", "holds no keys"),
        (b"handler: {1: 2, x: 3}", r"unknown \['1', 'x'\]"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_is_no_settings_is_one_line_with_the_files_name(
    content: bytes, complaint: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=complaint) as caught:
        Settings.read(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
