"""A pod of config/kubernetes without Kubernetes: its containers' commands as the manifests and the
Dockerfile have them, with the container's paths and ports mapped to private ones."""

import json
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from catdog_serving.operate.private_config import free_ports
from tests.conftest import ROOT
from tests.edge import NGINX
from tests.processes import wait_until

KUBERNETES = ROOT / "config" / "kubernetes"
DOCKERFILE = (ROOT / "config" / "docker" / "Dockerfile").read_text()
ENTRYPOINT: list[str] = json.loads(re.findall(r"^ENTRYPOINT (.+)$", DOCKERFILE, re.M)[0])
HEALTHCHECK: list[str] = json.loads(re.findall(r"CMD (\[.+\])$", DOCKERFILE, re.M)[0])


def manifest(name: str) -> dict[str, Any]:
    """The first document of a manifest."""
    return next(yaml.safe_load_all((KUBERNETES / name).read_text()))


def containers(name: str = "base/deployment.yaml") -> dict[str, dict[str, Any]]:
    spec = manifest(name)["spec"]["template"]["spec"]
    return {container["name"]: container for container in spec["containers"]}


@dataclass
class Pod:
    """One pod: a folder that stands for the root file system, and its own ports."""

    root: Path
    archive: Path
    key: str = field(default_factory=lambda: secrets.token_hex(32))
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = ("8080", "8081", "8082", "7070", "7071", "8443", "9145")
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        app = self.root / "opt" / "catdog"
        for folder in (app / "model-store", self.root / "run/catdog", self.root / "run/edge"):
            folder.mkdir(parents=True)
        shutil.copy(self.archive, app / "model-store" / "catdog.mar")
        shutil.copytree(ROOT / "config", app / "config")
        shutil.copytree(ROOT / "docs", app / "docs", ignore=shutil.ignore_patterns("images"))
        shutil.copy(KUBERNETES / "base" / "site.conf", app / "config" / "nginx" / "site.conf")
        for path in (app / "config/config.properties", app / "config/nginx/site.conf"):
            path.write_text(self.mapped(path.read_text()))
        keys = app / "config" / "nginx" / "api-keys.map"
        keys.write_text(
            "".join(f"{self.key[:-1]}{digit:x} client{digit};\n" for digit in range(16))
        )
        self._make_certificate()

    @property
    def url(self) -> str:
        return f"https://localhost:{self.ports['8443']}"

    @property
    def certificate(self) -> Path:
        return self.root / "etc/edge/tls/tls.crt"

    def mapped(self, text: str) -> str:
        """Container paths and ports as they are here."""
        text = re.sub(
            r"(?<![\w.])/(opt/catdog|run/catdog|run/edge|etc/edge)\b", rf"{self.root}/\1", text
        )
        for inside, outside in self.ports.items():
            text = re.sub(rf"\b{inside}\b", str(outside), text)
        return text

    def command(self, words: list[str]) -> list[str]:
        return [self.mapped(word) for word in words]

    @property
    def environment(self) -> dict[str, str]:
        """The image's ENV, with this environment's programs as its /opt/venv."""
        variables = dict(re.findall(r"^(?:ENV|   ) (\w+)=(\S+?)(?: \\)?$", DOCKERFILE, re.M))
        variables = {name: self.mapped(value) for name, value in variables.items()}
        programs = f"{Path(sys.executable).parent}:{Path(str(NGINX)).parent}:/usr/bin:/bin"
        return variables | {"PATH": programs}

    def run(self, words: list[str], timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """What `kubectl exec`, a probe or a hook does."""
        return subprocess.run(
            self.command(words),
            cwd=self.root / "opt/catdog",
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def start(self, name: str, words: list[str]) -> None:
        with (self.root / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                self.command(words),
                cwd=self.root / "opt/catdog",
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def log(self, name: str) -> str:
        return (self.root / f"{name}.log").read_text()

    def _make_certificate(self) -> None:
        self.certificate.parent.mkdir(parents=True)
        subprocess.run(
            [
                *(
                    "openssl",
                    "req",
                    "-x509",
                    "-newkey",
                    "ec",
                    "-pkeyopt",
                    "ec_paramgen_curve:P-256",
                ),
                *("-nodes", "-days", "2", "-subj", "/CN=localhost"),
                *("-addext", "subjectAltName=DNS:localhost"),
                *("-keyout", str(self.certificate.with_name("tls.key"))),
                *("-out", str(self.certificate)),
            ],
            check=True,
            capture_output=True,
        )


@contextmanager
def running_pod(root: Path, archive: Path) -> Iterator[Pod]:
    """Both containers up and the startup probe passed; whatever the test does, they are gone."""
    pod = Pod(root, archive)
    try:
        server, nginx = containers()["catdog"], containers()["nginx"]
        pod.start("catdog", ENTRYPOINT)
        probe = server["startupProbe"]["exec"]["command"]
        wait_until(lambda: pod.run(probe).returncode == 0, "the startup probe", timeout_s=120)
        pod.start("nginx", [*nginx["command"], *nginx["args"]])
        wait_until(lambda: (root / "run/edge/nginx.pid").exists(), "nginx", timeout_s=20)
        yield pod
    finally:
        for process in pod.processes.values():
            process.send_signal(signal.SIGTERM)
        for process in pod.processes.values():
            process.wait(timeout=60)
        pod.run(["catdog", "stop"])


def hook(name: str) -> list[str]:
    """A container's preStop command."""
    words: list[str] = containers()[name]["lifecycle"]["preStop"]["exec"]["command"]
    return words
