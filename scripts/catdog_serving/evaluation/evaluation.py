"""catdog evaluate: how right the answers are on folders whose truth is known.

DIR/cats and DIR/dogs are classified, and DIR/neither if there is one. Two questions are
kept apart:

- two-way, cats and dogs alone: is the right animal's mass the larger one?
- three-way, with images of neither: is the label right?

Files that failed are counted and listed; they are no part of any accuracy.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from catdog.results import ModelId, Prediction
from catdog_serving.evaluation.labelled_files import TRUTHS, LabelledFolder, LabelledResult
from catdog_serving.evaluation.metrics import (
    BestThreshold,
    CalibrationBin,
    Share,
    ThresholdCurve,
    best_threshold,
    calibration_bins,
    expected_calibration_error,
    roc_auc,
    threshold_curve,
)
from catdog_serving.folder.backends import Backend
from catdog_serving.folder.image_result import FAILED, ImageFailure

LABELS = (*TRUTHS, FAILED)
WORST = 20  # mistakes that are listed


@dataclass(frozen=True)
class Sample:
    """One classified image whose truth is known."""

    path: Path
    truth: str
    label: str
    cat: float
    dog: float

    @property
    def other(self) -> float:
        return max(0.0, 1 - self.cat - self.dog)

    @property
    def taken_for(self) -> str | None:
        """The wrong animal it was taken for; None if this is no mistake.

        For a cat or dog it is one when the other animal has the larger mass, and for an
        image of neither when it is labelled as an animal.
        """
        winner = "cat" if self.cat > self.dog else "dog"
        is_mistake = self.label != "neither" if self.truth == "neither" else winner != self.truth
        return winner if is_mistake else None

    @property
    def wrong_mass(self) -> float:
        """The mass on the animal it was taken for; 0 if this is no mistake."""
        return {"cat": self.cat, "dog": self.dog, None: 0.0}[self.taken_for]


@dataclass(frozen=True)
class Failure:
    """One file that could not be classified."""

    path: Path
    truth: str
    error: ImageFailure


@dataclass(frozen=True)
class ThreeWay:
    """How right the labels are when images of neither are among them.

    Attributes:
        right: Images with the right label, by the archive's own presence_threshold.
        best: The presence_threshold that would be best for these images.
        curve: What every other one would give.
    """

    right: Share
    best: BestThreshold
    curve: ThresholdCurve = field(repr=False, compare=False)


@dataclass(frozen=True)
class Evaluation:
    """Everything that one evaluation says.

    Attributes:
        model: Who answered; None if every file failed.
        version: Its version in the server; None likewise.
        confusion: Truth -> label -> images; "failed" is a label here.
        two_way: Cats and dogs whose own mass is the larger one.
        cats, dogs: The same for each.
        three_way: Right labels; None without images of neither.
        roc_auc: Of cats against dogs by cat - dog: an image with little of both masses
            ranks in the middle, which a quotient would not do. None without both.
        calibration: Confidence against accuracy, two-way, of cats and dogs. Confidence
            is max(cat, dog) / (cat + dog), so at least 0.5; 0.5 if both masses are 0.
        calibration_error: The expected calibration error over these bins.
        mean_masses: Truth -> "cat", "dog", "other" -> mean mass.
        mistakes: The 20 with the highest mass on the wrong animal, the worst first.
        failures: Files that could not be classified.
        samples: All the others.
        skipped: Files that are no images.
        folder: Where the class folders lie; None of what is in no folder.
    """

    model: ModelId | None
    version: str | None
    confusion: dict[str, dict[str, int]]
    two_way: Share
    cats: Share
    dogs: Share
    three_way: ThreeWay | None
    roc_auc: float | None
    calibration: tuple[CalibrationBin, ...]
    calibration_error: float | None
    mean_masses: dict[str, dict[str, float]]
    mistakes: tuple[Sample, ...]
    failures: tuple[Failure, ...]
    samples: tuple[Sample, ...] = field(repr=False)
    skipped: int = 0
    folder: str | None = None

    @property
    def files(self) -> int:
        """All that were looked at, whether they could be classified or not."""
        return len(self.samples) + len(self.failures)

    @property
    def untrained(self) -> bool:
        return self.model is not None and self.model.untrained

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON, without the single samples."""
        return {
            "folder": self.folder,
            "model": self.model
            and asdict(self.model) | {"version": self.version, "untrained": self.untrained},
            "confusion": self.confusion,
            "two_way": self.two_way.to_dict(),
            "cats": self.cats.to_dict(),
            "dogs": self.dogs.to_dict(),
            "three_way": self.three_way.right.to_dict() if self.three_way else None,
            "best_threshold": self.three_way.best.to_dict() if self.three_way else None,
            "roc_auc": self.roc_auc,
            "calibration_error": self.calibration_error,
            "calibration": [part.to_dict() for part in self.calibration],
            "mean_masses": self.mean_masses,
            "mistakes": [
                asdict(sample) | {"path": str(sample.path), "taken_for": sample.taken_for}
                for sample in self.mistakes
            ],
            "failures": [
                {"path": str(f.path), "truth": f.truth, "error": asdict(f.error)}
                for f in self.failures
            ],
            "skipped": self.skipped,
        }


