"""catdog tune with real servers, as short as it goes: efficientnet_lite0."""

from pathlib import Path

import pytest
from rich.console import Console

from catdog_serving.bench.bench_files import sample_crops
from catdog_serving.bench.tune import TuneTimes, check_ready, tune, tune_table
from catdog_serving.errors import NotReadyError
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.serving_config import ServingConfig
from catdog_serving.torchserve.worker_settings import WorkerSettings, write_worker_settings
from tests.support.command_line import catdog_here
from tests.support.configs import MakeConfig


def test_tune_measures_settings_and_its_choice_can_be_written(
    archive: Path, make_config: MakeConfig
) -> None:
    config = make_config(archive)
    current = WorkerSettings.of(config)
    settings = (current, WorkerSettings(workers=1, batch_size=4, max_batch_delay_ms=1))
    times = TuneTimes(closed=0.5, opened=1.0, final_runs=0)
    tuned = tune(config, settings, sample_crops(), 60_000, times)
    assert {trial.worker_settings for trial in tuned.trials} == set(settings)
    assert all(trial.images_per_s > 0 and trial.p50_ms > 0 for trial in tuned.trials)
    assert tuned.chosen is not None
    assert tuned.untried == ()
    write_worker_settings(config.path, tuned.chosen.worker_settings)
    assert WorkerSettings.of(ServingConfig.read(config.path)) == tuned.chosen.worker_settings

    console = Console(width=120)
    with console.capture() as shown:
        console.print(tune_table(tuned))
    assert "chosen" in shown.get()


def test_tune_refuses_while_the_server_runs(server: TorchServe) -> None:
    with pytest.raises(NotReadyError, match="stop it first: catdog stop"):
        check_ready(server.config)
    before = server.config.path.read_bytes()
    result = catdog_here("tune", "--config", server.config.path)
    assert result.returncode == 3
    assert "catdog stop" in result.stderr
    assert server.config.path.read_bytes() == before
