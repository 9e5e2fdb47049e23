"""`make install` takes PyTorch's CPU wheels where there is no NVIDIA GPU; tried on stub wheels."""

import os
import re
import shutil
import subprocess
import venv
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pip
import pytest

from tests.support import stub_wheels
from tests.support.http_servers import serving
from tests.support.paths import ROOT

LOCKED = dict(
    re.findall(r"^(torch|torchvision)==(\S+)$", (ROOT / "requirements.lock").read_text(), re.M)
)
CUDA = "nvidia-cublas"
ASKED: list[str] = []


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, form: str, *args: object) -> None:
        ASKED.append(self.path)


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serves two indexes: /cpu/ has CPU wheels, /ordinary/ those that bring CUDA."""
    folder = tmp_path_factory.mktemp("indexes")
    stub_wheels.write_index(
        folder / "cpu",
        [
            *((name, f"{version}+cpu", ()) for name, version in LOCKED.items()),
            ("other", "99", ()),  # so that it would be seen if this index served all
        ],
    )
    stub_wheels.write_index(
        folder / "ordinary",
        [
            *((name, version, (CUDA,)) for name, version in LOCKED.items()),
            (CUDA, "13.1.1.3", ()),
            ("other", "1", ()),
        ],
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    with serving(server):
        yield f"http://127.0.0.1:{server.server_port}"


class Installation:
    """An environment with pip alone, and a small project with the tool and the lock to try."""

    def __init__(self, folder: Path, indexes: str) -> None:
        self.folder, self.indexes = folder, indexes
        project = folder / "project"
        (project / "tools").mkdir(parents=True)
        shutil.copy(ROOT / "tools" / "install.py", project / "tools")
        shutil.copy(ROOT / "requirements.lock", project)
        shutil.copy(str(stub_wheels.__file__), project / "backend.py")
        (project / "requires.txt").write_text(
            "".join(
                f"{name}; extra == 'serve'\n" for name in ("torch>=2.9", "torchvision", "other")
            )
        )
        (project / "pyproject.toml").write_text(
            '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        )
        venv.create(folder / "venv")
        self.python = folder / "venv" / "bin" / "python"
        (site,) = folder.glob("venv/lib/python*/site-packages")
        (site / "pip").symlink_to(Path(pip.__file__).parent)

    def install(
        self, kind: str, index: str = "/cpu/", programs: Path | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run the tool; an index that is no path of the server stands as it is."""
        return subprocess.run(
            [
                *(self.python, self.folder / "project/tools/install.py", "serve", "--torch", kind),
                *("--torch-index", f"{self.indexes}{index}" if index.startswith("/") else index),
            ],
            env={
                "PATH": f"{programs or ''}:/usr/bin:/bin",
                "HOME": str(self.folder),
                "TMPDIR": os.environ.get("TMPDIR", "/tmp"),
                "PIP_CONFIG_FILE": os.devnull,
                "PIP_INDEX_URL": f"{self.indexes}/ordinary/",
                "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def packages(self) -> dict[str, str]:
        """What is installed: name -> version."""
        listed = subprocess.run(
            [self.python, "-m", "pip", "list", "--format=freeze", "--exclude-editable"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        return dict(line.split("==") for line in listed.splitlines())


@pytest.fixture
def installation(tmp_path: Path, indexes: str) -> Installation:
    ASKED.clear()
    return Installation(tmp_path, indexes)


def has_nvidia_driver() -> bool:
    return shutil.which("nvidia-smi", path="/usr/bin:/bin") is not None


@pytest.mark.skipif(has_nvidia_driver(), reason="this machine has an NVIDIA driver")
def test_without_a_gpu_cpu_wheels_come_from_their_index_and_all_else_from_the_usual_one(
    installation: Installation,
) -> None:
    done = installation.install("auto")
    assert done.returncode == 0, done.stderr
    for_cpus = {name: f"{version}+cpu" for name, version in LOCKED.items()}
    assert installation.packages() == {**for_cpus, "other": "1"}
    assert {path.split("/")[2] for path in ASKED if path.startswith("/cpu/")} == set(LOCKED)
    steps = [line for line in done.stderr.splitlines() if line.startswith("installing ")]
    assert steps == [
        f"installing torch for CPUs, from {installation.indexes}/cpu/ ...",
        "installing catdog with serve ...",
    ]
    # Asked for by name, each kind takes the other's place; else what is there stays.
    for kind, suffix in (("cuda", ""), ("auto", ""), ("cpu", "+cpu"), ("auto", "+cpu")):
        assert installation.install(kind).returncode == 0
        assert installation.packages()["torch"] == LOCKED["torch"] + suffix
    assert installation.packages()["torchvision"] == f"{LOCKED['torchvision']}+cpu"


@pytest.mark.skipif(has_nvidia_driver(), reason="this machine has an NVIDIA driver")
def test_an_index_that_cannot_be_reached_is_one_notice(installation: Installation) -> None:
    nowhere = "http://127.0.0.1:9/whl/cpu"
    insisted = installation.install("cpu", nowhere)
    assert insisted.returncode == 1
    assert "Failed to establish a new connection" in insisted.stderr
    assert installation.packages() == {}

    done = installation.install("auto", nowhere)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("NOTICE") == 1
    assert f"cannot be had from {nowhere}\n" in done.stderr
    assert "Retrying" not in done.stderr
    assert installation.packages() == {**LOCKED, CUDA: "13.1.1.3", "other": "1"}

    again = installation.install("auto", nowhere)
    assert again.returncode == 0
    assert "NOTICE" not in again.stderr


def test_with_a_gpu_the_ordinary_wheels_are_taken(
    installation: Installation, tmp_path: Path
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H200 (UUID: GPU-1)'\n")
    (programs / "nvidia-smi").chmod(0o755)
    done = installation.install("auto", programs=programs)
    assert done.returncode == 0, done.stderr
    assert installation.packages()["torch"] == LOCKED["torch"]
    assert not [path for path in ASKED if path.startswith("/cpu/")]
