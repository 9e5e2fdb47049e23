"""`catdog autoscale`: take a snapshot, decide, change the number of workers, say why; without end.

TorchServe's own `maxWorkers` does not scale by itself. The rule is that of Kubernetes'
HorizontalPodAutoscaler, with the share of the time that a worker computes as its metric:

    desired = ceil(workers * metric / target)

within a tolerance, between a minimum and a maximum, and stabilised: up to the smallest number
that was desired within a window, down to the largest within a longer one
(https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/).
"""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from catdog_serving.errors import CatDogError, UsageError
from catdog_serving.monitoring.snapshot import Snapshot, take_snapshots
from catdog_serving.torchserve.server import TorchServe

# The share of the time that a worker should compute. One that never pauses was seen at 0.90 to 0.95
# (efficientnet_lite0, full batches): Java and the socket are not in a worker's own seconds.
TARGET = 0.65
# A share of the target; a metric that is so near to it changes nothing.
TOLERANCE = 0.1
# More workers must be desired for so long, and fewer, if nobody chooses another time.
UP_WINDOW_S = 6.0
DOWN_WINDOW_S = 120.0
_HEARTBEAT_S = 60.0
_RETRY_S = 60.0  # after a change that failed


@dataclass(frozen=True)
class AutoscaleSettings:
    """What an operator chooses; checked at once.

    Attributes:
        min_workers: Never fewer, at least 1.
        max_workers: Never more.
        down_window_s: Fewer workers must be desired for so long, `--calm`.

    Raises:
        UsageError: If a value is out of its range, or two do not go together.
    """

    min_workers: int
    max_workers: int
    down_window_s: float = DOWN_WINDOW_S

    def __post_init__(self) -> None:
        if self.min_workers < 1:
            raise UsageError(f"--min is at least 1 worker, got {self.min_workers}")
        if self.max_workers < self.min_workers:
            raise UsageError(
                f"--max {self.max_workers} is below --min {self.min_workers}; swap them, or choose "
                "a larger --max"
            )
        if not 0 < self.down_window_s < math.inf:
            raise UsageError(f"--calm is a number of seconds over 0, got {self.down_window_s}")


def desired_workers(metric: float, workers: int) -> int:
    """How many workers a load needs, limits aside.

    Args:
        metric: The share of the time that each of them computed.
        workers: How many there are, at least 1.
    """
    ratio = metric / TARGET
    return workers if abs(ratio - 1) <= TOLERANCE else math.ceil(workers * ratio)


class Stabiliser:
    """Decides from snapshot to snapshot; it has no clock of its own.

    Times are seconds of any clock that never goes back.
    """

    def __init__(self, settings: AutoscaleSettings) -> None:
        self.settings = settings
        self._desired: deque[tuple[float, int]] = deque()  # when, how many
        self._workers = 0  # of that time

    def decide(self, metric: float | None, workers: int, now_s: float) -> int:
        """The number of workers from now on.

        Args:
            metric: The share of the time that each computed; None if that is not known, which
                changes nothing.
            workers: How many there are.
            now_s: The time.

        Returns:
            A number within the limits; from outside of them it goes there at once.
        """
        low, high = self.settings.min_workers, self.settings.max_workers
        if not low <= workers <= high:
            return min(max(workers, low), high)
        if workers != self._workers:  # the first ones, or somebody changed it
            self._workers = workers
            self._desired = deque([(now_s, workers)])
        if metric is None:
            return workers
        self._desired.append((now_s, desired_workers(metric, workers)))
        while self._desired[0][0] < now_s - max(UP_WINDOW_S, self.settings.down_window_s):
            self._desired.popleft()
        at_least = min(self._after(now_s - UP_WINDOW_S))
        at_most = max(self._after(now_s - self.settings.down_window_s))
        stable = min(max(workers, at_least), at_most)
        return min(max(stable, low), high)

    def forget(self) -> None:
        """What was seen so far no longer counts, such as after a restart of the server."""
        self._workers = 0

    def _after(self, time_s: float) -> list[int]:
        return [desired for when_s, desired in self._desired if when_s > time_s]


