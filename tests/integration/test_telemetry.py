"""catdog sends nothing home: ONNX Runtime's and OpenVINO's telemetry is off wherever they are used.

Left alone, ONNX Runtime writes its device id below HOME and a file into TMPDIR when it is
imported, and asks for its maker's host a few seconds later; OpenVINO does likewise. Both stay
silent where a variable such as CI is set, so these commands get an environment of their own.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from catdog.engines.placement import has_openvino
from catdog_serving.torchserve.run_directory import RunDirectory
from catdog_serving.torchserve.serving_config import ServingConfig
from tests.support.configs import MakeConfig
from tests.support.paths import ROOT, SAMPLES

IMAGE = str(SAMPLES / "chelsea.png")


@dataclass(frozen=True)
class Person:
    """Somebody with an empty home, whose temporary files and run directories are elsewhere."""

    folder: Path
    config: ServingConfig
    run_folder: str  # a short one: a socket's path lies in it
    engine: str = "auto"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "CATDOG_RUN_DIR": self.run_folder,
            "CATDOG_ENGINE": self.engine,
        }

    def run(self, *arguments: str) -> str:
        """Run a command of catdog, and give its standard output."""
        result = subprocess.run(
            [sys.executable, "-m", "catdog_serving", *arguments, "--config", self.config.path],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    def left_behind(self) -> set[str]:
        """Everything below HOME, and the files below TMPDIR."""
        home = {str(p.relative_to(self.folder)) for p in (self.folder / "home").rglob("*")}
        temporary = {p for p in (self.folder / "tmp").rglob("*") if p.is_file()}
        return home | {str(p.relative_to(self.folder)) for p in temporary}


@pytest.fixture
def person(tmp_path: Path, make_config: MakeConfig) -> Iterator[Person]:
    for name in ("home", "tmp"):
        (tmp_path / name).mkdir()
    with tempfile.TemporaryDirectory(prefix="catdog-run-", dir="/tmp") as run_folder:
        someone = Person(tmp_path, make_config(None), run_folder)
        yield someone
        someone.run("stop")


def server_environments(person: Person, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """The environment of the running server and of each of its workers."""
    monkeypatch.setenv("CATDOG_RUN_DIR", person.environment["CATDOG_RUN_DIR"])
    server = RunDirectory.of(person.config).process()
    assert server is not None
    return [process.environ() for process in (server, *server.children(recursive=True))]


def test_a_servers_life_leaves_nothing_in_the_home(
    person: Person, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packing's part: tests/integration/test_int8.py."""
    shutil.copy(archive, person.config.archive)
    person.run("serve")
    assert "tiger cat" in person.run("classify", IMAGE)
    environments = server_environments(person, monkeypatch)
    assert len(environments) >= 2
    assert {each.get("ORT_DISABLE_TELEMETRY") for each in environments} == {"1"}
    person.run("stop")
    assert person.left_behind() == set()


# Runs commands where there is no network but loopback; prints the names that were asked for.
ALONE = """
import json, socket, subprocess, sys, threading, time
asked = []
def listen(server):
    while True:
        labels, rest = [], server.recv(4096)[12:]
        while rest and rest[0]:
            labels.append(rest[1 : 1 + rest[0]].decode())
            rest = rest[1 + rest[0] :]
        asked.append(".".join(labels))
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.53", 53))
threading.Thread(target=listen, args=(server,), daemon=True).start()
for command in json.loads(sys.argv[1]):
    subprocess.run(command, check=True, stdout=sys.stderr)
time.sleep(5)  # ONNX Runtime asks for its maker's host some seconds after it was imported
print(json.dumps(asked))
"""
RESOLVER = "{} link set lo up; mount --bind '{}' /etc/resolv.conf; exec \"$@\""


def test_a_whole_life_asks_for_nobody(person: Person) -> None:
    """Packing, serving, a prediction and the stop, in a network of its own with a name server.

    The check of the packed archive computes by ONNX Runtime, the server by OpenVINO if it is there.
    """
    person = replace(person, engine="openvino" if has_openvino() else "auto")
    if os.getuid() or not shutil.which("unshare") or not shutil.which("ip"):
        pytest.skip("needs root, unshare and ip for a network of its own")
    resolver = person.folder / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.53\noptions timeout:1 attempts:1\n")
    words = [sys.executable, "-m", "catdog_serving"]
    config = ["--config", str(person.config.path)]
    asks = [sys.executable, "-c", "import socket; socket.getaddrinfo('a.host.invalid', 80)"]
    settings = ["--settings", str(ROOT / "config" / "model-config.yaml")]
    package = ["package", "--network", "efficientnet_lite0", *settings]
    life = (package, ["serve"], ["classify", IMAGE], ["status"], ["stop"])
    commands = [[*words, *command, *config] for command in life]
    inside = [
        "sh",
        "-euc",
        RESOLVER.format(shutil.which("ip"), resolver),
        "sh",
        sys.executable,
        "-c",
        ALONE,
    ]

    def names_asked_for(commands: list[list[str]]) -> set[str]:
        result = subprocess.run(
            ["unshare", "--net", "--mount", *inside, json.dumps(commands)],
            env=person.environment,
            cwd=person.folder,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return set(json.loads(result.stdout))

    assert names_asked_for([["sh", "-c", '"$@" || true', "sh", *asks]]) == {"a.host.invalid"}
    # Java looks up the machine's own name where /etc/hosts does not have it.
    assert names_asked_for(commands) <= {socket.gethostname()}
    assert person.left_behind() == set()


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_classifying_in_this_process_leaves_nothing_in_the_home(
    person: Person, archive: Path, engine: str
) -> None:
    person = replace(person, engine=engine)
    output = person.run("classify", IMAGE, "--backend", "local", "--archive", str(archive))
    assert "tiger cat" in output
    assert person.left_behind() == set()
