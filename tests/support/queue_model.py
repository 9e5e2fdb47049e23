"""A model of TorchServe's queue and workers, to try scaling policies in simulated hours.

Requests come at random times (Poisson) at a rate that depends on the time. A free worker takes
up to a batch of those that wait; a batch takes `base_s + per_image_s x images`, with noise,
and longer if workers share cores. A full queue refuses. What a snapshot reports is counted as the
server's metrics are: a batch when it ends.
"""

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from catdog_serving.rollout.autoscale_policy import Load, Policy

START_S = 6.0  # 1 -> 2 takes 5 to 7 s on a real server
_SLICE_S = 1.0  # the rate is constant for so long


@dataclass
class QueueModel:
    """One server; `step` moves its time.

    Attributes:
        rate: Requests per second at a time.
        workers: How many there are at the start.
        cores: Workers beyond these slow each other down.
    """

    rate: Callable[[float], float]
    workers: int = 1
    cores: int = 64
    seed: int = 0
    batch_size: int = 8
    queue_size: int = 48
    base_s: float = 0.02
    per_image_s: float = 0.02
    noise: float = 0.1
    now_s: float = 0.0
    waits_s: list[tuple[float, float]] = field(default_factory=list)  # (arrival, wait)
    refused: int = 0

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(self.seed)
        self._queue: deque[float] = deque()
        self._free_s = [0.0] * self.workers  # when each worker is free: a heap
        self._ends: list[tuple[float, int, float, float]] = []  # end, images, seconds, waits
        self._came = 0
        self._looked_s = 0.0

    @property
    def capacity(self) -> float:
        """Images per second of one worker with full batches and a core of its own."""
        return self.batch_size / (self.base_s + self.per_image_s * self.batch_size)

    def step(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self.now_s < end_s - 1e-9:
            length_s = min(_SLICE_S, end_s - self.now_s)
            count = self._random.poisson(self.rate(self.now_s) * length_s)
            for arrival_s in sorted(self.now_s + self._random.random(count) * length_s):
                self._serve(arrival_s)
                self._came += 1
                if len(self._queue) < self.queue_size:
                    self._queue.append(arrival_s)
                else:
                    self.refused += 1
            self.now_s += length_s
            self._serve(self.now_s)

    def load(self) -> Load:
        """What happened since the last snapshot."""
        seconds = self.now_s - self._looked_s
        ended = [batch for batch in self._ends if batch[0] <= self.now_s]
        self._ends = [batch for batch in self._ends if batch[0] > self.now_s]
        answers = sum(images for _, images, _, _ in ended)
        load = Load(
            requests_per_s=self._came / seconds,
            answers_per_s=answers / seconds,
            busy_workers=sum(took_s for _, _, took_s, _ in ended) / seconds,
            batch_fill=answers / len(ended) / self.batch_size if ended else None,
            queue_s=sum(waits for *_, waits in ended) / answers if answers else None,
            waiting=len(self._queue),
        )
        self._came, self._looked_s = 0, self.now_s
        return load

    def scale(self, workers: int) -> None:
        """As `catdog scale`: takes its time, loses nothing."""
        self.step(START_S)
        busy = sorted(self._free_s)[: min(workers, self.workers)]
        self._free_s = busy + [self.now_s] * (workers - len(busy))
        heapq.heapify(self._free_s)
        self.workers = workers

    def _serve(self, until_s: float) -> None:
        """Begin every batch that can begin by then."""
        while self._queue:
            start_s = max(self._free_s[0], self._queue[0])
            if start_s > until_s:
                return
            taken: list[float] = []
            while self._queue and self._queue[0] <= start_s and len(taken) < self.batch_size:
                taken.append(self._queue.popleft())
            slower = max(1.0, self.workers / self.cores) * self._random.lognormal(0, self.noise)
            took_s = (self.base_s + self.per_image_s * len(taken)) * slower
            heapq.heapreplace(self._free_s, start_s + took_s)
            self.waits_s += [(arrival_s, start_s - arrival_s) for arrival_s in taken]
            waits = sum(start_s - arrival_s for arrival_s in taken)
            self._ends.append((start_s + took_s, len(taken), took_s, waits))


@dataclass(frozen=True)
class Change:
    """One decision for another number of workers, at the time when it was made."""

    time_s: float
    before: int
    after: int


def follow(
    policy: Policy, model: QueueModel, seconds: float, interval_s: float = 2.0
) -> list[Change]:
    """Let a policy scale a model for so long, as `catdog autoscale` scales a server."""
    changes = []
    end_s = model.now_s + seconds
    while model.now_s < end_s:
        model.step(interval_s)
        before, now_s = model.workers, model.now_s
        decision = policy.decide(model.load(), before, now_s)
        if decision.workers != before:
            model.scale(decision.workers)
            policy.applied(decision.workers - before, model.now_s)
            changes.append(Change(now_s, before, decision.workers))
    return changes
