"""`catdog autoscale` without a server: what it decides, says and survives."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catdog_serving.errors import NotReadyError, ServerUnavailableError, UsageError
from catdog_serving.monitoring.metrics import Rates
from catdog_serving.monitoring.snapshot import ServerStatus, Snapshot
from catdog_serving.rollout.autoscale import (
    Autoscaler,
    AutoscaleSettings,
    Stabiliser,
    busy_share,
    desired_workers,
)
from catdog_serving.torchserve.management import ModelStatus, WorkerStatus

ONE_TO_EIGHT = AutoscaleSettings(1, 8)  # the target is 65 % busy; 6 s up, 120 s down
INTERVAL_S = 2.0


# --- what is decided --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "workers", "desired"),
    [
        (0.95, 1, 2),
        (0.95, 4, 6),
        (0.65, 3, 3),
        (0.71, 3, 3),  # within a tenth of the target
        (0.72, 3, 4),
        (0.59, 3, 3),
        (0.43, 3, 2),
        (0.30, 2, 1),
        (0.0, 2, 0),
    ],
)
def test_the_number_is_kubernetes_formula(metric: float, workers: int, desired: int) -> None:
    assert desired_workers(metric, workers) == desired


def decisions(metrics: list[float | None], workers: int, settings: AutoscaleSettings) -> list[int]:
    """Decided at each snapshot, while the number of workers stays what it is."""
    stabiliser = Stabiliser(settings)
    return [
        stabiliser.decide(metric, workers, INTERVAL_S * number)
        for number, metric in enumerate(metrics)
    ]


def test_up_takes_the_smallest_number_of_its_window() -> None:
    assert decisions([0.95] * 4, 2, ONE_TO_EIGHT) == [2, 2, 2, 3]
    assert decisions([0.95, 0.95, 0.3] * 10, 2, ONE_TO_EIGHT) == [2] * 30
    flood = decisions([1.0, 1.0, 0.8, 1.0], 8, AutoscaleSettings(1, 20))
    assert flood == [8, 8, 8, 10]  # what 0.8 asked for


def test_down_takes_the_largest_number_of_its_window() -> None:
    settings = AutoscaleSettings(1, 8, down_window_s=20)
    assert decisions([0.0] * 11, 4, settings) == [4] * 10 + [1]
    once_half_busy = decisions([0.0] * 5 + [0.4] + [0.0] * 10, 4, settings)
    assert once_half_busy == [4] * 10 + [3] * 5 + [1]  # until it is 20 s ago


def test_what_is_not_known_changes_nothing() -> None:
    assert decisions([None] * 100, 3, ONE_TO_EIGHT) == [3] * 100
    # Between the snapshots of long batches, those that show one count.
    assert decisions([0.95, None, 0.95, None, 0.95], 1, ONE_TO_EIGHT) == [1, 1, 1, 1, 2]


def test_from_outside_of_the_limits_it_goes_there_at_once() -> None:
    assert decisions([None], 1, AutoscaleSettings(3, 5)) == [3]
    assert decisions([0.95], 9, AutoscaleSettings(3, 5)) == [5]
    assert set(decisions([0.95] * 50, 2, AutoscaleSettings(2, 2))) == {2}


def test_what_was_seen_of_another_number_of_workers_does_not_count() -> None:
    stabiliser = Stabiliser(ONE_TO_EIGHT)
    for now_s in (0, 2, 4):
        assert stabiliser.decide(0.95, 1, now_s) == 1
    assert stabiliser.decide(0.95, 2, 6) == 2  # an operator added one
    stabiliser.forget()
    assert [stabiliser.decide(0.95, 2, now_s) for now_s in (8, 10, 12, 14)] == [2, 2, 2, 3]


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"min_workers": 0}, "--min is at least 1 worker, got 0"),
        ({"min_workers": 9}, "--max 8 is below --min 9"),
        ({"down_window_s": 0}, "--calm is a number of seconds over 0, got 0"),
        ({"down_window_s": math.nan}, "--calm is a number of seconds over 0, got nan"),
    ],
)
def test_settings_are_checked_at_once(values: dict[str, float], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        replace(ONE_TO_EIGHT, **values)  # type: ignore[arg-type]


# --- over simulated hours ---------------------------------------------------------------------


def follow(
    load: Callable[[float], float], seconds: float, settings: AutoscaleSettings, seed: int = 0
) -> list[int]:
    """The number of workers at each snapshot.

    Args:
        load: In workers that never pause, at a time; what is seen of it has noise of 10 %.
        seconds: How long.
        settings: When to scale.
        seed: Of the noise.
    """
    random = np.random.default_rng(seed)
    stabiliser, workers, seen = Stabiliser(settings), settings.min_workers, []
    for now_s in np.arange(0, seconds, INTERVAL_S):
        busy = load(now_s) * random.normal(1, 0.1) / workers
        workers = stabiliser.decide(float(np.clip(busy, 0, 0.95)), workers, float(now_s))
        seen.append(workers)
    return seen


def turns(seen: list[int]) -> int:
    """How often it changed its direction."""
    steps = [step for step in np.diff(seen) if step]
    return sum(a * b < 0 for a, b in pairwise(steps))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("load", [0.3, 0.9, 1.7, 2.9])
def test_a_step_is_followed_upwards_and_then_nothing_changes(load: float, seed: int) -> None:
    seen = follow(lambda _: load, 3600, ONE_TO_EIGHT, seed)
    assert turns(seen) == 0
    assert math.ceil(load) <= seen[-1] <= math.ceil(load / 0.65) + 1
    assert seen[-1] == seen[150]  # from the fifth minute on


@pytest.mark.parametrize("period_s", [10, 60, 110])
def test_a_sawtooth_within_the_calm_does_not_make_it_swing(period_s: int) -> None:
    seen = follow(lambda time_s: 3 * (time_s % period_s) / period_s, 3600, ONE_TO_EIGHT)
    assert turns(seen) == 0


def test_a_day_is_once_up_and_down() -> None:
    """Of two hours, the load between 0.1 and 2.5 workers."""
    day_s = 2 * 3600
    seen = follow(lambda t: 1.3 - 1.2 * math.cos(2 * math.pi * t / day_s), day_s, ONE_TO_EIGHT)
    assert turns(seen) == 1
    assert (max(seen), seen[-1]) == (pytest.approx(4, abs=1), 1)


@given(
    low=st.integers(1, 3),
    room=st.integers(0, 5),
    loads=st.lists(st.floats(0, 20), min_size=1, max_size=12),
    period_s=st.sampled_from([10, 40, 200]),
)
def test_whatever_comes_the_limits_and_the_calm_hold(
    low: int, room: int, loads: list[float], period_s: int
) -> None:
    settings = AutoscaleSettings(low, low + room, down_window_s=30)
    seen = follow(lambda time_s: loads[int(time_s / period_s) % len(loads)], 400, settings)
    assert low <= min(seen) <= max(seen) <= low + room
    assert turns(seen) <= 2 * 400 / (30 + 6)


# --- what is said and done --------------------------------------------------------------------


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
    return Snapshot(ServerStatus("http://x", "", models, None, None), rates, memory_bytes, 10)


class Loop:
    """An Autoscaler with a clock of its own; a snapshot every two seconds."""

    def __init__(
        self, change: Callable[[int], object] | None = None, high: int = 2, dry_run: bool = False
    ) -> None:
        self.lines: list[str] = []
        self.changes: list[int] = []
        self.now_s = 1000.0
        self.scaler = Autoscaler(
            AutoscaleSettings(1, high),
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


def test_a_decision_is_a_line_with_its_reason_and_then_a_line_when_it_is_done() -> None:
    loop = Loop()
    loop.see(snapshot(busy=0.95), 4)
    assert loop.changes == [2]
    (decided,) = loop.said(
        "scale 1 -> 2: 95% busy, 40.0 requests/s, wait 0.010 s, 0 waiting; the target is 65% busy"
    )
    (done,) = loop.said("2 workers READY after 0.0 s")
    assert loop.lines.index(done) == loop.lines.index(decided) + 1


def test_ten_quiet_minutes_are_ten_lines() -> None:
    loop = Loop()
    loop.see(snapshot(), 300)
    assert loop.changes == []
    assert len(loop.lines) == len(loop.said("1 worker: 10% busy, 40.0 requests/s")) == 10


def test_a_dry_run_says_once_a_minute_what_it_would_do_and_does_nothing() -> None:
    loop = Loop(dry_run=True)
    loop.see(snapshot(busy=0.95), 63)  # two minutes, and six seconds for the first decision
    assert loop.changes == []
    assert len(loop.said("would scale 1 -> 2: 95% busy")) == 2


def test_a_server_that_is_away_is_said_once_and_so_is_its_return() -> None:
    loop = Loop()
    loop.see(snapshot(busy=0.95), 2)
    loop.see(AWAY, 50)
    loop.see(replace(snapshot(busy=0.95), rates=None))
    assert len(loop.said("the server is away, waiting for it: no management API at")) == 1
    assert "\n" not in loop.said("away")[0]
    assert len(loop.said("the server is back")) == 1
    # What was seen before does not count: the load must be high for six seconds again.
    loop.see(snapshot(busy=0.95), 2)
    assert loop.changes == []
    loop.see(snapshot(busy=0.95))
    assert loop.changes == [2]


def test_it_ends_when_it_was_told_to_though_the_change_could_not_be_undone() -> None:
    def change(_: int) -> None:
        raise NotReadyError("it could not be undone") from SystemExit(0)

    loop = Loop(change)
    with pytest.raises(NotReadyError, match="not be undone"):
        loop.see(snapshot(busy=0.95), 30)


def test_a_change_that_fails_is_a_line_and_tried_again_after_a_minute() -> None:
    def refuse(_: int) -> None:
        raise NotReadyError("catdog deploy is changing this server;\ntry again")

    loop = Loop(refuse)
    loop.see(snapshot(busy=0.95), 30)
    assert loop.said("not scaled: catdog deploy is changing this server; try again")
    assert loop.said("waiting: the last change failed less than 60 s ago")
    loop.see(snapshot(busy=0.95), 10)
    assert len(loop.said("not scaled")) == 2


def test_a_bug_is_not_taken_for_a_failure() -> None:
    loop = Loop({}.__getitem__)
    with pytest.raises(KeyError):
        loop.see(snapshot(busy=0.95), 4)


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
                status=ServerStatus("", "", (version("1.0", ["READY", "UNLOADING"]),), None, None),
            ),
            "1 of 2 workers are READY",
        ),
        (replace(snapshot(), status=ServerStatus("", "", (), None, None)), "catdog is not loaded"),
    ],
)
def test_nothing_is_decided_while_the_server_is_changing(seen: Snapshot, reason: str) -> None:
    loop = Loop(high=4)
    loop.see(seen, 20)
    assert loop.changes == []
    assert len(loop.said(f"waiting: {reason}")) == len(loop.lines) == 1


def test_a_version_without_workers_does_not_count() -> None:
    loop = Loop()
    loop.see(snapshot(1, 0.95, version("2.0", [], default=False)), 4)
    assert loop.changes == [2]


def test_a_long_batch_that_has_not_ended_is_not_known() -> None:
    silent = snapshot(busy=0)
    assert silent.rates is not None
    silent = replace(silent, rates=replace(silent.rates, answers_per_s=0))
    assert busy_share(silent) == 0  # nothing came
    (model,) = silent.status.models
    status = replace(silent.status, models=(replace(model, pending_requests=3),))
    assert busy_share(replace(silent, status=status)) is None
    assert busy_share(snapshot(workers=2, busy=3.5)) == 1  # its seconds count when it ends


def test_workers_below_the_minimum_are_added_at_once() -> None:
    loop = Loop()
    none = ServerStatus("", "", (version("1.0", []),), None, None)
    loop.see(replace(snapshot(), status=none, memory_bytes={}))
    assert loop.changes == [1]
    assert loop.said("scale 0 -> 1: --min is 1 and --max is 2")
