"""The switch of versions, beside a stand-in for the management API."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler
from itertools import chain, cycle, repeat
from pathlib import Path

import psutil
import pytest

from catdog_serving.errors import NotReadyError, RefusedError
from catdog_serving.rollout import drain as draining
from catdog_serving.rollout import switch as module
from catdog_serving.rollout.drain import drain
from catdog_serving.rollout.switch import (
    PendingSwitch,
    default_version,
    operator,
    read_pending,
    remove_pending,
    switch,
    write_pending,
)
from catdog_serving.torchserve.management import ManagementClient
from catdog_serving.torchserve.run_directory import RunDirectory
from catdog_serving.torchserve.server import TorchServe
from tests.support.configs import MakeConfig
from tests.support.fake_server import described
from tests.support.http_servers import http_server, send

HELD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class FakeTorchServe:
    """Version 1.0, which is being drained, with two workers; 2.0 is the default."""

    def __init__(self) -> None:
        self.pending: Iterator[int] = repeat(0)
        self.workers = {"9000": "READY", "9001": "READY"}
        self.answering: Iterator[str | None] = repeat("9000")
        self.questions = 0
        self.polls = 0
        self.removed: list[str] = []
        self.when_removed: Callable[[], object] = lambda: None

    def __call__(self, request: BaseHTTPRequestHandler, _: bytes) -> None:
        if request.command == "DELETE":
            self.when_removed()
            self.removed.append(request.path)
        entries = [described("2.0", self.workers)]
        if request.path != "/models/catdog":
            pending, facts = 0, None
            if "customized" in request.path:
                self.questions += 1
                worker = next(self.answering)
                facts = {} if worker is None else {"worker": worker}
            else:
                self.polls += 1
                pending = next(self.pending)
            entries.insert(0, described("1.0", self.workers, pending=pending, facts=facts))
        send(request, 200, json.dumps(entries).encode())


@pytest.fixture
def fake() -> FakeTorchServe:
    return FakeTorchServe()


@pytest.fixture
def management(fake: FakeTorchServe, monkeypatch: pytest.MonkeyPatch) -> Iterator[ManagementClient]:
    monkeypatch.setattr(draining, "GRACE_S", 0.1)
    monkeypatch.setattr(draining, "_PAUSE_S", 0.02)
    with http_server(fake) as url, ManagementClient(url) as client:
        yield client


def test_a_drained_version_had_an_empty_queue_and_an_answer_of_each_worker(
    fake: FakeTorchServe, management: ManagementClient
) -> None:
    fake.pending = chain([3, 1, 0, 2], repeat(0))
    fake.answering = iter(["9000", "9000", "9000", "9001"])
    drain(management, "1.0")
    assert fake.polls > 4  # the queue that was empty for a moment did not count
    assert fake.questions == 4


def test_workers_that_do_not_say_who_they_are_are_waited_for_as_long_as_a_batch_may_take(
    fake: FakeTorchServe, management: ManagementClient
) -> None:
    fake.answering = repeat(None)
    start = datetime.now()
    drain(management, "1.0")
    assert datetime.now() - start >= timedelta(seconds=2)  # responseTimeout


def test_a_version_that_clients_name_is_not_drained(
    fake: FakeTorchServe, management: ManagementClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "DRAIN_TIMEOUT_S", 0.5)
    fake.pending = repeat(1)
    with pytest.raises(NotReadyError, match="clients ask for /predictions/catdog/1.0"):
        drain(management, "1.0")


def test_a_server_with_nothing_loaded_is_loaded_again_by_a_restart() -> None:
    with http_server(lambda request, _: send(request, 404, b"{}")) as url:
        with ManagementClient(url) as management:
            with pytest.raises(NotReadyError, match="load it again with: catdog restart"):
                default_version(management)


def test_nobody_waits_long_for_workers_that_are_gone(
    fake: FakeTorchServe, management: ManagementClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "NO_WORKER_S", 0.3)
    fake.pending, fake.workers = repeat(1), {"9000": "UNLOADING"}
    drain(management, "1.0")
    drain(management, "no such version")


def test_workers_that_are_not_ready_are_named_with_the_reason(
    fake: FakeTorchServe, management: ManagementClient, make_config: MakeConfig
) -> None:
    fake.workers = {"9000": "READY", "9001": "UNLOADING"}
    server = TorchServe(make_config(None, management_address=management.url))
    server.run.create()
    server.run.record(psutil.Process())  # as if this process were the server

    def write_log(*deaths: tuple[timedelta, str]) -> None:
        """When a worker died, from now on, and of what."""
        lines = []
        for after, reason in deaths:
            stamp = (datetime.now() + after).isoformat(timespec="milliseconds").replace(".", ",")
            lines += [f"{stamp} Backend worker process died."]
            lines += [f"{stamp} {line}" for line in ("Traceback (most recent call last):", reason)]
        server.run.logs.workers.write_text("".join(f"{line}\n" for line in lines))

    try:
        earlier = -timedelta(seconds=9), "ValueError: long ago"
        write_log(earlier)
        with pytest.raises(
            NotReadyError,
            match="1 of 2 workers of version 1.0 are READY, worker 9001 is not: not within 0.1 s",
        ):
            server.wait_ready(2, version="1.0", timeout_s=0.1)
        write_log(earlier, (timedelta(seconds=9), "MemoryError: now"))
        with pytest.raises(NotReadyError, match="9001 is not: MemoryError: now"):
            server.wait_ready(2, version="1.0")
        server.wait_ready(1, version="1.0")
        server.run.remove()
        with pytest.raises(NotReadyError, match="TorchServe ended while workers were waited for"):
            server.wait_ready(2, version="1.0")
    finally:
        server.run.remove()


@pytest.mark.parametrize("fails", [False, True])
def test_files_are_replaced_when_a_switch_is_committed_and_stay_when_it_is_undone(
    fake: FakeTorchServe, management: ManagementClient, make_config: MakeConfig, fails: bool
) -> None:
    server = TorchServe(make_config(None, management_address=management.url))
    server.run.create()
    fake.answering = cycle(["9000", "9001"])
    new, place = (server.config.model_store / name for name in ("new", "place"))
    new.write_text("new")
    place.write_text("old")
    try:
        # 1.0 takes over from 2.0, which the stand-in has as its default to the end.
        with (
            pytest.raises(RefusedError, match="a reason; version 2.0 serves as before")
            if fails
            else nullcontext()
        ):
            with switch(server, management, "2.0", "1.0", files={new: place}):
                assert read_pending(server.run) == PendingSwitch(keep="2.0", drop="1.0")
                if fails:
                    raise NotReadyError("a reason")
        assert place.read_text() == ("old" if fails else "new")
        assert fake.removed == ["/models/catdog/1.0" if fails else "/models/catdog/2.0"]
        assert read_pending(server.run) is None
    finally:
        server.run.remove()


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("number", HELD)
def test_a_signal_has_its_effect_when_a_switch_is_finished_or_undone(
    fake: FakeTorchServe,
    management: ManagementClient,
    make_config: MakeConfig,
    number: signal.Signals,
    fails: bool,
) -> None:
    def end(*_: object) -> None:
        raise SystemExit(5)

    server = TorchServe(make_config(None, management_address=management.url))
    server.run.create()
    fake.when_removed = lambda: os.kill(os.getpid(), number)
    before = {signum: signal.signal(signum, end) for signum in HELD}
    try:
        with (
            pytest.raises(SystemExit, match="5"),
            switch(server, management, "2.0", "1.0"),
            pytest.raises(NotReadyError) if not fails else nullcontext(),
        ):
            raise NotReadyError("a reason")
        assert fake.removed == ["/models/catdog/1.0" if fails else "/models/catdog/2.0"]
        assert read_pending(server.run) is None
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
        server.run.remove()


def test_files_that_a_killed_command_did_not_replace_are_replaced_by_the_next(
    fake: FakeTorchServe,
    management: ManagementClient,
    make_config: MakeConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = TorchServe(make_config(None, management_address=management.url))
    server.run.create()
    server.run.record(psutil.Process())  # as if this process were the server
    fake.answering = cycle(["9000", "9001"])
    store = server.config.model_store
    files = {store / f".catdog-{n}.mar": store / n for n in ("previous", "current")}
    for place in files.values():
        place.write_text("old")
    replaced = []

    def replace_one(path: Path, target: Path) -> None:
        if replaced:
            raise SystemExit  # as if killed: nothing of the switch runs after it
        replaced.append(path.replace(target))

    try:
        steps: list[str] = []
        with monkeypatch.context() as patch:
            patch.setattr(module, "replace_file", replace_one)
            with operator(server, "deploy") as client:
                for staged in files:
                    staged.write_text("new")
                with pytest.raises(SystemExit):
                    with switch(server, client, "2.0", "1.0", files=files, on_step=steps.append):
                        pass
        assert (store / "current").read_text() == "old"
        assert (steps, fake.removed) == ([], [])  # the new version is to stay
        with operator(server, "scale 1"):
            pass
        assert {place.read_text() for place in files.values()} == {"new"}
        assert fake.removed == ["/models/catdog/2.0"]
        assert list(store.glob(".catdog-*")) == []
    finally:
        server.run.remove()


def test_a_file_that_cannot_be_replaced_leaves_the_new_version_and_is_tried_again(
    fake: FakeTorchServe, management: ManagementClient, make_config: MakeConfig
) -> None:
    server = TorchServe(make_config(None, management_address=management.url))
    server.run.create()
    server.run.record(psutil.Process())
    store = server.config.model_store
    staged, place = store / ".catdog-current.mar", store / "current"
    place.mkdir()
    try:
        with operator(server, "deploy") as client:
            staged.write_text("new")
            with pytest.raises(NotReadyError, match=r"1\.0 serves, but .*current cannot be"):
                with switch(server, client, "2.0", "1.0", files={staged: place}):
                    pass
        place.rmdir()
        with operator(server, "scale 1"):
            assert place.read_text() == "new"
    finally:
        server.run.remove()


def test_undoing_is_said_before_it_begins(
    management: ManagementClient, make_config: MakeConfig
) -> None:
    server = TorchServe(make_config(None, management_address=management.url))
    server.run.create()
    steps: list[str] = []
    try:
        with pytest.raises(RefusedError):
            with switch(server, management, "2.0", "1.0", on_step=steps.append):
                raise NotReadyError("a reason")
        assert steps == [
            "undoing  version 1.0 goes, and 2.0 stays",
            "undone   version 2.0 serves as before",
        ]
    finally:
        server.run.remove()


def test_a_pending_switch_lasts_until_it_is_removed(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.create()
    assert read_pending(run) is None
    write_pending(run, PendingSwitch(keep="1.0", drop="2.0"))
    write_pending(run, PendingSwitch(keep="2.0", drop="1.0"))
    assert read_pending(run) == PendingSwitch(keep="2.0", drop="1.0")
    remove_pending(run)
    remove_pending(run)
    assert read_pending(run) is None
