"""The statistics of an evaluation, in numpy: arrays in, numbers out."""

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from catdog.postprocess import DECIMALS
from catdog.read_settings import LOWEST_PRESENCE

CALIBRATION_BINS = 15  # as in Guo et al.

_Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Share:
    """`count` of `total`, with its 95 % interval.

    The interval is Wilson's score interval without continuity correction: E. B. Wilson,
    "Probable Inference, the Law of Succession, and Statistical Inference", JASA 22
    (1927). Unlike p +- z sqrt(p q / n) it is right for few images and near 0 and 1.
    """

    count: int
    total: int

    @classmethod
    def of(cls, right: np.ndarray) -> "Share":
        """Those that are true of a bool array, shape (N,)."""
        return cls(int(right.sum()), len(right))

    @property
    def value(self) -> float | None:
        """In [0, 1]; None of nothing."""
        return self.count / self.total if self.total else None

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper end, in [0, 1]; of nothing it is everything."""
        if not self.total:
            return 0.0, 1.0
        p, n = self.count / self.total, self.total
        middle = p + _Z**2 / (2 * n)
        half = _Z * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
        scale = 1 + _Z**2 / n
        return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)

    def to_dict(self) -> dict[str, Any]:
        low, high = self.interval
        return {**asdict(self), "value": self.value, "low": low, "high": high}


@dataclass(frozen=True)
class ThresholdCurve:
    """Three-way accuracy for every presence_threshold there is.

    Attributes:
        edges: The K + 1 values at which it changes, ascending, from 0.01 to 1.
        right: K counts; `right[k]` images get the right label by any threshold that
            is above `edges[k]` and at most `edges[k + 1]`.
        total: Images in all.
    """

    edges: np.ndarray
    right: np.ndarray
    total: int


@dataclass(frozen=True)
class BestThreshold:
    """The presence_threshold with the best three-way accuracy.

    Attributes:
        threshold: The middle of the widest interval of best thresholds; of equally
            wide ones, the lowest.
        low, high: That interval; every threshold above `low` and up to `high` is as good.
        right: The accuracy there.
    """

    threshold: float
    low: float
    high: float
    right: Share

    @property
    def setting(self) -> str:
        """The line for model-config.yaml; with more decimals where the interval is that narrow."""
        decimals = next((n for n in (4, 6) if self.low < round(self.threshold, n) <= self.high), 9)
        return f"presence_threshold: {self.threshold:.{decimals}f}"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"setting": self.setting, "right": self.right.to_dict()}


def threshold_curve(
    presence: np.ndarray, is_neither: np.ndarray, right_animal: np.ndarray
) -> ThresholdCurve:
    """Try every threshold at once, in O(N log N).

    Args:
        presence: cat + dog, shape (N,).
        is_neither: Whether the truth is neither, shape (N,).
        right_animal: Whether the truth is the animal with the larger mass, shape (N,).

    Returns:
        The exact curve: it changes only where some image's presence is.
    """
    presence = np.round(presence, DECIMALS)  # 0.1 + 0.2 is no more than 0.3
    inside = (presence > LOWEST_PRESENCE) & (presence < 1)
    edges = np.unique(np.concatenate(([LOWEST_PRESENCE, 1.0], presence[inside])))
    lower = edges[:-1]
    called_neither = np.searchsorted(np.sort(presence[is_neither]), lower, side="right")
    absent = np.searchsorted(np.sort(presence[right_animal]), lower, side="right")
    right = called_neither + int(right_animal.sum()) - absent
    return ThresholdCurve(edges, right, len(presence))


def best_threshold(curve: ThresholdCurve) -> BestThreshold:
    """The middle of the widest run of neighbouring intervals that are all best."""
    best = curve.right == curve.right.max()
    changes = np.diff(np.concatenate(([False], best, [False])).astype(np.int8))
    lows = curve.edges[np.flatnonzero(changes == 1)]
    highs = curve.edges[np.flatnonzero(changes == -1)]
    widest = int((highs - lows).argmax())
    low, high = float(lows[widest]), float(highs[widest])
    right = Share(int(curve.right.max()), curve.total)
    return BestThreshold((low + high) / 2, low, high, right)


@dataclass(frozen=True)
class CalibrationBin:
    """The images whose confidence is above `low` and at most `high`.

    Attributes:
        confidence: Their mean confidence; None if there are none.
        right: How many of them were right.
    """

    low: float
    high: float
    confidence: float | None
    right: Share

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"right": self.right.to_dict()}


def calibration_bins(confidence: np.ndarray, right: np.ndarray) -> tuple[CalibrationBin, ...]:
    """Sort images into 15 equally wide bins over [0, 1].

    Args:
        confidence: In [0, 1], shape (N,).
        right: Whether the answer was right, shape (N,).
    """
    numbers = np.clip(np.ceil(confidence * CALIBRATION_BINS) - 1, 0, CALIBRATION_BINS - 1)
    members = [numbers == number for number in range(CALIBRATION_BINS)]
    return tuple(
        CalibrationBin(
            low=number / CALIBRATION_BINS,
            high=(number + 1) / CALIBRATION_BINS,
            confidence=float(confidence[own].mean()) if own.any() else None,
            right=Share.of(right[own]),
        )
        for number, own in enumerate(members)
    )


def expected_calibration_error(bins: tuple[CalibrationBin, ...]) -> float | None:
    """How far confidence is from accuracy, averaged over images; None of nothing.

    C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On Calibration of Modern Neural
    Networks", ICML 2017, equation 3.
    """
    total = sum(part.right.total for part in bins)
    if not total:
        return None
    gaps = (
        abs(part.right.count - part.right.total * part.confidence)
        for part in bins
        if part.confidence is not None
    )
    return sum(gaps) / total


def roc_counts(is_cat: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ROC curve in counts: how many dogs, and how many cats, score at least so high.

    Args:
        is_cat: Shape (N,).
        score: Higher for cats, shape (N,).

    Returns:
        Dogs and cats, each of shape (K + 1,) for K different scores, from none to all.
    """
    order = np.argsort(-score)
    last_of_ties = np.flatnonzero(np.diff(score[order], append=-np.inf))
    cats = np.cumsum(is_cat[order])[last_of_ties]
    dogs = last_of_ties + 1 - cats
    return np.concatenate(([0], dogs)), np.concatenate(([0], cats))


def roc_auc(is_cat: np.ndarray, score: np.ndarray) -> float | None:
    """Chance that a random cat scores higher than a random dog; None without both."""
    dogs, cats = roc_counts(is_cat, score)
    if not dogs[-1] or not cats[-1]:
        return None
    return float(np.trapezoid(cats, dogs) / (cats[-1] * dogs[-1]))
