"""The policy of `catdog autoscale`, snapshot by snapshot."""

import math
from itertools import pairwise

import pytest

from catdog_serving.errors import UsageError
from catdog_serving.rollout.autoscale_policy import Load, Policy, mean_load, too_few, too_many
from catdog_serving.rollout.autoscale_settings import PolicySettings

ONE_TO_FOUR = PolicySettings(1, 4)
IDLE = Load(0, 0, 0, None, None, 0)
FULL = Load(60, 40, busy_workers=0.95, batch_fill=1, queue_s=0.6, waiting=40)


def load(busy: float, fill: float = 1, queue_s: float = 0.01, waiting: float = 0) -> Load:
    return Load(50, 50, busy, fill, queue_s, waiting)


def more(seen: Load, workers: int) -> int | None:
    found = too_few(seen, workers, ONE_TO_FOUR)
    return found and found.workers


def one_less(seen: Load, workers: int) -> bool:
    return too_many(seen, workers, ONE_TO_FOUR)


# --- what one snapshot says -------------------------------------------------------------------


def test_what_is_needed_follows_what_came_and_not_what_was_answered() -> None:
    # One worker does 40 / 0.95 = 42 a second; 60 a second and the queue ask for 1.5 of it.
    assert more(FULL, 1) == math.ceil((60 + 40 / 15) * (0.95 / 40) / 0.65) == 3
    assert more(Load(120, 40, 0.95, 1, 0.6, 48), 1) == 5


def test_a_little_too_much_is_a_reason_for_one_worker() -> None:
    assert more(load(3.8), 4) == 5
    assert more(Load(58, 50, 3.9, 1, 0.1, 10), 4) == 5
    assert more(Load(70, 50, 3.9, 1, 0.1, 10), 4) == 9


def test_between_the_thresholds_nothing_changes() -> None:
    for busy in (0.51, 1.0, 1.59):
        assert more(load(busy), 2) is None
        assert not one_less(load(busy), 2)


def test_busy_workers_with_room_in_their_batches_are_enough() -> None:
    assert more(load(0.9, fill=0.4), 1) is None
    assert more(load(0.9, fill=0.6), 1) == 2


def test_long_waits_ask_for_more_even_of_workers_that_are_not_busy() -> None:
    assert more(load(0.5, fill=0.2, queue_s=0.6), 1) == 2


def test_a_worker_goes_only_if_the_others_can_do_the_work() -> None:
    assert one_less(load(0.45), 2)
    assert not one_less(load(0.55), 2)
    assert not one_less(load(0.45, queue_s=0.2), 2)  # they wait for something
    assert one_less(IDLE, 2)
    assert not one_less(IDLE, 1)


def test_the_end_of_a_long_batch_is_no_reason_for_many_workers() -> None:
    # More busy seconds than the interval has; 4 images a second would need 3.5 workers.
    assert more(Load(1.1, 4, 3.5, 1, 3, 5), 1) == 2


def test_a_mean_weighs_waits_by_the_answers() -> None:
    found = mean_load([Load(10, 30, 1, 0.5, 0.4, 2), Load(20, 10, 2, 1, 0.8, 4), IDLE])
    assert (found.requests_per_s, found.busy_workers, found.waiting) == (10, 1, 2)
    assert found.answers_per_s == pytest.approx(40 / 3)
    assert (found.batch_fill, found.queue_s) == (0.75, pytest.approx(0.5))
    assert mean_load([IDLE, IDLE]) == IDLE


def test_a_reason_gives_the_numbers() -> None:
    found = too_few(FULL, 1, ONE_TO_FOUR)
    assert found is not None
    assert found.reason == (
        "workers over 80% busy: 60.0 requests/s, 0.95 busy, batches 100% full, wait 0.600 s, "
        "40 waiting"
    )


# --- from snapshot to snapshot ----------------------------------------------------------------


def test_up_needs_a_high_load_for_a_while_and_may_take_several_steps_at_once() -> None:
    policy = Policy(ONE_TO_FOUR)
    found = [policy.decide(FULL, 1, now_s).workers for now_s in (0, 2, 4)]
    assert found == [1, 1, 3]


def test_a_single_high_look_changes_nothing() -> None:
    policy = Policy(ONE_TO_FOUR)
    loads = [FULL, FULL, IDLE] * 20
    assert {policy.decide(load, 1, 2 * number).workers for number, load in enumerate(loads)} == {1}


def test_down_is_one_at_a_time_after_calm_and_one_a_minute() -> None:
    policy = Policy(PolicySettings(1, 4, down_window_s=20))
    workers, steps = 4, []
    for now_s in range(0, 400, 2):
        decision = policy.decide(IDLE, workers, now_s)
        if decision.workers != workers:
            steps.append((now_s, decision.workers))
            policy.applied(decision.workers - workers, now_s)
            workers = decision.workers
    assert [count for _, count in steps] == [3, 2, 1]
    assert steps[0][0] >= 20
    assert all(later - earlier >= 60 for (earlier, _), (later, _) in pairwise(steps))


