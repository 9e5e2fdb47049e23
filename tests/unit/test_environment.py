"""requirements.lock is what is installed, and pyproject.toml what docs/dependencies.md explains."""

import importlib.metadata
import itertools
import re
import sysconfig
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TOOLS = {"pip", "catdog-serving"}  # not the lock's to choose
EXPLAINED_TOGETHER = {"types-psutil", "types-pyyaml", "types-requests"}  # with mypy


def test_every_installed_package_has_the_locks_version() -> None:
    locked = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        requirement = Requirement(line)
        locked[canonicalize_name(requirement.name)] = str(requirement.specifier)
    installed = {
        canonicalize_name(d.metadata["Name"]): f"=={d.version.removesuffix('+cpu')}"
        # Of this environment alone: Ray puts packages of its own on the path when it is imported.
        for d in importlib.metadata.distributions(path=[sysconfig.get_path("purelib")])
    }
    wrong = {
        name: (version, locked.get(name))
        for name, version in installed.items()
        if name not in TOOLS and locked.get(name) != version
    }
    assert wrong == {}


def test_every_dependency_is_explained() -> None:
    explained = set(re.findall(r"[a-z0-9-]+", (ROOT / "docs/dependencies.md").read_text().lower()))
    requirements = [
        *PROJECT["dependencies"],
        *itertools.chain(*PROJECT["optional-dependencies"].values()),
    ]
    names = {canonicalize_name(Requirement(line).name) for line in requirements}
    assert names - explained - EXPLAINED_TOGETHER == set()
