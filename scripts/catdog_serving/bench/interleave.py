"""Compare things on a noisy machine: interleaved rounds, medians and their spread.

Each round runs every benchmark for a short time, so that what else the machine
does meets all of them alike. Ratios are taken within a round and only then
summed up: single times of two runs must not be compared.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

# What one run of a benchmark gives: names with their unit, such as images_per_s or p50_ms.
Quantities = Mapping[str, float]
Benchmark = Callable[[], Quantities]  # runs for a bounded time

_FEWEST_ROUNDS = 2  # or there would be no spread


@dataclass(frozen=True)
class Measurement:
    """One quantity over the rounds, in their order."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def over(self, other: "Measurement") -> "Measurement":
        """The ratio to another, round by round."""
        return Measurement(tuple(a / b for a, b in zip(self.values, other.values, strict=True)))

    def minus(self, other: "Measurement") -> "Measurement":
        """The difference from another, round by round."""
        return Measurement(tuple(a - b for a, b in zip(self.values, other.values, strict=True)))

    def times(self, factor: float) -> "Measurement":
        return Measurement(tuple(value * factor for value in self.values))

    def to_dict(self) -> dict[str, Any]:
        """For JSON, with four digits that count."""
        ends = (self.median, min(self.values), max(self.values))
        median, low, high, *values = (float(f"{value:.4g}") for value in (*ends, *self.values))
        return {"median": median, "low": low, "high": high, "values": values}


def timed_calls(
    call: Callable[[list[Any]], object], inputs: Sequence[Any], batch: int, seconds: float
) -> Quantities:
    """Call with one batch of inputs after the other until the time is up; at least once."""
    supply = cycle(inputs)
    took_s: list[float] = []
    while not took_s or sum(took_s) < seconds:
        inputs_of_batch = list(islice(supply, batch))
        before = time.perf_counter()
        call(inputs_of_batch)
        took_s.append(time.perf_counter() - before)
    return {
        "images_per_s": batch * len(took_s) / sum(took_s),
        "p50_ms": statistics.median(took_s) * 1000,
        "best_ms": min(took_s) * 1000,
    }


RoundResults = dict[str, dict[str, Measurement]]  # benchmark -> quantity -> measurement


def run_rounds(
    benchmarks: Mapping[str, Benchmark],
    rounds: int,
    on_step: Callable[[str], None] = lambda _: None,
    enough_s: float | None = None,
) -> RoundResults:
    """Run all benchmarks once a round; every second round backwards, so that none is always first.

    Args:
        benchmarks: By their names.
        rounds: At most so many; without any there are no results.
        on_step: Is given a line before each run.
        enough_s: From the third on, no round begins after that time.
    """
    seen: dict[str, list[Quantities]] = {name: [] for name in benchmarks}
    start = time.perf_counter()
    for number in range(rounds):
        enough = enough_s is not None and time.perf_counter() - start > enough_s
        if enough and number >= _FEWEST_ROUNDS:
            break
        for name in benchmarks if number % 2 == 0 else reversed(list(benchmarks)):
            on_step(f"round {number + 1} of {rounds}: {name}")
            seen[name].append(benchmarks[name]())
    return {
        name: {key: Measurement(tuple(one[key] for one in runs)) for key in runs[0]}
        for name, runs in seen.items()
        if runs
    }
