"""Logits to answers: the two masses, the label, the breed and the top classes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from catdog.geometry import Box, scaled_box
from catdog.heat_map import HeatMap
from catdog.labels import CAT_INDICES, DOG_INDICES, NUM_CLASSES

TOP_CLASSES = 5
LABELS = ("cat", "dog", "neither")
DECIMALS = 6  # of every number in an answer: float32 is not better than this


@dataclass(frozen=True)
class Breed:
    """The most probable class inside the winning group.

    Attributes:
        name: The class's name.
        index: Its ImageNet index, 0..999.
        share: Its part of the group's mass, in [0, 1].
    """

    name: str
    index: int
    share: float


@dataclass(frozen=True)
class ClassProbability:
    """One of the 1,000 classes with its probability in [0, 1]."""

    index: int
    name: str
    probability: float


@dataclass(frozen=True)
class ModelIdentity:
    """Which model gave an answer; part of every answer."""

    network: str
    weights: str
    precision: str
    version: str


@dataclass(frozen=True)
class Prediction:
    """The answer for one picture.

    Attributes:
        label: "cat", "dog", or "neither" when cat + dog is below the threshold.
        cat: Mass of the cat classes, in [0, 1].
        dog: Mass of the dog classes, in [0, 1].
        other: Mass of the other 877 classes; the three add up to 1.
        breed: None for "neither".
        top: The most probable of all classes, the first the highest.
        box: Where the animal is, in pixels of the upright original, as far as the middle
            square shows it; None for "neither".
        network, weights, precision, version: The model that answered.
        map: What in the middle square speaks for the label; None where it was not asked
            for. It is no part of what makes two predictions equal.
    """

    label: str
    cat: float
    dog: float
    other: float
    breed: Breed | None
    top: tuple[ClassProbability, ...]
    box: Box | None
    network: str
    weights: str
    precision: str
    version: str
    map: HeatMap | None = field(default=None, compare=False, repr=False)

    def to_dict(self, with_map: bool = False) -> dict[str, Any]:
        """As plain values for JSON, in the order of the attributes; without the map by default."""
        values = vars(self) | {
            "breed": self.breed and asdict(self.breed),
            "top": tuple(asdict(entry) for entry in self.top),
        }
        del values["map"]
        if with_map and self.map is not None:
            values["map"] = self.map.to_dict()
        return values

    def scaled(self, size: tuple[int, int], other: tuple[int, int]) -> "Prediction":
        """The same answer for the same picture at another size: box and map move along."""
        return replace(
            self,
            box=self.box and scaled_box(self.box, size, other),
            map=self.map and self.map.scaled(other),
        )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Prediction":
        """Read an answer back; keys that a newer server added are left out.

        Raises:
            ValueError, KeyError, TypeError: If it is none.
        """
        if values["label"] not in LABELS:
            raise ValueError(f"the label is one of {', '.join(LABELS)}; got {values['label']!r}")
        known = {name: values[name] for name in cls.__dataclass_fields__ if name != "map"}
        known["breed"] = None if values["breed"] is None else Breed(**values["breed"])
        known["top"] = tuple(ClassProbability(**entry) for entry in values["top"])
        known["box"] = None if values["box"] is None else Box(*map(int, values["box"]))
        known["map"] = HeatMap.from_dict(values["map"]) if "map" in values else None
        return cls(**known)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities, float64, shape (N, K), from logits of that shape."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    probabilities: np.ndarray = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities


def class_masses(logits: np.ndarray) -> np.ndarray:
    """Sum ImageNet class probabilities into cat and dog masses.

    Args:
        logits: Raw scores, shape (N, 1000).

    Returns:
        Masses in [0, 1], shape (N, 2), columns (cat, dog). What is missing
        to 1 belongs to the other 877 classes.

    Raises:
        ValueError: If logits is not (N, 1000).
    """
    _check_logits(logits)
    return _sum_groups(softmax(logits))


def predict(
    logits: np.ndarray,
    categories: Sequence[str],
    presence_threshold: float,
    model: ModelIdentity,
) -> list[Prediction]:
    """Turn logits into answers.

    Args:
        logits: Raw scores, shape (N, 1000).
        categories: The 1,000 class names.
        presence_threshold: Below this cat + dog the label is "neither".
        model: What the answers say about the model.

    Returns:
        N predictions, in order.

    Raises:
        ValueError: If logits is not (N, 1000).
    """
    _check_logits(logits)
    probabilities = softmax(logits)  # (N, 1000)
    masses = _sum_groups(probabilities)  # (N, 2)
    return [
        _predict_one(row, cat, dog, categories, presence_threshold, model)
        for row, (cat, dog) in zip(probabilities, masses.tolist(), strict=True)
    ]


def _check_logits(logits: np.ndarray) -> None:
    if logits.ndim != 2 or logits.shape[1] != NUM_CLASSES:
        raise ValueError(f"expected logits of shape (N, {NUM_CLASSES}), got {logits.shape}")


def _sum_groups(probabilities: np.ndarray) -> np.ndarray:
    cat = probabilities[:, CAT_INDICES.start : CAT_INDICES.stop].sum(axis=1)
    dog = probabilities[:, DOG_INDICES.start : DOG_INDICES.stop].sum(axis=1)
    return np.stack((cat, dog), axis=1)


def _predict_one(
    probabilities: np.ndarray,
    cat: float,
    dog: float,
    categories: Sequence[str],
    presence_threshold: float,
    model: ModelIdentity,
) -> Prediction:
    if cat + dog < presence_threshold:
        label, breed = "neither", None
    elif cat > dog:
        label, breed = "cat", _breed(probabilities, CAT_INDICES, cat, categories)
    else:
        label, breed = "dog", _breed(probabilities, DOG_INDICES, dog, categories)
    cat, dog = round(cat, DECIMALS), round(dog, DECIMALS)
    return Prediction(
        label=label,
        cat=cat,
        dog=dog,
        other=round(max(0.0, 1 - cat - dog), DECIMALS),
        breed=breed,
        top=tuple(
            ClassProbability(int(i), categories[i], round(float(probabilities[i]), DECIMALS))
            for i in _top_classes(probabilities)
        ),
        box=None,
        network=model.network,
        weights=model.weights,
        precision=model.precision,
        version=model.version,
    )


def _top_classes(probabilities: np.ndarray) -> np.ndarray:
    """The indices of the largest, the largest first; of equal ones the lowest index first."""
    least = np.partition(probabilities, -TOP_CLASSES)[-TOP_CLASSES]
    candidates = np.flatnonzero(probabilities >= least)  # a fifth of the time of sorting all
    order = np.argsort(-probabilities[candidates], kind="stable")
    return candidates[order[:TOP_CLASSES]]


def _breed(
    probabilities: np.ndarray, group: range, mass: float, categories: Sequence[str]
) -> Breed:
    index = group.start + int(probabilities[group.start : group.stop].argmax())
    return Breed(categories[index], index, round(float(probabilities[index]) / mass, DECIMALS))
