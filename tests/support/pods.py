"""A pod of config/kubernetes without Kubernetes: its containers' commands as the manifests and the
Dockerfile have them, with the container's paths and ports mapped to private ones.

tests/support/isolation.py says how much of a container there is to it.
"""

import json
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from catdog_serving.torchserve.private_config import free_ports
from tests.support.edge import NGINX
from tests.support.isolation import ISOLATED, USER, contained, entering, give
from tests.support.paths import ROOT
from tests.support.processes import wait_until

KUBERNETES = ROOT / "config" / "kubernetes"
DOCKERFILE = (ROOT / "config" / "docker" / "Dockerfile").read_text()
ENTRYPOINT: list[str] = json.loads(re.findall(r"^ENTRYPOINT (.+)$", DOCKERFILE, re.M)[0])
HEALTHCHECK: list[str] = json.loads(re.findall(r"CMD (\[.+\])$", DOCKERFILE, re.M)[0])
# Folders of the containers; all others are this machine's.
MAPPED = ("opt/catdog", "run/catdog", "run/edge", "etc/edge", "images", "results")


def manifest(name: str) -> dict[str, Any]:
    """The first document of a manifest."""
    return next(yaml.safe_load_all((KUBERNETES / name).read_text()))


def containers(name: str = "base/deployment.yaml") -> dict[str, dict[str, Any]]:
    spec = manifest(name)["spec"]["template"]["spec"]
    return {container["name"]: container for container in spec["containers"]}


def hook(container: str) -> list[str]:
    """A container's preStop command."""
    words: list[str] = containers()[container]["lifecycle"]["preStop"]["exec"]["command"]
    return words


@dataclass
class Secrets:
    """What the two Secrets hold, in files: sixteen keys, and a certificate of localhost."""

    folder: Path

    @cached_property
    def keys(self) -> list[str]:
        start = secrets.token_hex(32)[:-1]
        return [f"{start}{digit:x}" for digit in range(16)]

    @property
    def certificate(self) -> Path:
        return self.folder / "tls.crt"

    def __post_init__(self) -> None:
        lines = [f"{key} client{number};\n" for number, key in enumerate(self.keys)]
        (self.folder / "api-keys.map").write_text("".join(lines))
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec"),
                *("-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
                *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
                *("-keyout", str(self.folder / "tls.key"), "-out", str(self.certificate)),
            ],
            check=True,
            capture_output=True,
        )


