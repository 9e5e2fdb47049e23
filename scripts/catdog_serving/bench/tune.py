"""catdog tune: try workers, batch sizes and batch delays on this machine.

    catdog tune --dry-run                   the table, in under 10 minutes
    catdog tune --p99-ms 500                the most images/s with p99 below 500 ms, written

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
from statistics import median

from rich.table import Table

from catdog_serving.bench.load_generator import closed_loop, open_loop
from catdog_serving.errors import NotReadyError, ServerError
from catdog_serving.model_archive import check_owner
from catdog_serving.torchserve.private_config import private_config
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.serving_config import ServingConfig
from catdog_serving.torchserve.worker_settings import WorkerSettings

# Medians of two runs differ by as much on a machine that does other things, too.
SAME_WITHIN = 0.03

_MOST_UNDER_WAY = 512  # requests: the load generator has a thread for each
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
class Trial:
    """What one setting reached.

    Attributes:
        worker_settings: The setting.
        images_per_s: Its capacity, in a closed loop.
        p50_ms: In an open loop at 80 % of that capacity.
        p99_ms: The same.
        not_200: Answers that were not predictions.
        runs: How many were summed up by their medians.
    """

    worker_settings: WorkerSettings
    images_per_s: float
    p50_ms: float
    p99_ms: float
    not_200: int
    runs: int = 1

    @classmethod
    def summed(cls, runs: "Sequence[Trial]") -> "Trial":
        """The medians of several runs of one setting."""
        return cls(
            worker_settings=runs[0].worker_settings,
            images_per_s=median(run.images_per_s for run in runs),
            p50_ms=median(run.p50_ms for run in runs),
            p99_ms=median(run.p99_ms for run in runs),
            not_200=sum(run.not_200 for run in runs),
            runs=len(runs),
        )

    def meets(self, p99_ms: float | None) -> bool:
        """Whether every answer was a prediction, and p99 within the goal, if there is one."""
        return self.not_200 == 0 and (p99_ms is None or self.p99_ms <= p99_ms)


@dataclass(frozen=True)
class Tuned:
    """What was found.

    Attributes:
        current: The settings of the configuration.
        goal_p99_ms: What p99 had to stay below; None for no such goal.
        trials: All that were measured, the best first.
        chosen: The one to take; None if none meets the goal.
        untried: Settings that did not start, or for which no time was left.
    """

    current: WorkerSettings
    goal_p99_ms: float | None
    trials: tuple[Trial, ...]
    chosen: Trial | None
    untried: tuple[WorkerSettings, ...]


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


def ranked(trials: Sequence[Trial], p99_ms: float | None) -> list[Trial]:
    """Those that meet the goal by their throughput; then the others, the nearest first."""

    def place(trial: Trial) -> tuple[bool, float, float]:
        if trial.meets(p99_ms):
            return False, -trial.images_per_s, 0.0
        return True, trial.not_200, trial.p99_ms

    return sorted(trials, key=place)


def best(trials: Sequence[Trial], p99_ms: float | None, current: WorkerSettings) -> Trial | None:
    """The setting to take; None if none meets the goal.

    Of those within `SAME_WITHIN` of the fastest the current one stays, or else the
    simplest wins, so that noise changes nothing.
    """
    meeting = [trial for trial in ranked(trials, p99_ms) if trial.meets(p99_ms)]
    if not meeting:
        return None
    enough = meeting[0].images_per_s * (1 - SAME_WITHIN)
    equals = [trial for trial in meeting if trial.images_per_s >= enough]
    return min(equals, key=lambda trial: (trial.worker_settings != current, trial.worker_settings))


def tune(
    config: ServingConfig,
    settings: Sequence[WorkerSettings],
    images: Sequence[bytes],
    p99_ms: float | None = None,
    times: TuneTimes = TuneTimes(),
    on_step: Callable[[str], None] = lambda _: None,
) -> Tuned:
    """Measure settings and choose one; nothing is written.

    Args:
        config: Its archive and its other settings are used; see `check_ready`.
        settings: The current one first.
        images: Encoded.
        p99_ms: The goal is the most images per second of those settings whose p99 at 80 %
            of their capacity is at most that; None for the most of all.
        times: How long.
        on_step: Is given a line before each run.

    Raises:
        NotReadyError: If the first setting's server does not start.
        ServerError: If it does not answer.
    """
    runs: dict[WorkerSettings, list[Trial]] = {}
    end_s, longest_s = time.monotonic() + times.total, 0.0

    def measure(worker_settings: WorkerSettings, what: str) -> None:
        """One run, if it probably ends in time, judged by the longest so far."""
        nonlocal longest_s
        start_s = time.monotonic()
        if start_s + longest_s >= end_s:
            return
        on_step(f"{what}: {describe(worker_settings)}")
        try:
            trial = _run(config, worker_settings, images, times)
            runs.setdefault(worker_settings, []).append(trial)
        finally:
            longest_s = max(longest_s, time.monotonic() - start_s)

    for number, worker_settings in enumerate(settings, 1):
        try:
            measure(worker_settings, f"setting {number} of {len(settings)}")
        except (NotReadyError, ServerError) as error:
            if number == 1:  # what runs in production must run here
                raise
            on_step(f"left out, as it does not work here: {str(error).splitlines()[0]}")
    tried = ranked([Trial.summed(found) for found in runs.values()], p99_ms)
    finalists = [trial.worker_settings for trial in tried[: times.finalists]]
    finalists += [settings[0]] if settings[0] not in finalists else []
    for number in range(times.final_runs):
        for worker_settings in finalists:
            measure(worker_settings, f"final run {number + 1} of {times.final_runs}")
    trials = {found: Trial.summed(runs[found]) for found in runs}
    return Tuned(
        current=settings[0],
        goal_p99_ms=p99_ms,
        trials=tuple(ranked(list(trials.values()), p99_ms)),
        chosen=best([trials[finalist] for finalist in finalists], p99_ms, settings[0]),
        untried=tuple(setting for setting in settings if setting not in runs),
    )


def _run(
    config: ServingConfig,
    worker_settings: WorkerSettings,
    images: Sequence[bytes],
    times: TuneTimes,
) -> Trial:
    """Start a server with one setting and load it."""
    under_way = requests_under_way(worker_settings)
    queue = config.job_queue_size
    values = {}
    if gpus := len(config.gpus):
        queue = max(queue, under_way)  # batches that it cannot hold would not be measured
        values = {
            "job_queue_size": str(queue),
            "workers_per_gpu": str(worker_settings.per_gpu(gpus)),
        }
    concurrency = min(under_way, queue)  # more than the queue holds would be refused
    with tempfile.TemporaryDirectory(prefix="catdog-tune-") as scratch:
        private = private_config(
            config, Path(scratch), config.archive, worker_settings.to_entry(), values
        )
        with TorchServe(private) as server:
            server.wait_ready(worker_settings.workers)
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


def requests_under_way(setting: WorkerSettings) -> int:
    """Those that a setting is measured with: two full batches a worker, as far as they can be."""
    return min(2 * setting.workers * setting.batch_size, _MOST_UNDER_WAY)


# ---- for people ----


def describe(setting: WorkerSettings) -> str:
    workers = "1 worker" if setting.workers == 1 else f"{setting.workers} workers"
    return f"{workers}, batches of {setting.batch_size}, {setting.max_batch_delay_ms} ms"


def tune_table(tuned: Tuned) -> Table:
    """All settings that were measured, the best first."""
    table = Table(
        box=None,
        caption="images/s: as fast as it goes; p50, p99: Poisson arrivals at 80 % of that",
        caption_justify="left",
    )
    for heading in ("workers", "batchSize", "max delay", "images/s", "p50 ms", "p99 ms"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("runs", "not 200"):
        table.add_column(heading, justify="right", style="dim", no_wrap=True)
    table.add_column("", no_wrap=True)
    for trial in tuned.trials:
        setting = trial.worker_settings
        marks = {"current": setting == tuned.current, "chosen": trial == tuned.chosen}
        table.add_row(
            str(setting.workers),
            str(setting.batch_size),
            f"{setting.max_batch_delay_ms} ms",
            f"{trial.images_per_s:.2f}",
            f"{trial.p50_ms:.0f}",
            f"{trial.p99_ms:.0f}",
            str(trial.runs),
            str(trial.not_200),
            ", ".join(mark for mark, holds in marks.items() if holds),
        )
    return table


def verdict(tuned: Tuned) -> str:
    """One line: what was chosen and why, or that nothing meets the goal."""
    untried = f" ({len(tuned.untried)} settings have no figures)" if tuned.untried else ""
    if tuned.chosen is None:
        nearest = tuned.trials[0]
        wanted = "answers with 200 alone"
        if tuned.goal_p99_ms is not None:
            wanted += f" and a p99 of at most {tuned.goal_p99_ms:g} ms"
        return (
            f"no setting has {wanted}; the nearest is {describe(nearest.worker_settings)} with "
            f"{nearest.p99_ms:.0f} ms and {nearest.not_200} other answers; nothing was "
            f"changed{untried}"
        )
    chosen = describe(tuned.chosen.worker_settings)
    if tuned.chosen.worker_settings == tuned.current:
        margin = f"nothing is more than {SAME_WITHIN:.0%} faster"
        return f"the current settings stay: {chosen}; {margin}{untried}"
    return f"chosen: {chosen}{untried}"
