"""Does an int8 or bf16 network still answer as its float32 original? Measured, and the gate."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

from catdog.model_info import Agreement
from catdog.postprocess import class_masses
from catdog_serving.errors import RefusedError

# A network: pixels, uint8, (N, 3, S, S) -> logits (N, 1000).
LogitsOf = Callable[[np.ndarray], np.ndarray]

_BATCH = 8
# What to do about a network that is too far from float32, before the other thing.
_ADVICE = {
    "int8": "Calibrate with more images like those that will be classified, or",
    "bf16": "Measure with images like those that will be classified, or",
}


@dataclass(frozen=True)
class AgreementGate:
    """What reduced precision must reach to be packed.

    Attributes:
        min_same_winner: Share of held-out images whose larger mass must be the same.
        max_mean_difference: How far the masses may be apart on average.

    Raises:
        ValueError: If one is not in [0, 1].
    """

    min_same_winner: float = 0.98
    max_mean_difference: float = 0.05

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value <= 1:
                raise ValueError(f"{field.name} must be in 0..1, got {value}")

    def check(self, agreement: Agreement, precision: str) -> None:
        """Let an agreement pass.

        Raises:
            RefusedError: If it is not good enough; the message has all figures.
        """
        if (
            agreement.same_winner >= self.min_same_winner
            and agreement.mean_difference <= self.max_mean_difference
        ):
            return
        raise RefusedError(
            f"{precision} is too far from fp32: {agreement}; wanted are a same winner on "
            f"{self.min_same_winner:.1%} and a mean of at most {self.max_mean_difference:g}. "
            f"Nothing was changed. {_ADVICE[precision]} package fp32"
        )


def measure_agreement(
    reduced: np.ndarray, float32: np.ndarray, calibration_images: int
) -> Agreement:
    """Compare two networks' answers for the same images.

    Args:
        reduced: Logits of the int8 or bf16 network, shape (N, 1000), N >= 1.
        float32: Those of its original.
        calibration_images: How many others int8 was calibrated with.
    """
    masses, expected = class_masses(reduced), class_masses(float32)  # (N, 2)
    differences = np.abs(masses - expected)
    return Agreement(
        pictures=len(reduced),
        calibration_pictures=calibration_images,
        same_winner=float(np.mean(_cat_wins(masses) == _cat_wins(expected))),
        same_top_class=float(np.mean(reduced.argmax(axis=1) == float32.argmax(axis=1))),
        mean_difference=float(differences.mean()),
        max_difference=float(differences.max()),
    )


def logits_in_batches(logits_of: LogitsOf, pixels: np.ndarray) -> np.ndarray:
    """Run any number of images through a network, a few at a time."""
    return np.concatenate(
        [logits_of(pixels[start : start + _BATCH]) for start in range(0, len(pixels), _BATCH)]
    )


def _cat_wins(masses: np.ndarray) -> np.ndarray:
    wins: np.ndarray = masses[:, 0] > masses[:, 1]
    return wins
