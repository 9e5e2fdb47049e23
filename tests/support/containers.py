"""The image in real containers: Debian's buildah, podman and runc, with storage and a network of
their own.

No Docker engine and no registry takes part. In the place of the Python image stands one that
mmdebstrap makes, with Debian's Python. What podman spells differently is translated here.
"""

import json
import os
import re
import resource
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.support.image_build import HostIndex
from tests.support.paths import ROOT

NEEDED = ("buildah", "podman", "runc", "mmdebstrap", "podman-compose", "nsenter", "curl", "openssl")
MISSING = [program for program in NEEDED if shutil.which(program) is None]
DOCUMENT = (ROOT / "docs" / "containers.md").read_text()
_DOCKER = ROOT / "config" / "docker"
PYTHON_IMAGE = (
    "docker.io/library/python:"
    + re.findall(r"^ARG PYTHON=(\S+)", (_DOCKER / "Dockerfile").read_text(), re.MULTILINE)[
        0
    ].partition("@")[0]
)
# Debian's crun refuses machines that have control groups of both versions, so runc. Without a limit
# here podman raises the number of files above this process's own, which not every root may.
_SETTINGS = """
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
[containers]
log_driver = "k8s-file"
"""
_HOLDER = "ip link set lo up && echo ready && exec cat"


def documented(command: str) -> list[str]:
    """The words behind `docker build` or `docker run` in docs/containers.md, as podman has them."""
    (line,) = re.findall(rf"^docker {command} (.*)$", DOCUMENT, re.MULTILINE)
    return shlex.split(line.replace("uid=10001", "U"))


def options_of(container: Mapping[str, Any], volumes: Mapping[str, Path]) -> list[str]:
    """What a container of a manifest asks for, as options of `podman run`.

    Args:
        container: As the manifest has it.
        volumes: Where each of its volumes is on this machine.
    """
    allowed = container["securityContext"]
    options = [f"--cap-drop={name}" for name in allowed["capabilities"]["drop"]]
    if allowed["readOnlyRootFilesystem"]:
        options += ["--read-only", "--read-only-tmpfs=false"]
    if not allowed["allowPrivilegeEscalation"]:
        options.append("--security-opt=no-new-privileges")
    limits = container["resources"]["limits"]
    options += [f"--cpus={limits['cpu']}"] if "cpu" in limits else []
    options.append(f"--memory={limits['memory'].removesuffix('i').lower()}")
    for mount in container["volumeMounts"]:
        outside = volumes[mount["name"]] / mount.get("subPath", "")
        readable = ":ro" if mount.get("readOnly") else ""
        options.append(f"--volume={outside}:{mount['mountPath']}{readable}")
    if "command" in container:
        options.append(f"--entrypoint={json.dumps(container['command'])}")
    return options