def evaluate_folder(
    directory: Path,
    backend: Backend,
    on_image: Callable[[bool], object],
    exclude: Sequence[str] = (),
    on_row: Callable[[LabelledResult], object] = lambda row: None,
) -> Evaluation:
    """Classify the class folders of `directory` and compare.

    Args:
        directory: The folder of class folders.
        backend: Where to classify.
        on_image: Called for each image, with whether it failed.
        exclude: What to pass over; see `image_names.Selection`.
        on_row: Called with what became of each, and its truth.

    Raises:
        NotReadyError: If the folders are not as they should be.
    """
    classes = LabelledFolder.find(directory, exclude)

    def outcomes() -> Iterator[tuple[str, Path, Prediction | ImageFailure]]:
        for truth, source in classes.sources.items():
            for result in backend.classify_files(source):
                on_image(isinstance(result.outcome, ImageFailure))
                on_row(LabelledResult(result.file, result.outcome, truth))
                yield truth, cast("Path", result.path), result.outcome

    evaluation = evaluate(outcomes())
    return replace(evaluation, skipped=classes.skipped, folder=str(directory))


def evaluate(outcomes: Iterable[tuple[str, Path, Prediction | ImageFailure]]) -> Evaluation:
    """Compare answers with the truth.

    Args:
        outcomes: The truth ("cat", "dog" or "neither"), the file and what became of it.
    """
    samples: list[Sample] = []
    failures: list[Failure] = []
    model: ModelId | None = None
    version: str | None = None
    for truth, path, outcome in outcomes:
        if isinstance(outcome, ImageFailure):
            failures.append(Failure(path, truth, outcome))
            continue
        samples.append(Sample(path, truth, outcome.label, outcome.cat, outcome.dog))
        model = model or outcome.model
        version = version or outcome.version
    truths = np.array([sample.truth for sample in samples], dtype=str)  # (N,)
    masses = np.array([(s.cat, s.dog) for s in samples], dtype=float).reshape(-1, 2)
    right = truths == np.where(masses[:, 0] > masses[:, 1], "cat", "dog")
    animal = truths != "neither"
    bins = calibration_bins(_confidence(masses[animal]), right[animal])
    three_way = None
    if not animal.all():
        labelled_right = np.array([sample.label == sample.truth for sample in samples])
        curve = threshold_curve(masses.sum(axis=1), ~animal, right)
        three_way = ThreeWay(Share.of(labelled_right), best_threshold(curve), curve)
    mistakes = [sample for sample in samples if sample.taken_for]
    return Evaluation(
        model=model,
        version=version,
        confusion=_confusion(samples, failures),
        two_way=Share.of(right[animal]),
        cats=Share.of(right[truths == "cat"]),
        dogs=Share.of(right[truths == "dog"]),
        three_way=three_way,
        roc_auc=roc_auc(truths[animal] == "cat", masses[animal, 0] - masses[animal, 1]),
        calibration=bins,
        calibration_error=expected_calibration_error(bins),
        mean_masses=_mean_masses(truths, masses),
        mistakes=tuple(sorted(mistakes, key=lambda s: -s.wrong_mass)[:WORST]),
        failures=tuple(failures),
        samples=tuple(samples),
    )


def _confidence(masses: np.ndarray) -> np.ndarray:
    """How sure the two-way answer is of itself: in [0.5, 1], shape (N,), from (N, 2)."""
    total = masses.sum(axis=1)
    confidence = np.full(len(masses), 0.5)
    np.divide(masses.max(axis=1, initial=0), total, out=confidence, where=total > 0)
    return confidence


def _confusion(samples: list[Sample], failures: list[Failure]) -> dict[str, dict[str, int]]:
    counts = Counter((sample.truth, sample.label) for sample in samples)
    counts.update((failure.truth, FAILED) for failure in failures)
    seen = {truth for truth, _ in counts}
    return {
        truth: {label: counts[truth, label] for label in LABELS}
        for truth in TRUTHS
        if truth in seen
    }


def _mean_masses(truths: np.ndarray, masses: np.ndarray) -> dict[str, dict[str, float]]:
    means = {}
    for name in TRUTHS:
        if (truths == name).any():
            cat, dog = masses[truths == name].mean(axis=0).tolist()
            means[name] = {"cat": cat, "dog": dog, "other": max(0.0, 1 - cat - dog)}
    return means
