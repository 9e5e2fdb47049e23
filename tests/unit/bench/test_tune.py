"""What catdog tune tries and takes, without servers; test_measuring.py has real ones."""

from types import SimpleNamespace

import pytest

from catdog_serving.bench import tune as tune_module
from catdog_serving.bench.candidates import MOST_SETTINGS, settings_to_try
from catdog_serving.bench.tune import (
    Trial,
    TuneTimes,
    best,
    ranked,
    requests_under_way,
    tune,
    verdict,
)
from catdog_serving.errors import NotReadyError
from catdog_serving.torchserve.gpus import Gpu
from catdog_serving.torchserve.serving_config import ServingConfig
from catdog_serving.torchserve.worker_settings import WorkerSettings
from tests.support.paths import ROOT

CONFIG = ServingConfig.read(ROOT / "config" / "config.properties")
SETTINGS = tuple(WorkerSettings(workers, 8, 5) for workers in (1, 2, 3, 4, 5))
CURRENT = SETTINGS[0]


def trial(workers: int, images_per_s: float, p99_ms: float = 100, not_200: int = 0) -> Trial:
    return Trial(WorkerSettings(workers, 8, 5), images_per_s, p99_ms / 2, p99_ms, not_200)


# ---- which settings are tried, and which one is taken ----


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
        (16, 1, 64, {1, 2, 4, 8}),
        (2, 1, 24, {1, 2}),
        (64, 4, 256, {4, 8, 16, 32, 1}),  # and the current setting
        (64, 4, 30, {4, 8, 1}),  # 16 workers would take all the memory
    ],
)
def test_workers_follow_the_machine(
    cores: int, gpus: int, memory_gb: float, workers: set[int]
) -> None:
    settings = settings_to_try(CURRENT, cores, [Gpu("0", "GPU-0", 80 << 30)] * gpus, memory_gb)
    assert {setting.workers for setting in settings} == workers
    assert settings[0] == CURRENT
    assert len(set(settings)) == len(settings) <= MOST_SETTINGS
    assert {4, 8, 16} <= {s.batch_size for s in settings} or gpus
    assert all(setting.max_batch_delay_ms >= 1 for setting in settings)
    if gpus:
        assert {s.batch_size for s in settings[1:]} == {8, 32, 64, 128}
        assert {s.max_batch_delay_ms for s in settings[1:]} == {1, 5}


def test_no_more_workers_are_tried_than_fit_into_the_smallest_gpu() -> None:
    gpus = [Gpu("0", "GPU-0", 80 << 30), Gpu("1", "GPU-1", 24 << 30)]  # 24 GiB: 3, twice
    settings = settings_to_try(CURRENT, 64, gpus, 256)
    assert {setting.workers for setting in settings} == {1, 2, 4}


def test_where_all_numbers_of_workers_fit_these_pairs_are_tried() -> None:
    """As docs/performance.md says."""
    current, *others = settings_to_try(CURRENT, 16, [Gpu("0", "GPU-0", 80 << 30)], 256)
    assert current == CURRENT
    assert others == [
        *(WorkerSettings(workers, 64, 1) for workers in (1, 2, 4, 8)),
        *(WorkerSettings(workers, 32, 1) for workers in (1, 2, 4, 8)),
        *(WorkerSettings(8, batch_size, 1) for batch_size in (128, 8)),
        WorkerSettings(8, 64, 5),
    ]


def test_no_more_requests_are_said_to_be_under_way_than_there_were() -> None:
    assert requests_under_way(WorkerSettings(2, 64, 1)) == 256
    assert requests_under_way(WorkerSettings(8, 64, 1)) == 512  # of 1,024


def test_the_current_setting_is_among_them_whatever_it_is() -> None:
    odd = WorkerSettings(workers=3, batch_size=5, max_batch_delay_ms=77)
    settings = settings_to_try(odd, 64, [], 256)
    assert settings[0] == odd
    assert len(settings) == MOST_SETTINGS


