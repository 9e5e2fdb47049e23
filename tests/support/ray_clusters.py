"""A Ray cluster on loopback, as `ray start --head` makes it, and what an actor is found by."""

import os
import re
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from catdog_serving.torchserve.private_config import free_ports
from tests.support.processes import wait_until

CPUS = 2


def _ray_environment(home: str) -> dict[str, str]:
    return os.environ | {
        "HOME": home,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on Linux: loopback instead of all addresses
    }


@contextmanager
def ray_cluster() -> Iterator[dict[str, str]]:
    """One node with two CPUs; gives the environment that reaches it, by --address auto."""
    # In a short folder: Ray's sockets lie in it.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        (port,) = free_ports(1)
        environment = _ray_environment(folder) | {"RAY_ADDRESS": f"127.0.0.1:{port}"}
        log = Path(folder, "head.log")
        options = [
            *(f"--port={port}", f"--num-cpus={CPUS}", f"--temp-dir={folder}/ray"),
            *("--include-dashboard=false", f"--object-store-memory={256 * 2**20}"),
        ]
        with log.open("wb") as output:
            head = subprocess.Popen(
                [Path(sys.executable).parent / "ray", "start", "--head", "--block", *options],
                env={name: value for name, value in environment.items() if name != "RAY_ADDRESS"},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_until(lambda: "Ray runtime started" in log.read_text(), "a cluster", timeout_s=90)
            yield environment
        finally:
            end_tree(head)


def actors_of(driver: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes that classify for a `catdog classify` with a Ray of its own."""
    return [
        process
        for process in psutil.Process(driver.pid).children(recursive=True)
        if process.status() != psutil.STATUS_ZOMBIE
        and any("FolderActor" in argument for argument in process.cmdline())
    ]


def end_tree(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """Kill a process and all below it."""
    try:
        tree = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        tree = []
    process.kill()
    process.wait()
    for each in tree:
        try:
            each.kill()
        except psutil.NoSuchProcess:  # it went with its parent
            continue
    psutil.wait_procs(tree, timeout=10)


_PROGRESS = re.compile(r"\d+ of (\d+|more) files, .*\n")  # on a slow machine


def classify(
    *arguments: object, env: dict[str, str] | None = None, cwd: Path | None = None
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "catdog_serving", "classify", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
        cwd=cwd,
        start_new_session=True,  # a group for Ctrl-C
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, standard output, and what was said beside the progress."""
    output, errors = process.communicate(timeout=120)
    return process.returncode, output, _PROGRESS.sub("", errors)
