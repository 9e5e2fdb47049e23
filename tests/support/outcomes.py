"""Outcomes of classifiers whose quality is known."""

from collections.abc import Callable, Iterator
from pathlib import Path

from catdog.results import Label, ModelId, Prediction
from catdog_serving.folder.image_result import ImageFailure

Outcomes = Iterator[tuple[str, Path, Prediction | ImageFailure]]


def answer(cat: float, dog: float, weights: str = "ids") -> Prediction:
    """What the handler answers, with a presence_threshold of 0.25."""
    label: Label = "neither" if cat + dog < 0.25 else "cat" if cat > dog else "dog"
    other = 1 - cat - dog
    model = ModelId("net", weights, "fp32")
    return Prediction(label, cat, dog, other, None, (), None, model, "1.0")


def classified(
    classify: Callable[[str], tuple[float, float]], truths: tuple[str, ...], each: int = 10
) -> Outcomes:
    for truth in truths:
        for number in range(each):
            cat, dog = classify(truth)
            spread = 1 - number / 1000  # so that no two images score the same
            yield truth, Path(f"{truth}{number}.jpg"), answer(cat * spread, dog * spread)


def perfect(truth: str) -> tuple[float, float]:
    return {"cat": (0.9, 0.0), "dog": (0.0, 0.9), "neither": (0.02, 0.01)}[truth]


def reversed_(truth: str) -> tuple[float, float]:
    return perfect({"cat": "dog", "dog": "cat", "neither": "neither"}[truth])


def always_cat(truth: str) -> tuple[float, float]:
    return 0.8, 0.1
