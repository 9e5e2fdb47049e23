"""catdog tune: try workers, batch sizes and batch delays on this machine.

Each setting gets a server of its own on free ports, with the archive and all other
settings of the configuration. All are tried for a short time; then the best three
and the current one run twice more, in turn, and their medians decide.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from catdog.cpu import usable_cores
from catdog_serving.bench.load_generator import closed_loop, open_loop
from catdog_serving.bench.tune_settings import Goal, Trial, best, ranked, settings_to_try
from catdog_serving.errors import NotReadyError, ServerError
from catdog_serving.model_archive import check_owner
from catdog_serving.torchserve.private_config import private_config
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.serving_config import ServingConfig
from catdog_serving.torchserve.worker_settings import WorkerSettings

OnStep = Callable[[str], None]

_LOAD = 0.8  # of its own capacity, at which a setting's p99 is measured
_SEED = 80


@dataclass(frozen=True)
class TuneTimes:
    """How long things take, in seconds.

    Attributes:
        closed: The closed loop of one run, at least.
        opened: The open loop of one run.
        total: No run is started that would probably end later than that.
        finalists: How many settings run again.
        final_runs: How often.
    """

    closed: float = 5.0
    opened: float = 10.0
    total: float = 570.0
    finalists: int = 3
    final_runs: int = 2


@dataclass(frozen=True)
class Tuned:
    """What was found.

    Attributes:
        current: The settings of the configuration.
        trials: All that were measured, the best first.
        chosen: The one to take; None if none meets the goal.
        untried: Settings that did not start, or for which no time was left.
    """

    current: WorkerSettings
    trials: tuple[Trial, ...]
    chosen: Trial | None
    untried: tuple[WorkerSettings, ...]


def candidates(config: ServingConfig) -> tuple[WorkerSettings, ...]:
    """What would be tried on this machine, the current settings first."""
    memory_gb = psutil.virtual_memory().total / 1e9
    return settings_to_try(WorkerSettings.of(config), usable_cores(), config.gpus, memory_gb)


def check_ready(config: ServingConfig) -> None:
    """Make sure that there is an archive, and that nothing serves it: that would share the cores.

    Raises:
        NotReadyError: If there is no archive, or the server of this configuration runs,
            however it was started.
        RefusedError: If the archive is another user's.
    """
    check_owner(config.archive)
    server = TorchServe(config)
    running = server.is_running()
    with suppress(ServerError):
        running = running or bool(server.versions())
    if running:
        raise NotReadyError(
            f"the server of {config.path} is running and would share the cores with the "
            "measurement; stop it first: catdog stop"
        )


def tune(
    config: ServingConfig,
    settings: Sequence[WorkerSettings],
    images: Sequence[bytes],
    goal: Goal,
    times: TuneTimes = TuneTimes(),
    on_step: OnStep = lambda _: None,
) -> Tuned:
    """Measure settings and choose one; nothing is written.

    Args:
        config: Its archive and its other settings are used; see `check_ready`.
        settings: The current one first.
        images: Encoded.
        goal: What is best.
        times: How long.
        on_step: Is given a line before each run.

    Raises:
        NotReadyError: If the first setting's server does not start.
        ServerError: If it does not answer.
    """
    clock = _Clock(times.total)
    runs: dict[WorkerSettings, list[Trial]] = {}
    with tempfile.TemporaryDirectory(prefix="catdog-tune-") as scratch:

        def measure(worker_settings: WorkerSettings, what: str) -> None:
            on_step(f"{what}: {describe(worker_settings)}")
            with clock:
                trial = _run(config, Path(scratch), worker_settings, images, times)
            runs.setdefault(worker_settings, []).append(trial)

        for number, worker_settings in enumerate(settings, 1):
            if not clock.has_time():
                break
            try:
                measure(worker_settings, f"setting {number} of {len(settings)}")
            except (NotReadyError, ServerError) as error:
                if number == 1:  # what runs in production must run here
                    raise
                on_step(f"left out, as it does not work here: {str(error).splitlines()[0]}")
        tried = [Trial.summed(found) for found in runs.values()]
        finalists = [trial.worker_settings for trial in ranked(tried, goal)[: times.finalists]]
        if settings[0] not in finalists:
            finalists.append(settings[0])
        for number in range(times.final_runs):
            for worker_settings in finalists:
                if clock.has_time():
                    measure(worker_settings, f"final run {number + 1} of {times.final_runs}")
    trials = [Trial.summed(found) for found in runs.values()]
    final = [trial for trial in trials if trial.worker_settings in finalists]
    return Tuned(
        current=settings[0],
        trials=tuple(ranked(trials, goal)),
        chosen=best(final, goal, settings[0]),
        untried=tuple(
            worker_settings for worker_settings in settings if worker_settings not in runs
        ),
    )


def describe(setting: WorkerSettings) -> str:
    workers = "1 worker" if setting.workers == 1 else f"{setting.workers} workers"
    return f"{workers}, batches of {setting.batch_size}, {setting.max_batch_delay_ms} ms"


class _Clock:
    """Whether one more run fits into the time, judged by the longest so far."""

    def __init__(self, total_s: float) -> None:
        self._end = time.monotonic() + total_s
        self._longest_s = 0.0

    def has_time(self) -> bool:
        return time.monotonic() + self._longest_s < self._end

    def __enter__(self) -> None:
        self._start = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._longest_s = max(self._longest_s, time.monotonic() - self._start)


def _run(
    config: ServingConfig,
    scratch: Path,
    worker_settings: WorkerSettings,
    images: Sequence[bytes],
    times: TuneTimes,
) -> Trial:
    """Start a server with one setting and load it."""
    private = private_config(config, scratch, config.archive, worker_settings.to_entry())
    # Two full batches a worker keep all busy; more than the queue holds would be refused.
    concurrency = min(
        2 * worker_settings.workers * worker_settings.batch_size, config.job_queue_size
    )
    with TorchServe(private) as server:
        server.wait_for_workers(worker_settings.workers)
        url = private.inference_url
        full = closed_loop(url, images, concurrency, times.closed)
        usual = open_loop(url, images, full.images_per_s * _LOAD, times.opened, _SEED)
    return Trial(
        worker_settings=worker_settings,
        images_per_s=full.images_per_s,
        p50_ms=usual.percentile_ms(50),
        p99_ms=usual.percentile_ms(99),
        not_200=full.not_200 + usual.not_200,
    )
