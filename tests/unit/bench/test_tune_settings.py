"""Which settings are tried on which machine, and which one is taken."""

import pytest

from catdog_serving.bench.tune_settings import (
    MOST_SETTINGS,
    Goal,
    Trial,
    best,
    ranked,
    settings_to_try,
)
from catdog_serving.torchserve.worker_settings import WorkerSettings

CURRENT = WorkerSettings(workers=1, batch_size=8, max_batch_delay_ms=5)


@pytest.mark.parametrize(
    ("cores", "gpus", "memory_gb", "workers"),
    [
        (1, 0, 8, {1}),
        (2, 0, 24, {1, 2}),
        (4, 0, 24, {1, 2}),
        (8, 0, 32, {1, 2}),
        (64, 0, 256, {1, 8, 16}),
        (64, 0, 24, {1, 8}),  # 16 workers would take all the memory
        (64, 0, 2, {1}),
        (16, 1, 64, {1, 2}),
        (64, 4, 256, {4, 8, 1}),  # and the current setting
    ],
)
def test_workers_follow_the_machine(
    cores: int, gpus: int, memory_gb: float, workers: set[int]
) -> None:
    settings = settings_to_try(CURRENT, cores, gpus, memory_gb)
    assert {setting.workers for setting in settings} == workers
    assert settings[0] == CURRENT
    assert len(set(settings)) == len(settings) <= MOST_SETTINGS
    assert {4, 8, 16} <= {s.batch_size for s in settings} or gpus
    assert all(setting.max_batch_delay_ms >= 1 for setting in settings)


def test_the_current_setting_is_among_them_whatever_it_is() -> None:
    odd = WorkerSettings(workers=3, batch_size=5, max_batch_delay_ms=77)
    settings = settings_to_try(odd, 64, 0, 256)
    assert settings[0] == odd
    assert len(settings) == MOST_SETTINGS


def trial(workers: int, images_per_s: float, p99_ms: float = 100, not_200: int = 0) -> Trial:
    return Trial(WorkerSettings(workers, 8, 5), images_per_s, p99_ms / 2, p99_ms, not_200)


def test_the_fastest_is_taken() -> None:
    trials = [trial(1, 10), trial(2, 12), trial(4, 11)]
    assert best(trials, Goal(), CURRENT) == trials[1]
    assert [t.worker_settings.workers for t in ranked(trials, Goal())] == [2, 4, 1]


def test_noise_does_not_move_the_current_setting() -> None:
    trials = [trial(1, 10), trial(2, 10.2)]
    assert best(trials, Goal(), CURRENT) == trials[0]


def test_of_equally_fast_new_settings_the_simplest_is_taken() -> None:
    trials = [trial(1, 10), trial(4, 20.1), trial(2, 20)]
    assert best(trials, Goal(), CURRENT) == trials[2]


def test_with_a_p99_the_fastest_of_those_below_it_is_taken() -> None:
    trials = [trial(1, 10, 300), trial(2, 30, 900), trial(4, 20, 500)]
    assert best(trials, Goal(p99_ms=600), CURRENT) == trials[2]
    assert best(trials, Goal(p99_ms=100), CURRENT) is None
    assert [t.p99_ms for t in ranked(trials, Goal(p99_ms=100))] == [300, 500, 900]


def test_a_setting_that_refuses_requests_is_never_taken() -> None:
    trials = [trial(1, 10), trial(2, 30, not_200=1)]
    assert best(trials, Goal(), CURRENT) == trials[0]


def test_runs_of_one_setting_are_summed_up_by_their_medians() -> None:
    runs = [trial(1, 10, 100), trial(1, 30, 300, not_200=2), trial(1, 20, 900)]
    summed = Trial.summed(runs)
    assert (summed.images_per_s, summed.p50_ms, summed.p99_ms) == (20, 150, 300)
    assert (summed.not_200, summed.runs) == (2, 3)