def test_one_snapshot_of_load_starts_the_window_anew() -> None:
    policy = Policy(PolicySettings(1, 4, down_window_s=20))
    found = [
        policy.decide(FULL if now_s == 30 else IDLE, 2, now_s).workers for now_s in range(0, 54, 2)
    ]
    assert found[10] == 1  # it could have gone at 20, and nobody took it
    # The mean up to 30 and the next ones are no calm; then 20 s of it are needed.
    assert found[15:] == [2] * 12


def test_outside_of_the_limits_it_goes_there_at_once() -> None:
    assert Policy(PolicySettings(3, 5)).decide(IDLE, 1, 0).workers == 3
    assert Policy(PolicySettings(3, 5)).decide(FULL, 9, 0).workers == 5
    assert Policy(PolicySettings(2, 2)).decide(FULL, 2, 0).workers == 2


def test_a_look_within_one_long_batch_tells_nothing() -> None:
    policy = Policy(ONE_TO_FOUR)
    within = Load(1, 0, 0, None, None, 5)
    loads = [FULL, within, within, FULL, within]
    found = [policy.decide(load, 1, 2 * number).workers for number, load in enumerate(loads)]
    assert found == [1, 1, 1, 3, 1]


def test_no_more_than_so_many_workers_within_a_minute() -> None:
    policy = Policy(PolicySettings(1, 20, up_limit_per_minute=3))
    flood = Load(500, 40, 0.95, 1, 1, 48)
    workers, added = 1, []
    for now_s in range(0, 130, 2):
        decision = policy.decide(flood, workers, now_s)
        if decision.workers != workers:
            added.append((now_s, decision.workers - workers))
            policy.applied(decision.workers - workers, now_s)
            workers = decision.workers
    assert [count for _, count in added] == [3, 3, 3]
    assert all(later - earlier >= 60 for (earlier, _), (later, _) in pairwise(added))


def test_after_a_change_that_failed_it_waits_before_it_tries_again() -> None:
    policy = Policy(ONE_TO_FOUR)
    for now_s in (0, 2):
        policy.decide(FULL, 1, now_s)
    assert policy.decide(FULL, 1, 4).workers == 3
    policy.failed(4)
    again = next(now_s for now_s in range(6, 200, 2) if policy.decide(FULL, 1, now_s).workers > 1)
    assert again == 68  # 60 s of cooldown, 4 s of snapshots
    below = Policy(PolicySettings(2, 4))
    assert below.decide(IDLE, 1, 0).workers == 2
    below.failed(0)
    found = [below.decide(IDLE, 1, now_s).workers for now_s in (2, 58, 60)]
    assert found == [1, 1, 2]


def test_what_was_seen_of_another_number_of_workers_does_not_count() -> None:
    policy = Policy(ONE_TO_FOUR)
    for now_s in (0, 2):
        policy.decide(FULL, 1, now_s)
    assert policy.decide(FULL, 2, 4).workers == 2  # an operator added one
    policy.forget()
    assert policy.decide(FULL, 2, 6).workers == 2


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"min_workers": 0}, "--min is at least 1 worker, got 0"),
        ({"min_workers": 5}, "--max 4 is below --min 5"),
        ({"up_utilisation": 0.6}, "0.5, 0.65 and 0.6"),
        ({"up_utilisation": 1.2}, "<= 1 must hold"),
        ({"up_fill": 1.5}, "up_fill is a share of a batch, 0 to 1, got 1.5"),
        ({"up_queue_s": 0.1}, "0.1 and 0.1"),
        ({"up_queue_s": math.nan}, "nan"),
        ({"down_window_s": 0}, "down_window_s (--calm) is a number of seconds over 0, got 0"),
        ({"cooldown_s": math.inf}, "cooldown_s is a number of seconds"),
        ({"up_limit_per_minute": 0}, "up_limit_per_minute is at least 1 worker"),
    ],
)
def test_settings_are_checked_at_once(values: dict[str, float], complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        PolicySettings(**({"min_workers": 1, "max_workers": 4} | values))  # type: ignore[arg-type]
    assert complaint in str(caught.value)


def test_a_load_that_comes_back_as_soon_as_a_worker_is_gone_swings_ever_more_slowly() -> None:
    policy = Policy(PolicySettings(1, 2))
    workers, downs = 2, []
    for now_s in range(0, 6 * 3600, 4):
        decision = policy.decide(FULL if workers == 1 else IDLE, workers, now_s)
        if decision.workers != workers:
            downs += [now_s] if decision.workers < workers else []
            policy.applied(decision.workers - workers, now_s)
            workers = decision.workers
    gaps = [later - earlier for earlier, later in pairwise(downs)]
    assert gaps == sorted(gaps)
    assert gaps[0] < 300
    assert gaps[-1] > 1900
    assert len(downs) < 20
