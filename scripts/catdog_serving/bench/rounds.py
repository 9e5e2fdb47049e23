"""Compare things on a noisy machine: interleaved rounds, medians and their spread.

Each round runs every contender for a short time, so that what else the machine
does meets all of them alike. Ratios are taken within a round and only then
summed up: single times of two runs must not be compared.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# What one run of a contender gives: names with their unit, such as images_per_s or p50_ms.
Measured = Mapping[str, float]


_FEWEST_ROUNDS = 2  # or there would be no spread


@dataclass(frozen=True)
class Figure:
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
class Contender:
    """Something to measure.

    Attributes:
        name: Unique among those that are compared.
        run: Runs it for a bounded time.
    """

    name: str
    run: Callable[[], Measured]


Figures = dict[str, dict[str, Figure]]  # contender -> quantity -> figure


def run_rounds(
    contenders: Sequence[Contender],
    rounds: int,
    tell: Callable[[str], None] = lambda _: None,
    enough_s: float | None = None,
) -> Figures:
    """Run all contenders once a round; every second round backwards, so that none is always first.

    Args:
        contenders: At least one.
        rounds: At most so many.
        tell: Is given a line before each run.
        enough_s: From the third on, no round begins after that time.
    """
    seen: dict[str, list[Measured]] = {contender.name: [] for contender in contenders}
    start = time.perf_counter()
    for number in range(rounds):
        enough = enough_s is not None and time.perf_counter() - start > enough_s
        if enough and number >= _FEWEST_ROUNDS:
            break
        for contender in contenders if number % 2 == 0 else reversed(contenders):
            tell(f"round {number + 1} of {rounds}: {contender.name}")
            seen[contender.name].append(contender.run())
    return {
        name: {key: Figure(tuple(one[key] for one in measured)) for key in measured[0]}
        for name, measured in seen.items()
    }


def ratio(above: Figure, below: Figure) -> Figure:
    """Round by round, above / below."""
    return Figure(tuple(a / b for a, b in zip(above.values, below.values, strict=True)))


def difference(above: Figure, below: Figure) -> Figure:
    """Round by round, above - below."""
    return Figure(tuple(a - b for a, b in zip(above.values, below.values, strict=True)))


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
