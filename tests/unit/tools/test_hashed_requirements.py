"""requirements/ is what requirements.lock says, with hashes, and for CPUs without CUDA."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.paths import ROOT
from tools.hashed_requirements import EXTRAS, FOLDER, without_cuda

LOCK = {
    canonicalize_name(requirement.name): str(requirement.specifier)
    for requirement in map(Requirement, (ROOT / "requirements.lock").read_text().splitlines())
}


def requirements(name: str) -> dict[str, tuple[str, int]]:
    """Package -> version and number of hashes, of those that Linux needs."""
    text = (FOLDER / name).read_text().replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            requirement = Requirement(line.split("--hash")[0])
            if "win32" not in str(requirement.marker):
                count = len(re.findall(r"--hash=sha256:[0-9a-f]{64}", line))
                found[canonicalize_name(requirement.name)] = (str(requirement.specifier), count)
    return found


@pytest.mark.parametrize("name", ["serve-cpu.txt", "serve-cuda.txt"])
def test_every_package_has_the_locks_version_and_hashes(name: str) -> None:
    found = requirements(name)
    assert {package: version for package, (version, _) in found.items()} == {
        package: LOCK[package] for package in found
    }
    assert min(count for _, count in found.values()) >= 1


def test_all_that_the_images_extras_name_is_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [
        *project["dependencies"],
        *(line for extra in EXTRAS for line in project["optional-dependencies"][extra]),
    ]
    named = {canonicalize_name(Requirement(line).name) for line in lines}
    assert named <= set(requirements("serve-cuda.txt"))
    assert named - set(requirements("serve-cpu.txt")) == {"torch", "torchvision"}


def test_for_cpus_there_is_no_cuda_and_torch_has_a_file_of_its_own() -> None:
    assert (
        without_cuda((FOLDER / "serve-cuda.txt").read_text())
        == (FOLDER / "serve-cpu.txt").read_text()
    )
    left_out = set(requirements("serve-cuda.txt")) - set(requirements("serve-cpu.txt"))
    assert left_out > {"torch", "torchvision", "triton", "nvidia-cublas", "cuda-bindings"}
    assert not [name for name in requirements("serve-cpu.txt") if "nvidia" in name]
    torch = (FOLDER / "torch-cpu.txt").read_text()
    for name in ("torch", "torchvision"):
        assert re.search(rf"^{name}{LOCK[name]}\b", torch, re.MULTILINE)