@dataclass
class Container:
    """A container that was started, by its name."""

    engine: "Engine"
    name: str
    started_s: float  # time.monotonic()

    @cached_property
    def pid(self) -> int:
        """Of its first process, on this machine."""
        return int(self.shown("{{.State.Pid}}"))

    def shown(self, template: str) -> str:
        return self.engine.podman("inspect", "--format", template, self.name).stdout.strip()

    @property
    def log(self) -> str:
        result = self.engine.podman("logs", self.name)
        return result.stdout + result.stderr

    def run(self, *words: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """One more process in it, as a probe or a hook is."""
        return self.engine.podman("exec", self.name, *words, check=False, timeout_s=timeout_s)

    def curl(self, *words: str | Path) -> str:
        """What an address in its network answers."""
        enter = ("nsenter", f"--target={self.pid}", "--net")
        curl = ("curl", "--silent", "--show-error", "--max-time", "60")
        return self.engine.run(*enter, *curl, *map(str, words)).stdout

    def is_healthy(self) -> bool:
        """Whether the image's health check passes; what a Docker engine asks every 15 s."""
        return self.engine.podman("healthcheck", "run", self.name, check=False).returncode == 0

    def wait_healthy(self, timeout_s: float = 180) -> float:
        """Seconds from its start to the first health check that passes."""
        while not self.is_healthy():
            assert self.shown("{{.State.Status}}") == "running", self.log
            assert time.monotonic() < self.started_s + timeout_s, self.log
        return time.monotonic() - self.started_s

    def control_group(self, name: str, old_name: str) -> int:
        """A number of its memory's control group, of version 2 or 1."""
        lines = Path(f"/proc/{self.pid}/cgroup").read_text().splitlines()
        groups = {kind: path for _, kind, path in (line.split(":", 2) for line in lines)}
        if "memory" in groups:
            return int(Path(f"/sys/fs/cgroup/memory{groups['memory']}/{old_name}").read_text())
        return int(Path(f"/sys/fs/cgroup{groups['']}/{name}").read_text())

    def end(self, signal: str = "TERM", timeout_s: float = 60) -> tuple[int, float]:
        """Send it a signal; its exit code, and the seconds that its end took."""
        start = time.monotonic()
        self.engine.podman("kill", "--signal", signal, self.name, check=False)
        code = int(self.engine.podman("wait", self.name, timeout_s=timeout_s).stdout)
        return code, time.monotonic() - start


@dataclass
class Engine:
    """buildah and podman; whatever they make or start is below `folder`, and gone in the end."""

    folder: Path
    holder: int  # process whose namespaces of mounts and network they have
    environment: dict[str, str] = field(init=False)
    limits: list[str] = field(init=False)

    def __post_init__(self) -> None:
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        # buildah has lowered its own by the time that it passes them on.
        processes = min(resource.getrlimit(resource.RLIMIT_NPROC)[1], 32768)
        self.limits = [f"nofile={files}:{files}", f"nproc={processes}:{processes}"]
        settings = self.folder / "containers.conf"
        settings.write_text(_SETTINGS + f"default_ulimits = {json.dumps(self.limits)}\n")
        self.environment = os.environ | {
            "CONTAINERS_CONF": str(settings),
            "TMPDIR": str(self.folder),
            "DISABLE_HC_SYSTEMD": "true",  # health checks run when a test asks
        }
        self.wrapper.parent.mkdir(exist_ok=True)
        enter = f"nsenter --target={self.holder} --mount --net"
        store = f"--root={self.folder}/root --runroot={self.folder}/run"
        options = f"{store} --tmpdir={self.folder}/tmp --network-config-dir={self.folder}/networks"
        inside = f"""sh -c 'cd "$0" && exec podman {options} "$@"' "$PWD" "$@\""""
        self.wrapper.write_text(f"#!/bin/sh\nexec {enter} {inside}\n")
        self.wrapper.chmod(0o755)

    @property
    def wrapper(self) -> Path:
        """podman with all its options, for whoever calls podman."""
        return self.folder / "bin" / "podman"

    def run(
        self, *words: str, timeout_s: float = 60, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            words,
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert result.returncode == 0 or not check, (
            words,
            result.stdout[-4000:],
            result.stderr[-4000:],
        )
        return result

    def podman(
        self, *words: str, timeout_s: float = 60, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        return self.run(str(self.wrapper), *words, timeout_s=timeout_s, check=check)

    def make_base(self) -> None:
        """The stand-in for the Python image: Debian with its Python, which is `python` there."""
        if self.podman("image", "exists", PYTHON_IMAGE, check=False).returncode == 0:
            return
        made = self.folder / "base.tar"
        link = '--customize-hook=ln -s /usr/bin/python3.11 "$1/usr/local/bin/python"'
        include = "--include=ca-certificates,python3-venv"
        make = ("mmdebstrap", "--mode=root", "--variant=minbase", include, link)
        self.run(*make, "bookworm", str(made), timeout_s=600)
        self.podman("import", str(made), PYTHON_IMAGE, timeout_s=300)
        made.unlink()

    def build(self, context: Path, tag: str, **arguments: str) -> None:
        """The Dockerfile of a checkout, with this machine's way to its package index."""
        index = HostIndex(self.folder)
        inside = [f"--build-arg={k}={index.inside(v)}" for k, v in arguments.items()]
        store = (f"--root={self.folder}/root", f"--runroot={self.folder}/run")
        dockerfile = context / "config" / "docker" / "Dockerfile"
        with (self.folder / "build.log").open("w") as log:
            built = subprocess.run(
                [
                    *("nsenter", f"--target={self.holder}", "--mount", "buildah", *store, "build"),
                    # Docker's format, as the other has no HEALTHCHECK.
                    *("--format=docker", "--layers", "--pull-never", "--network=host"),
                    *(f"--ulimit={limit}" for limit in self.limits),
                    *(f"--file={dockerfile}", f"--ignorefile={dockerfile}.dockerignore"),
                    *(f"--tag={tag}", *index.volumes(), *inside, str(context)),
                ],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
            )
        assert built.returncode == 0, Path(log.name).read_text()[-8000:]

    def start(self, name: str, *words: str) -> Container:
        """`podman run` with these options, image and command."""
        begin = time.monotonic()
        self.podman("run", "--detach", f"--name={name}", *words)
        return Container(self, name, begin)

    @contextmanager
    def running(self, name: str, *words: str) -> Iterator[Container]:
        try:
            yield self.start(name, *words)
        finally:
            self.podman("rm", "--force", "--time=0", "--volumes", name, check=False)

    def inspected(self, image: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = json.loads(self.podman("inspect", image).stdout)
        return found[0]


@contextmanager
def running_engine(folder: Path) -> Iterator[Engine]:
    """buildah and podman, and nothing of what they started in the end."""
    unshare = ("unshare", "--mount", "--net", "--propagation=private", "sh", "-c", _HOLDER)
    with subprocess.Popen(
        unshare, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        engine = Engine(folder, holder.pid)
        try:
            yield engine
        finally:
            engine.podman("rm", "--all", "--force", "--time=0", "--volumes", check=False)
            assert holder.stdin is not None
            holder.stdin.close()
