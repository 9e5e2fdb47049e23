"""Starts that meet trouble: each other, an odd path, a full folder, a kill."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import requests

from catdog_serving.torchserve.listeners import is_taken
from catdog_serving.torchserve.private_config import private_config
from catdog_serving.torchserve.run_directory import SERVER_CLASS
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.serving_config import ServingConfig
from tests.support.command_line import catdog
from tests.support.configs import MakeConfig
from tests.support.paths import ROOT
from tests.support.processes import assert_nothing_left, processes_of, wait_until


def serve(config: ServingConfig) -> list[str | Path]:
    return [sys.executable, "-m", "catdog_serving", "serve", "--config", config.path]


def test_a_start_that_is_terminated_leaves_nothing(archive: Path, make_config: MakeConfig) -> None:
    config = make_config(archive)
    server = TorchServe(config)
    process = subprocess.Popen(serve(config))
    try:
        wait_until(server.is_running, "Java's start")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    finally:
        process.kill()
        process.wait()
    assert_nothing_left(server)


def test_of_four_starts_at_once_one_wins_and_the_others_say_so(
    archive: Path, make_config: MakeConfig
) -> None:
    """From four shells, whose variables differ."""
    config = make_config(archive)
    server = TorchServe(config)
    shells: list[dict[str, str]] = [
        {},
        {"XDG_RUNTIME_DIR": "/run/user/0"},
        {"HOME": "/nonexistent", "TMPDIR": "/var/tmp"},
        {"SUDO_USER": "alice", "HOME": "/"},
    ]
    starts = [
        subprocess.Popen(
            serve(config),
            env={"PATH": "/usr/bin:/bin"} | shell,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for shell in shells
    ]
    try:
        ends = []
        for start in starts:
            output, errors = start.communicate(timeout=180)
            ends.append((start.returncode, output + errors))
        won = [text for code, text in ends if code == 0 and "runs already" not in text]
        others = [(code, text) for code, text in ends if text not in won]
        assert len(won) == 1, ends
        for code, text in others:
            told = "runs already" if code == 0 else "another command is starting this server"
            assert code in (0, 3), text
            assert told in text or "runs already" in text
        assert server.versions()[0].ready_workers == 1
        assert len(processes_of(server)) == 2
    finally:
        server.stop()
    assert_nothing_left(server)


def test_a_checkout_with_an_odd_name_serves(archive: Path, tmp_path: Path) -> None:
    """Its configuration's folder, that is, and the run folder; Java and workers get them whole."""
    root = tmp_path / "a b'\"#ü%20"
    shutil.copytree(ROOT / "config", root / "config")
    source = ServingConfig.read(root / "config" / "config.properties")
    with tempfile.TemporaryDirectory(dir="/tmp", suffix=" 'ü#") as folder:
        config = private_config(source, root, archive, values={"run_directory": folder})
        server = TorchServe(config)
        environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "LANG": "C"}

        def here(*words: object) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "catdog_serving", *words, "--config", config.path]
            return subprocess.run(
                command, cwd=root, env=environment, capture_output=True, text=True, check=False
            )

        try:
            started = here("serve")
            assert started.returncode == 0, started.stderr
            (curl,) = re.findall(r"^try +(curl .*)$", started.stdout, re.MULTILINE)
            answer = subprocess.run([*shlex.split(curl), "-s"], stdout=-1, check=True, cwd=root)
            assert json.loads(answer.stdout)["label"] == "cat"
            asked = requests.get(f"{config.metrics_url}/metrics", timeout=10).text
            assert "catdog_pictures_total" in asked
            assert (server.run.path / "logs" / "access.log").is_file()
            stopped = here("stop")
            assert (stopped.returncode, stopped.stdout) == (0, "stopped\n")
        finally:
            server.stop()
        assert_nothing_left(server)


