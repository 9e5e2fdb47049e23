"""How many workers a load needs: the decisions of `catdog autoscale`, without a server.

The rules are those of Kubernetes' HorizontalPodAutoscaler (stabilization windows and limits per
minute: https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/), on what a
queue shows:

- upwards, if every snapshot of the last `up_window_s` asks for more (`too_few`): to the smallest
  number that they ask for, which may be several more at once;
- downwards, if all of the last `down_window_s` had workers to spare (`too_many`, on means over
  `mean_s`): one at a time;
- a step down that had to be taken back soon makes the next window downwards twice as long, so
  that neither a load at the edge nor workers that slow each other down can make it swing.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from catdog_serving.rollout.autoscale_settings import PolicySettings

_MINUTE_S = 60.0
_MAX_BACK_OFF = 16  # times down_window_s
# Tolerance: over this share of what the workers can do, more than one may come at once. What comes
# by chance within a few seconds is often 10 to 20 % over the mean, and no reason for that.
_UP_TOLERANCE = 1.25


@dataclass(frozen=True)
class Load:
    """Load of one snapshot, over the time since the snapshot before.

    Attributes:
        requests_per_s: What came, requests that were refused by a full queue included.
        answers_per_s: What workers answered.
        busy_workers: How many workers computed, on average; counted when a batch ends.
        batch_fill: Mean share of a batch's places that were taken; None without a batch.
        queue_s: Mean wait for a worker; None if nothing was answered.
        waiting: Requests in the queue at the end.
    """

    requests_per_s: float
    answers_per_s: float
    busy_workers: float
    batch_fill: float | None
    queue_s: float | None
    waiting: float

    def __str__(self) -> str:
        return (
            f"{self.requests_per_s:.1f} requests/s, {self.busy_workers:.2f} busy, batches "
            f"{self.batch_fill or 0:.0%} full, wait {self.queue_s or 0:.3f} s, "
            f"{self.waiting:.0f} waiting"
        )


@dataclass(frozen=True)
class Decision:
    """How many workers there should be, and why, for the log."""

    workers: int
    reason: str


def too_few(load: Load, workers: int, settings: PolicySettings) -> Decision | None:
    """How many workers a load needs that is too much for these; None if it is not.

    Args:
        load: Of one snapshot, with answers.
        workers: How many there are, at least 1.
        settings: The thresholds.

    Returns:
        More than `workers`, limits aside.
    """
    busy = min(load.busy_workers, workers)  # a batch longer than the interval counts at its end
    filled = load.batch_fill is not None and load.batch_fill >= settings.up_fill
    if filled and busy / workers >= settings.up_utilisation:
        limit = f"workers over {settings.up_utilisation:.0%} busy"
    elif load.queue_s is not None and load.queue_s >= settings.up_queue_s:
        limit = f"waits over {settings.up_queue_s:g} s"
    else:
        return None
    came = max(load.requests_per_s, load.answers_per_s) + load.waiting / settings.drain_s
    demand = busy * came / load.answers_per_s  # in workers that never pause
    enough = (
        math.ceil(demand / settings.target_utilisation) if demand > _UP_TOLERANCE * workers else 0
    )
    return Decision(max(workers + 1, enough), f"{limit}: {load}")


def too_many(load: Load, workers: int, settings: PolicySettings) -> bool:
    """Whether one worker less could do the work of a mean load, with room to spare.

    Emptier batches take more time an image, so this errs towards keeping a worker.
    """
    return (
        workers > 1
        and load.busy_workers / (workers - 1) < settings.down_utilisation
        and (load.queue_s or 0) < settings.down_queue_s
    )


def mean_load(loads: Sequence[Load]) -> Load:
    """The mean of intervals of equal length, at least one; waits count by the answers."""
    count = len(loads)
    answers = sum(load.answers_per_s for load in loads)
    waits = sum(load.answers_per_s * (load.queue_s or 0) for load in loads)
    fills = [load.batch_fill for load in loads if load.batch_fill is not None]
    return Load(
        requests_per_s=sum(load.requests_per_s for load in loads) / count,
        answers_per_s=answers / count,
        busy_workers=sum(load.busy_workers for load in loads) / count,
        batch_fill=sum(fills) / len(fills) if fills else None,
        queue_s=waits / answers if answers else None,
        waiting=sum(load.waiting for load in loads) / count,
    )


@dataclass(frozen=True)
class _Snapshot:
    """A snapshot and what it says; `spare` is that of the mean up to it."""

    time_s: float
    load: Load
    more: Decision | None
    spare: bool


class Policy:
    """Decides from snapshot to snapshot; it has no clock of its own.

    After a decision for another number of workers, call `applied` when they are there, or
    `failed`. Times are seconds of any clock that never goes back.
    """

    def __init__(self, settings: PolicySettings) -> None:
        self.settings = settings
        self._snapshots: deque[_Snapshot] = deque()
        self._since_s = math.inf  # the first snapshot that counts
        self._workers = 0  # of those snapshots
        self._changes: deque[tuple[float, int]] = deque()  # time, workers added (or, below 0, gone)
        self._cooldown_until_s = -math.inf
        self._last_down_s = -math.inf
        self._down_window_s = settings.down_window_s

    def decide(self, load: Load, workers: int, now_s: float) -> Decision:
        """The number of workers from now on; the same number means: change nothing.

        Args:
            load: Since the last snapshot.
            workers: How many there are, all READY.
            now_s: The time.

        Returns:
            A number within `min_workers` and `max_workers`. From outside of them it goes there
            in one step; all else keeps to the limits per minute. While a change settles, and
            for a while after one that failed, it is `workers`.
        """
        low, high = self.settings.min_workers, self.settings.max_workers
        if now_s < self._cooldown_until_s:
            return Decision(workers, f"cooling down after the last change: {load}")
        if not low <= workers <= high:
            return Decision(min(max(workers, low), high), f"--min is {low} and --max is {high}")
        if load.answers_per_s == 0 and load.waiting > 0:
            return Decision(workers, f"all within one long batch: {load}")
        self._remember(load, workers, now_s)
        if self._snapshots[-1].more:
            return self._up(self._snapshots[-1].more, workers, now_s)
        if self._snapshots[-1].spare:
            return self._down(workers, now_s)
        return Decision(workers, str(load))

    def applied(self, added: int, now_s: float) -> None:
        """The workers of the last decision are there; below 0 is how many fewer."""
        if added < 0:
            self._last_down_s = now_s
        elif now_s - self._last_down_s < 2 * self._down_window_s:  # the step down was a mistake
            self._down_window_s = min(
                2 * self._down_window_s, _MAX_BACK_OFF * self.settings.down_window_s
            )
        else:
            self._down_window_s = self.settings.down_window_s
        self._changes.append((now_s, added))
        self._cool_down(now_s + self.settings.cooldown_s)

    def failed(self, now_s: float) -> None:
        """The last decision could not be carried out; wait before the next."""
        self._cool_down(now_s + self.settings.retry_s)

    def forget(self) -> None:
        """What was seen so far no longer counts, such as after a restart of the server."""
        self._snapshots.clear()
        self._since_s = math.inf

    def _cool_down(self, until_s: float) -> None:
        self.forget()
        self._cooldown_until_s = until_s

    def _remember(self, load: Load, workers: int, now_s: float) -> None:
        if workers != self._workers:  # somebody else changed it
            self.forget()
        self._workers = workers
        self._since_s = min(self._since_s, now_s)
        recent = [load, *(snapshot.load for snapshot in self._last(self.settings.mean_s, now_s))]
        more = too_few(load, workers, self.settings) if load.answers_per_s > 0 else None
        spare = not more and too_many(mean_load(recent), workers, self.settings)
        self._snapshots.append(_Snapshot(now_s, load, more, spare))
        oldest_s = now_s - max(self._down_window_s, self.settings.up_window_s, self.settings.mean_s)
        while self._snapshots[0].time_s < oldest_s:
            self._snapshots.popleft()

    def _up(self, more: Decision, workers: int, now_s: float) -> Decision:
        seconds = self.settings.up_window_s
        asked = [snapshot.more.workers for snapshot in self._last(seconds, now_s) if snapshot.more]
        if not self._covers(seconds, now_s) or len(asked) < len(self._last(seconds, now_s)):
            return Decision(workers, f"not for {seconds:g} s yet: {more.reason}")
        if workers == self.settings.max_workers:
            return Decision(workers, f"--max is {workers}, but {more.reason}")
        room = self.settings.up_limit_per_minute - self._changed(now_s, up=True)
        if room < 1:
            limit = self.settings.up_limit_per_minute
            return Decision(workers, f"{limit} were added within a minute, but {more.reason}")
        return Decision(min(min(asked), workers + room, self.settings.max_workers), more.reason)

    def _down(self, workers: int, now_s: float) -> Decision:
        load = self._snapshots[-1].load
        if workers == self.settings.min_workers:
            return Decision(workers, str(load))
        if (
            self._covers(self._down_window_s, now_s)
            and all(snapshot.spare for snapshot in self._last(self._down_window_s, now_s))
            and self._changed(now_s, up=False) < self.settings.down_limit_per_minute
        ):
            share = f"{workers - 1} would be under {self.settings.down_utilisation:.0%} busy"
            return Decision(workers - 1, f"{share} for {self._down_window_s:g} s: {load}")
        return Decision(workers, f"one could go after {self._down_window_s:g} s of calm: {load}")

    def _covers(self, seconds: float, now_s: float) -> bool:
        return self._since_s <= now_s - seconds

    def _last(self, seconds: float, now_s: float) -> list[_Snapshot]:
        return [snapshot for snapshot in self._snapshots if snapshot.time_s >= now_s - seconds]

    def _changed(self, now_s: float, *, up: bool) -> int:
        """Workers that were added, or removed, within the last minute."""
        while self._changes and self._changes[0][0] <= now_s - _MINUTE_S:
            self._changes.popleft()
        return sum(abs(added) for _, added in self._changes if (added > 0) == up)
