"""A wheel needs no checkout: it is installed alone, and used in an empty folder."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.support.paths import ROOT, SAMPLES


class Wheel:
    """An environment with this one's dependencies, and with catdog by the wheel alone."""

    def __init__(self, folder: Path) -> None:
        self.home = folder
        built = subprocess.run(
            [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, ROOT],
            capture_output=True,
            text=True,
            check=False,
        )
        if "No matching distribution found for hatchling" in built.stderr:
            pytest.skip("hatchling, which builds the wheel, cannot be had here")
        assert built.returncode == 0, built.stderr
        (self.path,) = folder.glob("catdog_serving-*.whl")
        venv.create(folder / "venv")
        self.programs = folder / "venv" / "bin"
        (site,) = folder.glob("venv/lib/python*/site-packages")
        borrowed = [path for path in sys.path if path.endswith("site-packages")]
        (site / "borrowed.pth").write_text("\n".join(borrowed))
        options = ("--quiet", "--no-deps", "--no-index", "--ignore-installed")
        self.run("python", "-m", "pip", "install", *options, str(self.path))
        self.site = site

    def run(self, *words: str, cwd: Path | None = None) -> str:
        """The output of a command that succeeds."""
        done = subprocess.run(
            words,
            cwd=cwd or self.home,
            env={
                "PATH": f"{self.programs}:/usr/sbin:/usr/bin:/sbin:/bin",
                "HOME": str(self.home),
                "XDG_DATA_HOME": str(self.home / "data"),
            },
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def hint(self) -> str:
        """The line that adds the extra `web`."""
        return self.run(
            "python", "-c", "from catdog_serving.extras import install_hint as h; print(h('web'))"
        ).strip()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Wheel:
    return Wheel(tmp_path_factory.mktemp("wheel"))


def test_it_holds_config_and_nothing_of_one_site(wheel: Wheel) -> None:
    shipped = wheel.site / "catdog_serving" / "_config" / "config"
    tracked = subprocess.run(
        ["git", "ls-files", "config"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    expected = {name for name in tracked if not name.startswith("config/docker/")}
    files = {str(path.relative_to(shipped.parent)) for path in shipped.rglob("*") if path.is_file()}
    assert files == expected
    for name in expected:
        assert (shipped.parent / name).read_bytes() == (ROOT / name).read_bytes()


def test_an_extra_is_installed_from_the_wheel_that_is_there(wheel: Wheel, tmp_path: Path) -> None:
    assert wheel.hint() == f"pip install '{wheel.path}[web]'"
    kept = shutil.move(wheel.path, tmp_path)
    assert wheel.hint() == f"pip install 'PATH/TO/{wheel.path.name}[web]'"
    shutil.move(kept, wheel.path)


def test_in_an_empty_folder_it_packs_serves_classifies_and_stops(wheel: Wheel) -> None:
    """On the settings that it brings, with their ports, so in a network of its own."""
    if os.getuid() or not shutil.which("unshare") or not shutil.which("ip"):
        pytest.skip("needs root, unshare and ip for a network of its own")
    empty = wheel.home / "empty"
    empty.mkdir()
    commands = (
        "ip link set lo up",
        "catdog package --network efficientnet_lite0",
        "catdog serve",
        f"catdog classify {SAMPLES}",
        "catdog stop",
    )
    output = wheel.run("unshare", "--net", "sh", "-ec", "\n".join(commands), cwd=empty)
    assert f"into    {wheel.home}/data/catdog/model-store/catdog.mar" in output
    assert "1 of 1 READY" in output
    assert "4 files: 1 cat, 3 neither" in output
    assert output.endswith("stopped\n")
    assert list(empty.iterdir()) == []
    shipped = wheel.site / "catdog_serving" / "_config"
    assert [path.name for path in shipped.iterdir()] == ["config"]


def test_init_writes_what_can_be_edited(wheel: Wheel) -> None:
    wheel.run("catdog", "init", "mine")
    mine = wheel.home / "mine"
    settings = mine / "config" / "config.properties"
    assert settings.read_bytes() == (ROOT / "config" / "config.properties").read_bytes()
    program = (
        "from catdog_serving.config_folder import default_config\n"
        "from catdog_serving.torchserve.serving_config import ServingConfig\n"
        "c = ServingConfig.read(default_config()); print(c.path, c.archive, sep='\\n')"
    )
    here = wheel.run("python", "-c", program, cwd=mine).splitlines()
    assert here == [str(settings), str(mine / "model-store" / "catdog.mar")]
