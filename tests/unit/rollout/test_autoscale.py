"""The loop of `catdog autoscale`: what it says, what it changes, what it survives."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from catdog_serving.errors import NotReadyError, ServerUnavailableError
from catdog_serving.monitoring.metrics import Rates
from catdog_serving.monitoring.status import ServerStatus, Snapshot
from catdog_serving.rollout import autoscale as module
from catdog_serving.rollout.autoscale import Autoscaler
from catdog_serving.rollout.autoscale_policy import Policy
from catdog_serving.rollout.autoscale_settings import PolicySettings
from catdog_serving.torchserve.management import ModelStatus, WorkerStatus

AWAY = ServerUnavailableError("no management API at http://127.0.0.1:1;\nstart the server")


def version(name: str, states: list[str], default: bool = True) -> ModelStatus:
    workers = [
        WorkerStatus(str(9000 + number), state, 100 + number, gpu=False, memory_bytes=0)
        for number, state in enumerate(states)
    ]
    return ModelStatus(name, default, 8, 5, 60, 120, tuple(workers), 48, 0)


def snapshot(workers: int = 1, busy: float = 0.1, *others: ModelStatus) -> Snapshot:
    """Workers that are READY; `busy` of them compute, with full batches."""
    rates = Rates(
        seconds=2,
        requests_per_s=40,
        answers_per_s=40,
        invalid_per_s=0,
        errors_per_s=0,
        request_s=0.05,
        queue_s=0.01,
        batch_images=8,
        busy_workers=busy,
        stages={},
    )
    models = (version("1.0", ["READY"] * workers), *others)
    memory_bytes = {worker.id: 700_000_000 for worker in models[0].workers}
    return Snapshot(ServerStatus("http://x", models, {"threads": 1}, None), rates, memory_bytes, 10)


class Loop:
    """An Autoscaler with a clock of its own; a snapshot every two seconds."""

    def __init__(
        self, change: Callable[[int], object] | None = None, high: int = 2, dry_run: bool = False
    ) -> None:
        self.lines: list[str] = []
        self.changes: list[int] = []
        self.now_s = 1000.0
        self.scaler = Autoscaler(
            Policy(PolicySettings(1, high)),
            change or self.changes.append,
            self.lines.append,
            dry_run=dry_run,
            clock=lambda: self.now_s,
        )

    def see(self, seen: Snapshot | ServerUnavailableError, times: int = 1) -> None:
        for _ in range(times):
            self.scaler.act_on(seen)
            self.now_s += 2

    def said(self, words: str) -> list[str]:
        return [line for line in self.lines if words in line]


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 64 cores and enough memory."""
    monkeypatch.setattr(module, "usable_cores", lambda: 64)
    monkeypatch.setattr(module, "available_bytes", lambda: 64 * 10**9)


def test_a_decision_is_a_line_with_its_reason_and_then_a_line_when_it_is_done() -> None:
    loop = Loop()
    loop.see(snapshot(busy=0.95), 3)
    assert loop.changes == [2]
    (decided,) = loop.said("scale 1 -> 2: workers over 80% busy: 40.0 requests/s, 0.95 busy")
    (done,) = loop.said("2 workers READY after 0.0 s")
    assert loop.lines.index(done) == loop.lines.index(decided) + 1


def test_ten_quiet_minutes_are_ten_lines() -> None:
    loop = Loop()
    loop.see(snapshot(), 300)
    assert loop.changes == []
    assert len(loop.lines) == len(loop.said("1 worker: 40.0 requests/s, 0.10 busy")) == 10


def test_a_dry_run_says_once_a_minute_what_it_would_do_and_does_nothing() -> None:
    loop = Loop(dry_run=True)
    loop.see(snapshot(busy=0.95), 62)  # two minutes, and four seconds for the first decision
    assert loop.changes == []
    assert len(loop.said("would scale 1 -> 2: workers over 80% busy")) == 2