@pytest.mark.parametrize(
    ("trials", "p99_ms", "order", "taken"),
    [
        ([trial(1, 10), trial(2, 12), trial(4, 11)], None, [2, 4, 1], 2),  # the fastest
        ([trial(1, 10), trial(2, 10.2)], None, [2, 1], 1),  # noise does not move the current one
        # Of equally fast new settings the simplest.
        ([trial(1, 10), trial(4, 20.1), trial(2, 20)], None, [4, 2, 1], 2),
        # The fastest of those below a p99; if there is none, the nearest is ranked first.
        ([trial(1, 10, 300), trial(2, 30, 900), trial(4, 20, 500)], 600, [4, 1, 2], 4),
        ([trial(1, 10, 300), trial(2, 30, 900), trial(4, 20, 500)], 100, [1, 4, 2], None),
        ([trial(1, 10), trial(2, 30, not_200=1)], None, [1, 2], 1),  # never one that refuses
    ],
)
def test_what_is_taken(
    trials: list[Trial], p99_ms: float | None, order: list[int], taken: int | None
) -> None:
    assert [t.worker_settings.workers for t in ranked(trials, p99_ms)] == order
    chosen = best(trials, p99_ms, CURRENT)
    assert (chosen and chosen.worker_settings.workers) == taken


def test_runs_of_one_setting_are_summed_up_by_their_medians() -> None:
    runs = [trial(1, 10, 100), trial(1, 30, 300, not_200=2), trial(1, 20, 900)]
    summed = Trial.summed(runs)
    assert (summed.images_per_s, summed.p50_ms, summed.p99_ms) == (20, 150, 300)
    assert (summed.not_200, summed.runs) == (2, 3)


# ---- the order of the runs ----


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """More workers are faster, but 4 do not start; gives the workers of each run."""
    order: list[int] = []

    def run(_config: object, worker_settings: WorkerSettings, *_: object) -> Trial:
        order.append(worker_settings.workers)
        if worker_settings.workers == 4:
            raise NotReadyError("not 4 workers were READY within 180 s\nlog")
        return trial(worker_settings.workers, 10.0 * worker_settings.workers)

    monkeypatch.setattr(tune_module, "_run", run)
    return order


def test_the_best_and_the_current_run_again_in_turn(ran: list[int]) -> None:
    tuned = tune(CONFIG, SETTINGS, [], times=TuneTimes(finalists=2, final_runs=2))
    assert ran == [1, 2, 3, 4, 5, *(5, 3, 1), *(5, 3, 1)]
    assert tuned.chosen is not None
    assert (tuned.chosen.worker_settings.workers, tuned.chosen.runs) == (5, 3)


def test_a_setting_that_does_not_start_is_left_out_and_said(ran: list[int]) -> None:
    said: list[str] = []
    tuned = tune(CONFIG, SETTINGS, [], on_step=said.append)
    assert tuned.untried == (SETTINGS[3],)
    left_out = "left out, as it does not work here: not 4 workers were READY within 180 s"
    assert left_out in said


def test_settings_that_do_not_work_in_production_are_an_error(ran: list[int]) -> None:
    with pytest.raises(NotReadyError, match="not 4 workers"):
        tune(CONFIG, SETTINGS[3:], [])


def test_it_stops_in_time_and_says_what_it_left_out(
    ran: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(monotonic=lambda: 8.0 * len(ran))  # a run takes 8 s
    monkeypatch.setattr(tune_module, "time", clock)
    # The second would end at 16 s.
    tuned = tune(CONFIG, SETTINGS[:2], [], p99_ms=0.001, times=TuneTimes(total=15))
    assert [one.worker_settings for one in tuned.trials] == [SETTINGS[0]]
    assert tuned.untried == SETTINGS[1:2]
    assert tuned.chosen is None
    assert "a p99 of at most 0.001 ms" in verdict(tuned)
