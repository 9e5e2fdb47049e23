"""Logits to predictions: the two masses, the label, the breed and the top classes."""

from collections.abc import Sequence

import numpy as np

from catdog.labels import CAT_INDICES, DOG_INDICES, NUM_CLASSES
from catdog.results import Breed, ClassProbability, ModelId, Prediction

DECIMALS = 6  # of every number in an answer: float32 is not better than this
TOP_CLASSES = 5


def class_probabilities(logits: np.ndarray) -> np.ndarray:
    """The softmax of logits.

    Args:
        logits: Raw scores, shape (N, 1000).

    Returns:
        Probabilities, float64, shape (N, 1000).

    Raises:
        ValueError: If logits is not (N, 1000).
    """
    if logits.ndim != 2 or logits.shape[1] != NUM_CLASSES:
        raise ValueError(f"expected logits of shape (N, {NUM_CLASSES}), got {logits.shape}")
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
    return _sum_groups(class_probabilities(logits))


def predict(
    probabilities: np.ndarray,
    categories: Sequence[str],
    presence_threshold: float,
    model: ModelId,
    version: str,
) -> list[Prediction]:
    """Turn class probabilities into predictions, without boxes and maps.

    Args:
        probabilities: As `class_probabilities` gives them, shape (N, 1000).
        categories: The 1,000 class names.
        presence_threshold: Below this cat + dog the label is "neither".
        model: Which model answers.
        version: Its version in the server.

    Returns:
        N predictions, in order.
    """
    masses = _sum_groups(probabilities)  # (N, 2)
    return [
        _predict_one(row, cat, dog, categories, presence_threshold, model, version)
        for row, (cat, dog) in zip(probabilities, masses.tolist(), strict=True)
    ]


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
    model: ModelId,
    version: str,
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
        model=model,
        version=version,
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
