"""The policy of `catdog autoscale` against a model of the server's queue, in simulated hours."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catdog_serving.rollout.autoscale_policy import Policy
from catdog_serving.rollout.autoscale_settings import PolicySettings
from tests.support.queue_model import Change, QueueModel, follow

SLOW = {"base_s": 0.1, "per_image_s": 0.1}  # a tenth of a second an image: hours take seconds


def model_of(load: Callable[[float], float], **values: Any) -> QueueModel:
    """A server whose load over time is given in workers that never pause."""
    model = QueueModel(lambda _: 0, **(SLOW | values))
    model.rate = lambda time_s: load(time_s) * model.capacity
    return model


def counts(changes: list[Change]) -> list[int]:
    return [changes[0].before, *(change.after for change in changes)] if changes else []


def turns(changes: list[Change]) -> int:
    """How often it changed its direction."""
    ups = [change.after > change.before for change in changes]
    return sum(earlier != later for earlier, later in pairwise(ups))


def assert_within_limits(changes: list[Change], chosen: PolicySettings) -> None:
    for change in changes:
        assert chosen.min_workers <= change.after <= chosen.max_workers
        assert change.after >= change.before - 1
        last_minute = [
            c.after - c.before for c in changes if change.time_s - 60 < c.time_s <= change.time_s
        ]
        assert sum(max(0, added) for added in last_minute) <= chosen.up_limit_per_minute
        assert sum(max(0, -added) for added in last_minute) <= chosen.down_limit_per_minute


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("load", [0.3, 0.9, 1.7, 2.3, 3.1])
def test_a_step_is_followed_upwards_alone_and_then_nothing_changes(load: float, seed: int) -> None:
    model = model_of(lambda _: load, seed=seed)
    changes = follow(Policy(PolicySettings(1, 8)), model, 1800)
    assert counts(changes) == sorted(counts(changes))
    assert len(changes) <= 3
    # What is enough on average may be too little for six bad seconds, some minutes later.
    assert all(change.time_s < 900 for change in changes)
    assert math.ceil(load) <= model.workers <= math.ceil(load / 0.5)
    late = [wait_s for arrival_s, wait_s in model.waits_s if arrival_s > 240]
    assert np.percentile(late, 99) < 2  # a full batch takes 0.9 s
    assert_within_limits(changes, PolicySettings(1, 8))


@pytest.mark.parametrize("seed", range(3))
def test_a_spike_is_met_at_once_and_given_back_slowly(seed: int) -> None:
    chosen = PolicySettings(1, 4)

    def spike(time_s: float) -> float:
        return 2.2 if 300 <= time_s < 420 else 0.2

    model = model_of(spike, seed=seed)
    changes = follow(Policy(chosen), model, 1800)
    ups = [change for change in changes if change.after > change.before]
    downs = [change for change in changes if change.after < change.before]
    assert changes == ups + downs
    assert 300 <= ups[0].time_s <= 310
    assert downs[0].time_s >= 420 + chosen.down_window_s
    assert model.workers == 1
    assert_within_limits(changes, chosen)

    fixed = model_of(spike, seed=seed)
    fixed.step(1800)
    assert model.refused < fixed.refused / 4
    p99 = [np.percentile([wait_s for _, wait_s in each.waits_s], 99) for each in (model, fixed)]
    assert p99[0] < p99[1]


@pytest.mark.parametrize("seed", range(3))
def test_a_ramp_up_and_down_is_followed_without_a_turn(seed: int) -> None:
    model = model_of(lambda time_s: max(0.0, 3 - abs(time_s - 3600) / 1200), seed=seed)
    changes = follow(Policy(PolicySettings(1, 8)), model, 7800)
    assert turns(changes) == 1
    assert 4 <= max(counts(changes)) <= 6
    assert model.workers == 1
    assert model.refused == 0
    assert_within_limits(changes, PolicySettings(1, 8))


def test_two_days_are_twice_up_and_down() -> None:
    """Days of two hours."""
    day_s = 2 * 3600
    model = model_of(lambda t: 1.3 - 1.2 * math.cos(2 * math.pi * t / day_s))
    changes = follow(Policy(PolicySettings(1, 6)), model, 2 * day_s)
    assert turns(changes) == 3
    assert max(counts(changes)) >= 3
    assert model.refused == 0
    assert model.workers == 1
    assert_within_limits(changes, PolicySettings(1, 6))


@pytest.mark.parametrize("seed", range(3))
def test_noise_does_not_make_it_swing(seed: int) -> None:
    """Every two seconds another load, between 0.2 and 1.4 workers: an hour of it."""
    random = np.random.default_rng(seed)
    noise = random.uniform(0.2, 1.4, 1801)
    model = model_of(lambda time_s: noise[int(time_s / 2) % len(noise)], seed=seed)
    changes = follow(Policy(PolicySettings(1, 6)), model, 3600)
    assert len(changes) <= 4
    assert_within_limits(changes, PolicySettings(1, 6))


def test_workers_that_share_cores_go_to_the_maximum_and_stay_there() -> None:
    """More workers do not help then, and look as busy as before; nothing swings."""
    model = model_of(lambda _: 1.5, cores=1)
    changes = follow(Policy(PolicySettings(1, 3)), model, 3600)
    assert counts(changes) == sorted(counts(changes))
    assert model.workers == 3


@settings(max_examples=20)
@given(
    low=st.integers(1, 3),
    room=st.integers(0, 5),
    levels=st.lists(st.floats(0, 8), min_size=1, max_size=12),
    period_s=st.sampled_from([10, 40, 200]),
    cores=st.integers(1, 8),
    seed=st.integers(0, 1000),
)
def test_whatever_comes_the_limits_hold(
    low: int, room: int, levels: list[float], period_s: int, cores: int, seed: int
) -> None:
    chosen = PolicySettings(low, low + room, down_window_s=30)
    model = model_of(
        lambda time_s: levels[int(time_s / period_s) % len(levels)],
        workers=low,
        cores=cores,
        seed=seed,
    )
    changes = follow(Policy(chosen), model, 400)
    assert_within_limits(changes, chosen)
    assert turns(changes) <= 2 * 400 / (30 + 4)  # a turn down needs calm, and a turn up high load