@dataclass
class Pod:
    """One pod: a folder that stands for the root file system, and its own ports."""

    root: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    first: dict[str, psutil.Process] = field(default_factory=dict)  # of each container

    def __post_init__(self) -> None:
        names = ("8080", "8081", "8082", "7070", "7071", "8443", "9145")
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))

    @property
    def workdir(self) -> Path:
        """The image's WORKDIR."""
        return self.root / "opt/catdog"

    def lay_out(self, archive: Path, given: Secrets) -> None:
        """The image's files, and the volumes."""
        config = self.workdir / "config"
        (self.workdir / "model-store").mkdir(parents=True)
        shutil.copy(archive, self.workdir / "model-store" / "catdog.mar")
        shutil.copytree(ROOT / "config", config)
        (self.workdir / "docs").mkdir()
        shutil.copy(ROOT / "docs" / "openapi.yaml", self.workdir / "docs")
        shutil.copy(KUBERNETES / "base" / "site.conf", config / "nginx")
        for path in (config / "config.properties", config / "nginx" / "site.conf"):
            path.write_text(self.mapped(path.read_text()))
        shutil.copy(given.folder / "api-keys.map", config / "nginx")
        tls = self.root / "etc/edge/tls"
        tls.mkdir(parents=True)
        for name in ("tls.crt", "tls.key"):
            shutil.copy(given.folder / name, tls)
            give(tls / name, 0o640)  # as a Secret with fsGroup
        for name in ("run/catdog", "run/edge", "results"):
            (self.root / name).mkdir(parents=True)
            give(self.root / name, 0o2777)  # as a volume with fsGroup

    def mapped(self, text: str) -> str:
        """Container paths and ports as they are here."""
        text = re.sub(rf"(?<![\w.])/({'|'.join(MAPPED)})\b", rf"{self.root}/\1", text)
        for inside, outside in self.ports.items():
            text = re.sub(rf"\b{inside}\b", str(outside), text)
        return text

    @property
    def environment(self) -> dict[str, str]:
        """The image's ENV, with this environment's programs as its /opt/venv."""
        variables = dict(re.findall(r"^(?:ENV|   ) (\w+)=(\S+?)(?: \\)?$", DOCKERFILE, re.M))
        variables = {name: self.mapped(value) for name, value in variables.items()}
        programs = f"{Path(sys.executable).parent}:{Path(str(NGINX)).parent}:/usr/bin:/bin"
        return variables | {"PATH": programs}

    def start(self, container: str, words: list[str], *volumes: str, **environment: str) -> None:
        """Start a container that may write to `volumes` alone; its output is in `log`."""
        words = [self.mapped(word) for word in words]
        log = self.root / f"{container}.log"
        log.touch()
        give(log, 0o600, owner=USER)  # as a container's output
        writable = [self.root / name for name in volumes]
        with log.open("ab") as output:
            self.processes[container] = subprocess.Popen(
                contained(words, self.workdir, writable) if ISOLATED else words,
                cwd=self.workdir,
                env=self.environment | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        process = psutil.Process(self.processes[container].pid)
        if ISOLATED:
            wait_until(lambda: process.children() != [], f"a process in {container}")
            (process,) = process.children()
        self.first[container] = process

    def run(
        self, container: str, words: list[str], timeout_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """What `kubectl exec`, a probe or a hook does: one more process in a container."""
        words = [self.mapped(word) for word in words]
        return subprocess.run(
            entering(self.first[container].pid, words, self.workdir) if ISOLATED else words,
            cwd=self.workdir,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def terminate(self, container: str) -> int:
        """SIGTERM to a container's first process, if there still is one; its exit code."""
        with suppress(psutil.NoSuchProcess):
            self.first[container].terminate()
        return self.processes[container].wait(timeout=60)

    def end(self, container: str) -> int:
        """What the kubelet does with a container: its preStop hook, then SIGTERM; its exit code.

        The end of nginx takes its hook along, in whatever state.
        """
        result = self.run(container, hook(container), timeout_s=120)
        assert result.returncode == 0 or container == "nginx", result.stderr
        return self.terminate(container)

    def log(self, container: str) -> str:
        return (self.root / f"{container}.log").read_text()


@contextmanager
def pod_of(archive: Path, given: Secrets) -> Iterator[Pod]:
    """A pod of which nothing runs yet; whatever the test starts in it is gone in the end.

    Its folder is not pytest's, which nobody but its owner may enter, and short, for sockets.
    """
    root = Path(tempfile.mkdtemp(prefix="catdog-pod-"))
    root.chmod(0o755)
    pod = Pod(root)
    try:
        pod.lay_out(archive, given)
        yield pod
    finally:
        for container in pod.first:
            pod.terminate(container)
        for process in pod.processes.values():
            process.kill()  # one that could not even be started
            process.wait(timeout=60)
        shutil.rmtree(root)


@contextmanager
def running_pods(archive: Path, given: Secrets, count: int) -> Iterator[list[Pod]]:
    """Pods of which both containers run, and the startup probe has passed."""
    if NGINX is None:
        pytest.skip("there is no nginx; on Debian: apt-get install nginx")
    probe = containers()["catdog"]["startupProbe"]["exec"]["command"]
    nginx = containers()["nginx"]
    with ExitStack() as stack:
        pods = [stack.enter_context(pod_of(archive, given)) for _ in range(count)]
        for pod in pods:
            pod.start("catdog", ENTRYPOINT, "run/catdog")
        for pod in pods:
            _wait_for_probe(pod, probe)
            pod.start("nginx", [*nginx["command"], *nginx["args"]], "run/edge")
            wait_until((pod.root / "run/edge/nginx.pid").exists, f"nginx in {pod.root}")
        yield pods


def _wait_for_probe(pod: Pod, probe: list[str]) -> None:
    def passed() -> bool:
        assert pod.processes["catdog"].poll() is None, pod.log("catdog")
        return pod.run("catdog", probe).returncode == 0

    wait_until(passed, "the startup probe", timeout_s=120)
