"""A server that is stopped, or ends, under a command that changes it."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Timer

import psutil
import pytest

from catdog_serving.atomic_write import replace_file
from catdog_serving.errors import CatDogError, NotReadyError, RefusedError
from catdog_serving.rollout import lost_server
from catdog_serving.rollout import switch as module
from catdog_serving.rollout.switch import operator, read_pending, switch
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.staged_files import staged_archive
from tests.support.configs import MakeConfig
from tests.support.http_servers import http_server
from tests.support.java_stand_ins import sleeper
from tests.support.two_versions import NEW, OLD, SETTINGS, Versions

UNCHANGED = "nothing was changed: catdog.mar is as it was, and catdog serve starts it"
CHANGED = "catdog.mar is the new archive already, and catdog serve starts it"


class Stage:
    """A server whose Java is a process that sleeps, and whose management API is a stand-in."""

    def __init__(self, make_config: MakeConfig) -> None:
        versions = Versions()
        self._api = ExitStack()
        self._is_gone = False

        def answer(request: BaseHTTPRequestHandler, body: bytes) -> None:
            if self._is_gone:  # a connection that was kept open breaks
                request.close_connection = True
            else:
                versions(request, body)

        url = self._api.enter_context(http_server(answer))
        self.server = TorchServe(make_config(None, management_address=url))
        versions.store = self.server.config.model_store
        self.server.config.archive.write_text("old")
        self.server.config.previous_archive.write_text("older")
        self._left = sleeper()
        self.server.run.create()
        self.server.run.record(psutil.Process(self._left.pid))

    def stop(self) -> None:
        """As `catdog stop` does, in another process."""
        self._is_gone = True
        self._api.close()
        assert TorchServe(self.server.config).stop()

    def crash(self) -> None:
        self._is_gone = True
        self._api.close()
        self._left.kill()
        self._left.wait()

    def start_again(self) -> None:
        self.stop()
        self.server.run.create()
        self.server.run.record(psutil.Process())  # as if this process were the new one

    def close(self) -> None:
        self._api.close()
        self._left.kill()
        self._left.wait()
        self.server.run.remove()

    def deploy(self, calls: dict[str, Callable[[], None]]) -> None:
        """What a deploy does with files and versions, with something between its steps."""
        config = self.server.config

        def reach(step: str) -> None:
            calls.get(step, lambda: None)()

        with operator(self.server, "deploy") as management:
            reach("checked")
            management.versions()
            with staged_archive(config) as staged:
                files = {config.model_store / f".catdog-{n}.mar": n for n in ("previous", "new")}
                for path, text in zip((staged, *files), ("new", "old", "new"), strict=True):
                    path.write_text(text)
                places = dict(zip(files, (config.previous_archive, config.archive), strict=True))
                with switch(self.server, management, OLD, NEW, files=places):
                    reach("staged")
                    management.register(staged.name, SETTINGS)
                    reach("registered")
                    # Two workers never get READY: whatever happens then happens in this wait.
                    self.server.wait_ready(2 if "registered" in calls else 1, version=NEW)
                    management.set_default(NEW)
                    reach("drained")


@pytest.fixture
def stage(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setattr(lost_server, "ENDED_S", 0.5)
    monkeypatch.setattr(module, "REGISTERED_S", 0.5)
    found = Stage(make_config)
    try:
        yield found
    finally:
        found.close()


@pytest.mark.parametrize("step", ["checked", "staged", "registered", "drained"])
@pytest.mark.parametrize("how", ["stop", "start_again", "crash"])
def test_a_server_that_goes_before_the_end_leaves_the_disk_as_it_was(
    stage: Stage, step: str, how: str
) -> None:
    config = stage.server.config
    go = getattr(stage, how)
    with pytest.raises(NotReadyError) as raised:
        stage.deploy({step: Timer(0.3, go).start if step == "registered" else go})
    told = "ended" if how == "crash" else "the server was stopped meanwhile"
    assert re.fullmatch(rf".*{told}.*; {re.escape(UNCHANGED)}", str(raised.value))
    assert "no management API" not in str(raised.value)
    assert (config.archive.read_text(), config.previous_archive.read_text()) == ("old", "older")
    assert not list(config.model_store.glob(".catdog-*")) or how == "crash"


@pytest.mark.parametrize("how", ["stop", "start_again", "crash"])
def test_a_server_that_goes_while_files_are_replaced_leaves_the_new_ones(
    stage: Stage, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = stage.server.config
    ends = [getattr(stage, how)]

    def replace(staged: Path, target: Path) -> None:
        replace_file(staged, target)
        if ends:
            ends.pop()()

    monkeypatch.setattr(module, "replace_file", replace)
    with pytest.raises(NotReadyError) as raised:
        stage.deploy({})
    told = "ended" if how == "crash" else "was stopped"
    assert str(raised.value) == f"the server {told} meanwhile; {CHANGED}"
    assert (config.archive.read_text(), config.previous_archive.read_text()) == ("new", "old")


def test_a_command_that_fails_on_a_server_that_runs_says_why(stage: Stage) -> None:
    def fail() -> None:
        raise NotReadyError("memory is short")

    with pytest.raises(NotReadyError, match=r"\Amemory is short\Z"):
        stage.deploy({"checked": fail})
    with pytest.raises(RefusedError, match=rf"\Amemory is short; version {OLD} serves as before"):
        stage.deploy({"registered": fail})
    assert read_pending(stage.server.run) is None


def test_more_workers_of_a_server_that_is_stopped(stage: Stage) -> None:
    def scale() -> None:
        with operator(stage.server, "scale 2"):
            stage.stop()
            stage.server.wait_ready(2)

    with pytest.raises(CatDogError, match=f"the server was stopped meanwhile; {UNCHANGED}"):
        scale()
