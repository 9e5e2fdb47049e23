"""The order of the runs of catdog tune, without servers; test_measuring.py has real ones."""

from types import SimpleNamespace

import pytest

from catdog_serving.bench import tune as tune_module
from catdog_serving.bench.tune import TuneTimes, tune
from catdog_serving.bench.tune_report import verdict
from catdog_serving.bench.tune_settings import Goal, Trial
from catdog_serving.errors import NotReadyError
from catdog_serving.torchserve.serving_config import ServingConfig
from catdog_serving.torchserve.worker_settings import WorkerSettings
from tests.support.paths import ROOT

CONFIG = ServingConfig.read(ROOT / "config" / "config.properties")
SETTINGS = tuple(WorkerSettings(workers, 8, 5) for workers in (1, 2, 3, 4, 5))


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """More workers are faster, but 4 do not start; gives the workers of each run."""
    order: list[int] = []

    def run(
        _config: object, _scratch: object, worker_settings: WorkerSettings, *_: object
    ) -> Trial:
        order.append(worker_settings.workers)
        if worker_settings.workers == 4:
            raise NotReadyError("not 4 workers were READY within 180 s\nlog")
        return Trial(worker_settings, 10.0 * worker_settings.workers, 50, 100, 0)

    monkeypatch.setattr(tune_module, "_run", run)
    return order


def test_the_best_and_the_current_run_again_in_turn(ran: list[int]) -> None:
    tuned = tune(CONFIG, SETTINGS, [], Goal(), TuneTimes(finalists=2, final_runs=2))
    assert ran == [1, 2, 3, 4, 5, *(5, 3, 1), *(5, 3, 1)]
    assert tuned.chosen is not None
    assert (tuned.chosen.worker_settings.workers, tuned.chosen.runs) == (5, 3)


def test_a_setting_that_does_not_start_is_left_out_and_said(ran: list[int]) -> None:
    said: list[str] = []
    tuned = tune(CONFIG, SETTINGS, [], Goal(), on_step=said.append)
    assert tuned.untried == (SETTINGS[3],)
    left_out = "left out, as it does not work here: not 4 workers were READY within 180 s"
    assert left_out in said


def test_settings_that_do_not_work_in_production_are_an_error(ran: list[int]) -> None:
    with pytest.raises(NotReadyError, match="not 4 workers"):
        tune(CONFIG, SETTINGS[3:], [], Goal())


def test_it_stops_in_time_and_says_what_it_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def run(
        _config: object, _scratch: object, worker_settings: WorkerSettings, *_: object
    ) -> Trial:
        nonlocal now
        now += 8
        return Trial(worker_settings, 10.0, 50, 100, 0)

    monkeypatch.setattr(tune_module, "_run", run)
    monkeypatch.setattr(tune_module, "time", SimpleNamespace(monotonic=lambda: now))
    goal = Goal(p99_ms=0.001)
    tuned = tune(CONFIG, SETTINGS[:2], [], goal, TuneTimes(total=15))  # the next would end at 16
    assert [trial.worker_settings for trial in tuned.trials] == [SETTINGS[0]]
    assert tuned.untried == SETTINGS[1:2]
    assert tuned.chosen is None
    assert "a p99 of at most 0.001 ms" in verdict(tuned, goal)
