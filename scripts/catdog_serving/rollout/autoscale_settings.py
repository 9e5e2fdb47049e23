"""The thresholds and limits of `catdog autoscale`."""

import math
from dataclasses import dataclass

from catdog_serving.errors import UsageError


@dataclass(frozen=True)
class PolicySettings:
    """When to scale; checked at once.

    Attributes:
        min_workers: Never fewer, at least 1.
        max_workers: Never more.
        up_utilisation: Share of the time, in (0, 1], from which on the workers are too busy.
            One that never pauses was seen at 0.90 to 0.95 (efficientnet_lite0, full batches):
            Java and the socket are not in a worker's own seconds.
        up_fill: And only with batches that are at least so full, in [0, 1]: workers whose
            batches have room answer more as soon as more comes.
        up_queue_s: Mean wait for a worker from which on there are too few of them.
        target_utilisation: What a larger number of workers is sized for, below `up_utilisation`.
        down_utilisation: One worker goes if the others stay below this, under the target.
        down_queue_s: And only while the mean wait is below this, under `up_queue_s`.
        up_window_s: Stabilization window upwards: the load must be too high for so long.
        down_window_s: The same downwards: it must be low for so long, `--calm`.
        mean_s: Low on average over so long: single snapshots are noisy.
        cooldown_s: After a change nothing counts for so long: new workers warm up.
        retry_s: After a change that failed.
        drain_s: A queue is to be worked off within this time.
        up_limit_per_minute: Scale-up limit: workers that may be added within any minute.
        down_limit_per_minute: Scale-down limit: workers that may go within any minute.
    """

    min_workers: int
    max_workers: int
    up_utilisation: float = 0.8
    up_fill: float = 0.5
    up_queue_s: float = 0.5
    target_utilisation: float = 0.65
    down_utilisation: float = 0.5
    down_queue_s: float = 0.1
    up_window_s: float = 4.0
    down_window_s: float = 120.0
    mean_s: float = 20.0
    cooldown_s: float = 6.0
    retry_s: float = 60.0
    drain_s: float = 15.0
    up_limit_per_minute: int = 4
    down_limit_per_minute: int = 1

    def __post_init__(self) -> None:
        """Check everything together.

        Raises:
            UsageError: If a value is out of its range, or two do not go together.
        """
        if self.min_workers < 1:
            raise UsageError(f"--min is at least 1 worker, got {self.min_workers}")
        if self.max_workers < self.min_workers:
            raise UsageError(
                f"--max {self.max_workers} is below --min {self.min_workers}; swap them, or choose "
                "a larger --max"
            )
        if not 0 < self.down_utilisation < self.target_utilisation < self.up_utilisation <= 1:
            raise UsageError(
                "0 < down_utilisation < target_utilisation < up_utilisation <= 1 must hold, got "
                f"{self.down_utilisation}, {self.target_utilisation} and {self.up_utilisation}"
            )
        if not 0 <= self.up_fill <= 1:
            raise UsageError(f"up_fill is a share of a batch, 0 to 1, got {self.up_fill}")
        if not 0 < self.down_queue_s < self.up_queue_s < math.inf:
            raise UsageError(
                "0 < down_queue_s < up_queue_s must hold (seconds; the latter is --max-wait), got "
                f"{self.down_queue_s} and {self.up_queue_s}"
            )
        for name in ("up_window_s", "down_window_s", "mean_s", "cooldown_s", "retry_s", "drain_s"):
            if not 0 < getattr(self, name) < math.inf:
                option = " (--calm)" if name == "down_window_s" else ""
                raise UsageError(
                    f"{name}{option} is a number of seconds over 0, got {getattr(self, name)}"
                )
        for name in ("up_limit_per_minute", "down_limit_per_minute"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is at least 1 worker, got {getattr(self, name)}")