AS_AN_ORDINARY_USER = [  # root that has to obey modes
    *("setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner"),
    *("--inh-caps=-all", "--"),
]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can mount a disk that is full")
@pytest.mark.parametrize(
    ("prepare", "prefix", "reason"),
    [
        ("mount -t tmpfs -o size=4k none {}", [], "are free for"),
        ("mount -t tmpfs -o size=16m none {}", [], "are free for"),
        ("mount -t tmpfs -o ro none {}", [], "Read-only file system"),
        ("chmod 0 {}", AS_AN_ORDINARY_USER, "Permission denied"),
        ("chown 12345 {0} && chmod 700 {0}", AS_AN_ORDINARY_USER, "Permission denied"),
    ],
)
def test_a_run_folder_that_is_full_or_closed_is_exit_3_and_nothing_is_left(
    archive: Path,
    make_config: MakeConfig,
    prepare: str,
    prefix: list[str],
    reason: str,
) -> None:
    program = shlex.join([*prefix, sys.executable, "-m", "catdog_serving"])
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # short enough for a Unix socket
        config = make_config(archive, run_directory=folder)
        script = f"""
{prepare.format(folder)}
{program} serve --config {config.path}; echo "serve $?"
{program} stop --config {config.path}; echo "stop $?"
ls -A {folder}
"""
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=False
        )
    assert done.stdout.splitlines()[-3:] == ["serve 3", "no server was running", "stop 0"]
    assert reason in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert processes_of(TorchServe(config)) == []


def kill_a_start(config: ServingConfig, has_begun: Callable[[], bool], what: str) -> None:
    """SIGKILL `catdog serve` as soon as something of it is seen; what it started lives on."""
    quiet = subprocess.DEVNULL
    with subprocess.Popen(serve(config), stdout=quiet, stderr=quiet) as killed:
        wait_until(has_begun, what, timeout_s=60)
        killed.kill()


def test_a_start_that_is_killed_is_taken_over_and_a_tail_of_its_log_lives(
    archive: Path, make_config: MakeConfig
) -> None:
    """Killed before it wrote the pid, or its folder was aged away in /var/tmp."""
    config = make_config(archive)
    server = TorchServe(config)
    kill_a_start(config, lambda: server.run.logs.workers.is_file(), "Java's start")
    (server.run.path / "pid").unlink(missing_ok=True)
    tail = subprocess.Popen(["tail", "-f", server.run.logs.workers], stdout=subprocess.DEVNULL)
    try:
        again = catdog("serve", "--config", config.path)
        assert again.returncode == 0, again.stderr
        assert "1 of 1 READY" in again.stdout
        stopped = catdog("stop", "--config", config.path)
        assert (stopped.returncode, stopped.stdout) == (0, "stopped\n")
        assert tail.poll() is None
    finally:
        tail.kill()
        tail.wait()
    assert_nothing_left(server)


def test_a_server_that_ends_while_a_start_waits_for_it_is_started_anew(
    archive: Path, make_config: MakeConfig
) -> None:
    config = make_config(archive)
    server = TorchServe(config)
    management = config.endpoints()["management_address"]
    kill_a_start(config, lambda: is_taken(*management), "its management API")
    (java,) = (p for p in processes_of(server) if SERVER_CLASS in p.info["cmdline"])
    java.suspend()  # so that whoever waits for it goes on waiting
    second = subprocess.Popen(
        serve(config), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        waiting = psutil.Process(second.pid)
        wait_until(lambda: bool(waiting.net_connections()), "a question to it", timeout_s=60)
        java.kill()
        output, errors = second.communicate(timeout=180)
        assert second.returncode == 0, errors
        assert "1 of 1 READY" in output
    finally:
        second.kill()
        second.wait()
        server.stop()
    assert_nothing_left(server)


def test_java_has_no_file_in_tmp(server: TorchServe) -> None:
    """TMPDIR does not move what it keeps there for jstat."""
    java = server.run.process()
    assert java is not None
    assert not Path("/tmp", f"hsperfdata_{java.username()}", str(java.pid)).exists()
