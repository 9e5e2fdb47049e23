"""Which settings `catdog tune` tries, and which of them it takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from catdog_serving.torchserve.worker_settings import WorkerSettings

MOST_SETTINGS = 12
# Medians of two runs differ by as much on a machine that does other things, too.
SAME_WITHIN = 0.03
_WORKER_MEMORY_GB = 1.5  # 1.25 to 1.4 was seen (docs/performance.md)
_MEMORY_SHARE = 0.6
_CPU_BATCHES = (4, 8, 16)
_GPU_BATCHES = (8, 32, 64)
_DELAYS_MS = (1, 5, 20)  # the usual one first


def settings_to_try(
    current: WorkerSettings, cores: int, gpus: int, memory_gb: float
) -> tuple[WorkerSettings, ...]:
    """At most `MOST_SETTINGS`, the current ones first.

    On a CPU a worker uses many cores at a time, so few workers are tried, and never more
    than cores; with GPUs, one or two workers for each.

    Args:
        current: What config.properties says.
        cores: Usable ones.
        gpus: To be used; 0 for the CPU.
        memory_gb: Of the machine.
    """
    workers: tuple[int, ...]
    if gpus:
        workers, batches = (gpus, 2 * gpus), _GPU_BATCHES
    else:
        workers, batches = _cpu_workers(cores), _CPU_BATCHES
    fitting = [n for n in workers if n * _WORKER_MEMORY_GB <= _MEMORY_SHARE * memory_gb]
    usual, *other_delays = _DELAYS_MS
    wanted = [WorkerSettings(n, batch, usual) for n in fitting or workers[:1] for batch in batches]
    wanted += [
        WorkerSettings(n, batch, delay)
        for n in fitting[:1] or workers[:1]
        for delay in other_delays
        for batch in batches
    ]
    return tuple(dict.fromkeys([current, *wanted]))[:MOST_SETTINGS]


def _cpu_workers(cores: int) -> tuple[int, ...]:
    """One, and such numbers that each worker keeps 8 or 4 cores; two on small machines."""
    numbers = {1, max(1, cores // 8), max(1, cores // 4)}
    return tuple(sorted(numbers | ({2} if 2 <= cores < 8 else set())))


@dataclass(frozen=True)
class Goal:
    """What is best.

    Attributes:
        p99_ms: The most images per second of those settings whose p99 at 80 % of their
            capacity is below that; None for the most of all.
    """

    p99_ms: float | None = None

    def is_met(self, trial: "Trial") -> bool:
        within = self.p99_ms is None or trial.p99_ms <= self.p99_ms
        return within and trial.not_200 == 0


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


def ranked(trials: Sequence[Trial], goal: Goal) -> list[Trial]:
    """Those that meet the goal by their throughput; then the others, the nearest first."""
    meeting = [trial for trial in trials if goal.is_met(trial)]
    others = [trial for trial in trials if not goal.is_met(trial)]
    meeting.sort(key=lambda trial: -trial.images_per_s)
    others.sort(key=lambda trial: (trial.not_200, trial.p99_ms))
    return meeting + others


def best(trials: Sequence[Trial], goal: Goal, current: WorkerSettings) -> Trial | None:
    """The setting to take; None if none meets the goal.

    Of those within `SAME_WITHIN` of the fastest the current one stays, or else the
    simplest wins, so that noise changes nothing.
    """
    meeting = [trial for trial in ranked(trials, goal) if goal.is_met(trial)]
    if not meeting:
        return None
    enough = meeting[0].images_per_s * (1 - SAME_WITHIN)
    equals = [trial for trial in meeting if trial.images_per_s >= enough]
    return min(equals, key=lambda trial: (trial.worker_settings != current, trial.worker_settings))
