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
        ("compile", "yes"),
        ("max_aspect_ratio", True),
        ("decode_memory_mb", 831),  # one image of max_pixels needs 832
    ],
)
def test_a_value_out_of_range_names_the_key(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{key} .*must be|{key} must be"):
        Settings.read(write(tmp_path, **{key: value}))