class Autoscaler:
    """Follows one server.

    Args:
        settings: When to scale.
        change: Brings the server to that many workers and returns when they are READY; what
            it cannot finish it undoes, and raises.
        on_step: Gets each line.
        dry_run: Decide and report, but change nothing.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        settings: AutoscaleSettings,
        change: Callable[[int], object],
        on_step: Callable[[str], None],
        *,
        dry_run: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._stabiliser = Stabiliser(settings)
        self._change = change
        self._on_step = on_step
        self._dry_run = dry_run
        self._clock = clock
        self._is_away = False
        self._retry_s = -math.inf  # nothing is changed before
        self._told_s: dict[str, float] = {}  # when a line of that kind was last told

    def act_on(self, snapshot: Snapshot | CatDogError) -> None:
        """Decide on what one snapshot shows, and carry it out."""
        if isinstance(snapshot, CatDogError):
            self._stabiliser.forget()
            if not self._is_away:
                self._is_away = True
                self._say(f"the server is away, waiting for it: {_one_line(snapshot)}")
            return
        if self._is_away:
            self._is_away = False
            self._say("the server is back")
        obstacle = find_obstacle(snapshot)
        if obstacle or self._clock() < self._retry_s:
            self._stabiliser.forget()
            reason = obstacle or f"the last change failed less than {_RETRY_S:g} s ago"
            self._say_once_a_minute(reason, f"waiting: {reason}")
            return
        workers = len(snapshot.status.models[0].workers)
        wanted = self._stabiliser.decide(busy_share(snapshot), workers, self._clock())
        if wanted == workers:
            kind = "steady" if snapshot.rates else "measuring"
            self._say_once_a_minute(kind, f"{_count(workers)}: {_load(snapshot)}")
        else:
            self._carry_out(workers, wanted, self._reason(snapshot, workers))

    def _reason(self, snapshot: Snapshot, workers: int) -> str:
        low, high = self._settings.min_workers, self._settings.max_workers
        if not low <= workers <= high:
            return f"--min is {low} and --max is {high}"
        return f"{_load(snapshot)}; the target is {TARGET:.0%} busy"

    def _carry_out(self, workers: int, wanted: int, reason: str) -> None:
        words = f"scale {workers} -> {wanted}: {reason}"
        if self._dry_run:
            self._say_once_a_minute(f"{workers} -> {wanted}", f"would {words}")
            return
        self._say(words)
        start_s = self._clock()
        try:
            self._change(wanted)
        except CatDogError as error:
            self._say(f"not scaled: {_one_line(error)}")
            if isinstance(error.__cause__, SystemExit | KeyboardInterrupt):
                raise  # it was told to end
            self._retry_s = self._clock() + _RETRY_S
        else:
            self._say(f"{_count(wanted)} READY after {self._clock() - start_s:.1f} s")
        self._stabiliser.forget()

    def _say_once_a_minute(self, kind: str, line: str) -> None:
        now_s = self._clock()
        if now_s - self._told_s.get(kind, -_HEARTBEAT_S) >= _HEARTBEAT_S:
            self._told_s[kind] = now_s
            self._say(line)

    def _say(self, line: str) -> None:
        self._on_step(f"{datetime.now().isoformat(timespec='seconds')} {line}")


def autoscale(server: TorchServe, scaler: Autoscaler, interval_s: float) -> None:
    """Follow a server until the process is told to end."""
    for snapshot in take_snapshots(server, interval_s):
        scaler.act_on(snapshot)


def find_obstacle(snapshot: Snapshot) -> str | None:
    """Why the number of workers is not to be changed now; None if it may be."""
    if not snapshot.status.models:
        return "catdog is not loaded; see: catdog status"
    default, *others = snapshot.status.models
    loaded = [model.version for model in others if model.workers]
    if loaded:
        return f"version {', '.join(loaded)} is loaded beside {default.version}, as in a deploy"
    if default.ready_workers < len(default.workers):
        return f"{default.ready_workers} of {len(default.workers)} workers are READY"
    return None


def busy_share(snapshot: Snapshot) -> float | None:
    """The share of the time that each worker computed since the snapshot before, in [0, 1].

    None if it is not known: after the first snapshot, and while a batch that takes longer than
    the interval has not ended. A batch counts when it ends.
    """
    rates, (model, *_) = snapshot.rates, snapshot.status.models
    if rates is None or (rates.answers_per_s == 0 and model.pending_requests > 0):
        return None
    return min(1.0, rates.busy_workers / max(1, len(model.workers)))


def _load(snapshot: Snapshot) -> str:
    rates, share = snapshot.rates, busy_share(snapshot)
    if rates is None:
        return "measuring"
    busy = "busy with one long batch" if share is None else f"{share:.0%} busy"
    return (
        f"{busy}, {rates.requests_per_s:.1f} requests/s, wait {rates.queue_s or 0:.3f} s, "
        f"{snapshot.status.models[0].pending_requests} waiting"
    )


def _count(workers: int) -> str:
    return f"{workers} worker{'' if workers == 1 else 's'}"


def _one_line(error: CatDogError) -> str:
    return " ".join(str(error).split())