def test_a_server_that_is_away_is_said_once_and_so_is_its_return() -> None:
    loop = Loop()
    loop.see(snapshot(busy=0.95), 2)
    loop.see(AWAY, 50)
    loop.see(replace(snapshot(busy=0.95), rates=None))
    assert len(loop.said("the server is away, waiting for it: no management API at")) == 1
    assert "\n" not in loop.said("away")[0]
    assert len(loop.said("the server is back")) == 1
    # What was seen before does not count: the load must be high for four seconds again.
    loop.see(snapshot(busy=0.95), 2)
    assert loop.changes == []
    loop.see(snapshot(busy=0.95))
    assert loop.changes == [2]


def test_a_change_that_fails_is_a_line_and_tried_again_after_a_minute() -> None:
    def refuse(_: int) -> None:
        raise NotReadyError("catdog deploy is changing this server;\ntry again")

    loop = Loop(refuse)
    loop.see(snapshot(busy=0.95), 20)
    assert loop.said("not scaled: catdog deploy is changing this server; try again")
    loop.see(snapshot(busy=0.95), 20)
    assert len(loop.said("not scaled")) == 2


def test_a_bug_is_not_taken_for_a_failure() -> None:
    loop = Loop({}.__getitem__)
    with pytest.raises(KeyError):
        loop.see(snapshot(busy=0.95), 3)


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (
            snapshot(1, 0.95, version("2.0", ["READY"], default=False)),
            "version 2.0 is loaded beside",
        ),
        (
            replace(
                snapshot(2, 1.9),
                status=ServerStatus("", (version("1.0", ["READY", "UNLOADING"]),), None, None),
            ),
            "1 of 2 workers are READY",
        ),
        (replace(snapshot(), status=ServerStatus("", (), None, None)), "catdog is not loaded"),
    ],
)
def test_nothing_is_decided_while_the_server_is_changing(seen: Snapshot, reason: str) -> None:
    loop = Loop(high=4)
    loop.see(seen, 20)
    assert loop.changes == []
    assert len(loop.said(f"waiting: {reason}")) == len(loop.lines) == 1


def test_a_version_without_workers_does_not_count() -> None:
    loop = Loop()
    loop.see(snapshot(1, 0.95, version("2.0", [], default=False)), 3)
    assert loop.changes == [2]


def test_workers_below_the_minimum_are_added_at_once() -> None:
    loop = Loop()
    none = ServerStatus("", (version("1.0", []),), None, None)
    loop.see(replace(snapshot(), status=none, memory_bytes={}))
    assert loop.changes == [1]
    assert loop.said("scale 0 -> 1: --min is 1 and --max is 2")


def test_a_maximum_that_memory_does_not_allow_is_warned_of_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "available_bytes", lambda: 2 * 10**9)
    loop = Loop(high=5)
    loop.see(snapshot(), 40)
    (warning,) = loop.said("warning")
    assert "--max 5 is more than memory allows: 4 more workers take about 2.8 GB" in warning
    assert "2.0 GB is free" in warning
    fits = Loop(high=3)
    fits.see(snapshot())
    assert fits.said("warning") == []


@pytest.mark.parametrize(
    ("high", "threads", "advice"),
    [
        (2, 1, None),
        (2, 2, "set maxWorkers to 2 in config.properties"),
        (3, 1, "choose a --max of up to 2"),
    ],
)
def test_workers_that_would_share_cores_are_warned_of(
    monkeypatch: pytest.MonkeyPatch, high: int, threads: int, advice: str | None
) -> None:
    monkeypatch.setattr(module, "usable_cores", lambda: 2)
    loop = Loop(high=high)
    seen = snapshot()
    loop.see(replace(seen, status=replace(seen.status, facts={"threads": threads})), 40)
    warnings = loop.said("warning: --max")
    assert len(warnings) == (advice is not None)
    assert (advice or "") in "".join(warnings)
