"""catdog init, and which config/ is used without it."""

import os
import subprocess
from pathlib import Path

import pytest

from catdog_serving import config_folder
from catdog_serving.config_folder import default_config
from catdog_serving.torchserve.serving_config import ServingConfig
from tests.support.command_line import catdog_here
from tests.support.paths import ROOT


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CATDOG_CONFIG", raising=False)
    return tmp_path


def test_it_writes_the_settings_and_a_place_for_archives(empty: Path) -> None:
    done = catdog_here("init", "my cats")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("next      cd 'my cats' && catdog package && catdog serve\n")
    made = empty / "my cats"
    assert sorted(path.name for path in made.iterdir()) == ["config", "model-store"]
    assert list((made / "model-store").iterdir()) == []
    found = {str(p.relative_to(made)) for p in (made / "config").rglob("*") if p.is_file()}
    tracked = subprocess.run(
        ["git", "ls-files", "config"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert found == {name for name in tracked if not name.startswith("config/docker/")}
    for name in found:
        assert (made / name).read_bytes() == (ROOT / name).read_bytes()
    ServingConfig.read(made / "config" / "config.properties")


def test_without_a_folder_it_is_here_and_a_second_one_changes_nothing(empty: Path) -> None:
    assert "next      catdog package" in catdog_here("init").stdout
    assert default_config() == Path("config/config.properties")
    edited = empty / "config" / "config.properties"
    edited.write_text("mine")
    again = catdog_here("init", ".")
    assert again.returncode == 4
    assert again.stderr == "catdog: config is there already; nothing was changed\n"
    assert edited.read_text() == "mine"


def test_what_belongs_to_one_site_is_not_copied(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = empty / "checkout" / "config"
    (source / "nginx").mkdir(parents=True)
    for name in ("config.properties", "nginx/api-keys.map", "nginx/certificate.key"):
        (source / name).touch()
    monkeypatch.setattr(config_folder, "_CHECKOUTS", source)
    assert catdog_here("init", "made").returncode == 0
    found = [path for path in (empty / "made" / "config").rglob("*") if path.is_file()]
    assert [path.name for path in found] == ["config.properties"]


def test_a_folder_that_cannot_be_written_is_one_line(empty: Path) -> None:
    (empty / "file").touch()
    done = catdog_here("init", "file/below")
    assert done.returncode == 3
    assert done.stderr.startswith("catdog: cannot write file/below/config: ")


def test_a_checkouts_config_wins_over_one_in_the_package(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So an edit of it is what counts, whatever an editable install has copied."""
    shipped = empty / "_config" / "config"
    shipped.mkdir(parents=True)
    (shipped / "config.properties").touch()
    monkeypatch.setattr(config_folder, "_SHIPPED", shipped)
    checkouts = empty / "checkout" / "config"
    monkeypatch.setattr(config_folder, "_CHECKOUTS", checkouts)
    assert default_config() == shipped / "config.properties"
    checkouts.mkdir(parents=True)
    edited = (ROOT / "config" / "config.properties").read_text().replace("=48", "=47")
    (checkouts / "config.properties").write_text(edited)
    config = ServingConfig.read(default_config())
    assert config.job_queue_size == 47
    assert config.model_store == empty / "checkout" / "model-store"


def test_a_wheels_settings_keep_archives_in_the_users_data(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config_folder, "_SHIPPED", ROOT / "config")
    monkeypatch.setenv("XDG_DATA_HOME", str(empty))
    config = ServingConfig.read(ROOT / "config" / "config.properties")
    assert config.archive == empty / "catdog" / "model-store" / "catdog.mar"
    tuned = catdog_here("tune", "--config", config.path)
    assert tuned.returncode == 4
    assert tuned.stderr.endswith("write one to edit, and run this there: catdog init\n")
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert config_folder.data_folder().is_absolute()


def test_a_user_without_an_entry_has_a_data_folder_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As containers run with any user id."""
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    monkeypatch.setenv("HOME", "/somewhere")
    assert config_folder.data_folder() == Path("/somewhere/.local/share/catdog")
