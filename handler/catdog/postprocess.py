"""Logits to predictions: the two masses, the label, the breed and the top classes."""

from collections.abc import Sequence

import numpy as np

from catdog.labels import CAT_INDICES, DOG_INDICES, GROUPS, NUM_CLASSES
from catdog.results import Breed, ClassProbability, Label, ModelId, Prediction

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
    probabilities = logits.astype(np.float64)  # in place from here: half a megabyte for 64 images
    probabilities -= probabilities.max(axis=1, keepdims=True)
    np.exp(probabilities, out=probabilities)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
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
    return np.array(_sum_groups(class_probabilities(logits))).T


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
    predictions = []
    for row, cat, dog, top in zip(
        probabilities, *_sum_groups(probabilities), _top_classes(probabilities), strict=True
    ):
        label: Label
        if cat + dog < presence_threshold:
            label, breed = "neither", None
        elif cat > dog:
            label, breed = "cat", _breed(row, CAT_INDICES, cat, categories)
        else:
            label, breed = "dog", _breed(row, DOG_INDICES, dog, categories)
        cat, dog = round(cat, DECIMALS), round(dog, DECIMALS)
        predictions.append(
            Prediction(
                label=label,
                cat=cat,
                dog=dog,
                other=round(max(0.0, 1 - cat - dog), DECIMALS),
                breed=breed,
                top=tuple(
                    ClassProbability(index, categories[index], round(probability, DECIMALS))
                    for index, probability in top
                ),
                box=None,
                model=model,
                version=version,
            )
        )
    return predictions


def _sum_groups(probabilities: np.ndarray) -> list[list[float]]:
    """The N masses of each of the `GROUPS`."""
    return [probabilities[:, group.start : group.stop].sum(axis=1).tolist() for group in GROUPS]


def _top_classes(probabilities: np.ndarray) -> list[list[tuple[int, float]]]:
    """Of each image index and probability of the most probable classes, the highest first.

    Of equal ones the lowest index is first.
    """
    least = np.partition(probabilities, -TOP_CLASSES, axis=1)[:, -TOP_CLASSES, np.newaxis]
    places = np.flatnonzero(probabilities >= least)  # over all images
    candidates: list[list[tuple[float, int]]] = [[] for _ in probabilities]
    for place, probability in zip(
        places.tolist(), probabilities.ravel()[places].tolist(), strict=True
    ):
        image, index = divmod(place, NUM_CLASSES)
        candidates[image].append((-probability, index))
    return [
        [(index, -negative) for negative, index in sorted(of_image)[:TOP_CLASSES]]
        for of_image in candidates
    ]


def _breed(
    probabilities: np.ndarray, group: range, mass: float, categories: Sequence[str]
) -> Breed:
    index = group.start + int(probabilities[group.start : group.stop].argmax())
    probability = float(probabilities[index])
    share = round(probability / mass, DECIMALS)
    return Breed(categories[index], index, share, round(probability, DECIMALS))
