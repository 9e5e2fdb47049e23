"""Compare things on a noisy machine: interleaved rounds, medians and their spread.

Each round runs every benchmark for a short time, so that what else the machine
does meets all of them alike. Ratios are taken within a round and only then
summed up: single times of two runs must not be compared.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# What one run of a benchmark gives: names with their unit, such as images_per_s or p50_ms.
Quantities = Mapping[str, float]


_FEWEST_ROUNDS = 2  # or there would be no spread


@dataclass(frozen=True)
class Measurement:
    """One quantity over the rounds, in their order."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)

    def to_dict(self) -> dict[str, Any]:
        """For JSON, with four digits that count."""
        median, low, high, *values = map(_rounded, (self.median, self.low, self.high, *self.values))
        return {"median": median, "low": low, "high": high, "values": values}


@dataclass(frozen=True)
class Benchmark:
    """Something to measure.

    Attributes:
        name: Unique among those that are compared.
        run: Runs it for a bounded time.
    """

    name: str
    run: Callable[[], Quantities]


RoundResults = dict[str, dict[str, Measurement]]  # benchmark -> quantity -> measurement


def run_rounds(
    benchmarks: Sequence[Benchmark],
    rounds: int,
    on_step: Callable[[str], None] = lambda _: None,
    enough_s: float | None = None,
) -> RoundResults:
    """Run all benchmarks once a round; every second round backwards, so that none is always first.

    Args:
        benchmarks: At least one.
        rounds: At most so many.
        on_step: Is given a line before each run.
        enough_s: From the third on, no round begins after that time.
    """
    seen: dict[str, list[Quantities]] = {benchmark.name: [] for benchmark in benchmarks}
    start = time.perf_counter()
    for number in range(rounds):
        enough = enough_s is not None and time.perf_counter() - start > enough_s
        if enough and number >= _FEWEST_ROUNDS:
            break
        for benchmark in benchmarks if number % 2 == 0 else reversed(benchmarks):
            on_step(f"round {number + 1} of {rounds}: {benchmark.name}")
            seen[benchmark.name].append(benchmark.run())
    return {
        name: {key: Measurement(tuple(one[key] for one in measured)) for key in measured[0]}
        for name, measured in seen.items()
    }


def ratio(above: Measurement, below: Measurement) -> Measurement:
    """Round by round, above / below."""
    return Measurement(tuple(a / b for a, b in zip(above.values, below.values, strict=True)))


def difference(above: Measurement, below: Measurement) -> Measurement:
    """Round by round, above - below."""
    return Measurement(tuple(a - b for a, b in zip(above.values, below.values, strict=True)))


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
