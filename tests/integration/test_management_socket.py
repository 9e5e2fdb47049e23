"""`catdog serve --management-socket`: what web pages and other users can do without it and with it.

A page cannot read what another origin answers, but it can send; and a page whose host's address
changed after it was loaded (DNS rebinding) is of the server's own origin, and can do everything.
Newer Chromiums ask their user before they let a page from elsewhere reach loopback.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests
from playwright.sync_api import Browser

from catdog_serving.client import CatDogClient
from catdog_serving.torchserve.server import TorchServe
from tests.support.browser import chromium
from tests.support.command_line import catdog, catdog_here
from tests.support.configs import MakeConfig
from tests.support.paths import SAMPLES
from tests.support.processes import assert_nothing_left, wait_until

EVIL = "evil.example"
# Both try; what they got, or that nothing was there.
POST_FROM_ELSEWHERE = """url => fetch(
    `${url}/models?url=catdog.mar&model_name=intruder&initial_workers=1`,
    {method: "POST", mode: "no-cors", headers: {"Content-Type": "text/plain"}, body: ""},
).then(answer => answer.type, error => error.message)"""
READ_AND_PUT = """async path => {
    try {
        const [model] = await (await fetch(path)).json();
        const put = await fetch(`${path}?min_worker=0&max_worker=0`, {method: "PUT"});
        return [model.workers.length, put.status];
    } catch (error) { return error.message; }
}"""


@pytest.fixture(scope="module")
def evil_browser() -> Iterator[Browser]:
    """A browser that asks nobody, for which an attacker's host has the address 127.0.0.1 by now."""
    rules = f"--host-resolver-rules=MAP {EVIL} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    with chromium(rules, "--disable-features=LocalNetworkAccessChecks") as running:
        yield running


def attack(browser: Browser, management_url: str) -> tuple[object, object]:
    """What a page elsewhere gets for a POST; after rebinding, the workers then, and for a PUT."""
    rebound = management_url.replace("127.0.0.1", EVIL)
    context = browser.new_context()
    context.route("**/page", lambda route: route.fulfill(body="hello", content_type="text/html"))
    page = context.new_page()
    page.goto("http://127.0.0.1:9/page")
    posted = page.evaluate(POST_FROM_ELSEWHERE, management_url)
    page.goto(f"{rebound}/page")
    read_and_put = page.evaluate(READ_AND_PUT, "/models/intruder")
    context.close()
    return posted, read_and_put


def test_without_it_a_web_page_starts_workers_and_sets_them_to_0(
    own: TorchServe, evil_browser: Browser
) -> None:
    """What is, and why there is a socket."""
    url = own.config.management_url

    def workers() -> object:
        return requests.get(f"{url}/models/intruder", timeout=10).json()[0]["workers"]

    try:
        assert attack(evil_browser, url) == ("opaque", [1, 202])
        wait_until(lambda: workers() == [], "no worker")
    finally:
        requests.delete(f"{url}/models/intruder", timeout=30)
    refused = catdog_here("serve", "--management-socket", "--config", own.config.path)
    assert refused.returncode == 3
    assert f"runs already, with its management API on {url}; to have it as asked: " in (
        refused.stderr
    )


@pytest.fixture(scope="module")
def quiet(archive: Path, make_config: MakeConfig) -> Iterator[TorchServe]:
    """A server with the socket, in a folder that others may enter, with an odd path."""
    with tempfile.TemporaryDirectory(prefix="c") as name:
        folder = Path(name, "a ü")
        folder.mkdir()
        for path in (folder, folder.parent):
            path.chmod(0o755)
        server = TorchServe(make_config(archive, run_directory=str(folder)))
        started = catdog("serve", "--management-socket", "--config", server.config.path)
        assert started.returncode == 0, started.stderr
        yield server
        stopped = catdog("stop", "--config", server.config.path)
        assert (stopped.returncode, stopped.stdout) == (0, "stopped\n")
        assert_nothing_left(server)


def test_with_it_nothing_listens_where_a_web_page_could_ask(
    quiet: TorchServe, evil_browser: Browser
) -> None:
    failed = "Failed to fetch"
    assert attack(evil_browser, quiet.config.management_url) == (failed, failed)
    java = quiet.run.process()
    assert java is not None
    listening = {
        (connection.laddr.ip.removeprefix("::ffff:"), connection.laddr.port)
        for connection in java.net_connections()
        if connection.status == psutil.CONN_LISTEN
    }
    config = quiet.served
    assert listening == set(config.endpoints().values())
    assert len(listening) == 4
    for url in (config.inference_url, config.metrics_url):
        assert requests.get(f"{url}/models", timeout=10).status_code in (404, 405)
    with CatDogClient(config.inference_url) as client:
        assert client.classify(SAMPLES / "chelsea.png").label == "cat"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_no_other_user_reaches_it(quiet: TorchServe) -> None:
    path = quiet.run.path / "management.sock"
    connect = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    for user, shown in ((0, ""), (12345, "PermissionError: [Errno 13] Permission denied")):
        result = subprocess.run(
            [shutil.which("python3", path="/usr/bin") or sys.executable, "-c", connect, str(path)],
            env={},
            user=user,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.stderr.strip().rpartition("\n")[2] == shown
    assert quiet.run.path.stat().st_mode & 0o777 == 0o700
    assert quiet.run.path.parent.stat().st_mode & 0o005 == 0o005  # it is the folder that refuses


def test_commands_and_curl_find_it_without_the_flag(quiet: TorchServe, archive: Path) -> None:
    configured = ("--config", quiet.config.path)
    shown = catdog_here("status", *configured)
    assert shown.returncode == 0, shown.stderr
    curl = shown.stdout.rpartition("manage   ")[2]
    assert "--unix-socket" in curl
    described = subprocess.run(curl, shell=True, capture_output=True, text=True, check=True).stdout
    assert '"modelVersion": "1.0"' in described
    for command, said in (
        (["serve"], "the server runs already"),
        (["deploy", archive, "--watch-s", 0], "version 2.0"),
        (["scale", 2], "workers  2 READY, before 1"),
        (["versions"], "2.0 (default)  2 of 2 READY"),
        (["token"], "no tokens: every address of this server is on loopback"),
    ):
        result = catdog_here(*command, *configured, COLUMNS="200")
        assert result.returncode == 0, result.stderr
        assert said in result.stdout


def test_a_killed_server_leaves_no_socket_in_the_way(quiet: TorchServe) -> None:
    java = quiet.run.process()
    assert java is not None
    java.send_signal(signal.SIGKILL)
    psutil.wait_procs([java], timeout=10)
    assert (quiet.run.path / "management.sock").is_socket()
    away = catdog_here("status", "--config", quiet.config.path)
    assert away.returncode == 3
    again = catdog("serve", "--management-socket", "--config", quiet.config.path)
    assert again.returncode == 0, again.stderr
    assert f"manage   curl --unix-socket '{quiet.run.path}/management.sock' " in again.stdout


def test_a_java_without_the_native_library_says_what_is_missing(
    archive: Path, make_config: MakeConfig
) -> None:
    config = make_config(archive)
    vmargs = f"-Dio.netty.transport.noNative=true {config.with_absolute_paths()['vmargs']}"
    server = TorchServe(make_config(archive, vmargs=vmargs))
    refused = catdog("serve", "--management-socket", "--config", server.config.path)
    assert refused.returncode == 3
    assert ": Java cannot listen on a Unix socket here, which takes" in refused.stderr
    assert_nothing_left(server)
