"""The plots of an evaluation, as PNG.

The colours are Okabe and Ito's (https://jfly.uni-koeln.de/color/), which colour-blind
people tell apart; lines differ in their dashes too.
"""

import io
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from catdog_serving.errors import NotReadyError
from catdog_serving.evaluation.evaluation import Evaluation, Sample, ThreeWay
from catdog_serving.evaluation.metrics import roc_counts
from catdog_serving.extras import install_hint

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {"cat": "#D55E00", "dog": "#0072B2", "neither": "#5F5F5F"}
_DASHES = {"cat": "-", "dog": "--", "neither": ":"}
_OWN, _BEST = "#CC79A7", "#009E73"  # thresholds
_LINE = "#1B1E22"
_GREY = "#5B626A"
_SIZE_INCHES = (6.4, 3.4)
_DPI = 144


def check_matplotlib() -> None:
    """Find out before the work.

    Raises:
        NotReadyError: If matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise NotReadyError(f"plots need matplotlib; run: {install_hint('report')}")


def draw_plots(evaluation: Evaluation) -> dict[str, bytes]:
    """Draw what can be drawn.

    Returns:
        Title -> PNG. The ROC curve needs cats and dogs, the reliability diagram either,
        the threshold's curve images of neither.
    """
    plots = {}
    if evaluation.roc_auc is not None:
        plots["ROC curve"] = _png(lambda axes: _roc_curve(axes, evaluation))
    if evaluation.calibration_error is not None:
        plots["Reliability"] = _png(lambda axes: _reliability(axes, evaluation))
    if evaluation.samples:
        plots["Cat by truth"] = _png(lambda axes: _cat_masses(axes, evaluation.samples))
    three_way = evaluation.three_way
    if three_way:
        plots["Accuracy by presence_threshold"] = _png(
            lambda axes: _threshold_curve(axes, three_way)
        )
    return plots


def _png(draw: "Callable[[Axes], None]") -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE_INCHES, dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9, colors=_GREY)
    axes.grid(color="#E4E6E9", linewidth=0.6)
    axes.set_axisbelow(True)
    draw(axes)
    # Above the axes, where it covers nothing.
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=9, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _roc_curve(axes: "Axes", evaluation: Evaluation) -> None:
    animals = [sample for sample in evaluation.samples if sample.truth != "neither"]
    dogs, cats = roc_counts(
        np.array([sample.truth == "cat" for sample in animals]),
        np.array([sample.cat - sample.dog for sample in animals]),
    )
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle=":", linewidth=1, label="chance")
    name = f"cat - dog, AUC {evaluation.roc_auc:.4f}"
    axes.plot(dogs / dogs[-1], cats / cats[-1], color=_LINE, linewidth=1.8, label=name)
    axes.set_xlabel("share of dogs taken for cats")
    axes.set_ylabel("share of cats found")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))


def _reliability(axes: "Axes", evaluation: Evaluation) -> None:
    """Accuracy of each bin with its interval, and below it how many images it holds."""
    filled = [part for part in evaluation.calibration if part.right.total]
    confidence = [part.confidence for part in filled if part.confidence is not None]
    accuracy = np.array([part.right.count / part.right.total for part in filled])
    low, high = np.array([part.right.interval for part in filled]).T
    axes.plot([0.5, 1], [0.5, 1], color=_GREY, linestyle=":", linewidth=1, label="perfect")
    axes.errorbar(
        confidence,
        accuracy,
        yerr=np.clip((accuracy - low, high - accuracy), 0, None),
        fmt="o",
        markersize=5,
        linewidth=1.2,
        capsize=2,
        color=_LINE,
        label="bins with 95 % interval",
    )
    counts = axes.twinx()
    counts.spines[["top", "right"]].set_visible(False)
    counts.tick_params(labelsize=9, colors=_GREY)
    most = max(part.right.total for part in filled)
    counts.bar(
        [part.low for part in filled],
        [part.right.total for part in filled],
        width=[part.high - part.low for part in filled],
        align="edge",
        color="#C9CED4",
        edgecolor="white",
    )
    counts.set_ylim(0, 4 * most)  # the lowest quarter of the plot
    counts.set_yticks([0, most])
    counts.set_ylabel("images", fontsize=9, color=_GREY, loc="bottom")
    axes.set_zorder(counts.get_zorder() + 1)
    axes.patch.set_visible(False)
    axes.set_xlabel("confidence, max(cat, dog) / (cat + dog)")
    axes.set_ylabel("share that was right")
    axes.set(xlim=(0.455, 1.01), ylim=(0, 1.02))


def _cat_masses(axes: "Axes", samples: Sequence[Sample]) -> None:
    for truth, colour in _COLOURS.items():
        masses = [sample.cat for sample in samples if sample.truth == truth]
        if masses:
            axes.hist(
                masses,
                bins=list(np.linspace(0, 1, 21)),
                histtype="step",
                linewidth=1.8,
                color=colour,
                linestyle=_DASHES[truth],
                label=f"{truth}: {len(masses)}",
            )
    axes.set_xlabel("cat")
    axes.set_ylabel("images")
    axes.set_xlim(0, 1)


def _threshold_curve(axes: "Axes", three_way: ThreeWay) -> None:
    curve, best, right = three_way.curve, three_way.best, three_way.right
    axes.stairs(
        curve.right / curve.total,
        curve.edges,
        baseline=None,
        color=_LINE,
        linewidth=1.6,
        label="accuracy",
    )
    axes.axhline(
        right.count / right.total,
        color=_OWN,
        linestyle="--",
        linewidth=1.2,
        label="by the archive's own threshold",
    )
    axes.axvspan(
        best.low, best.high, color="#009E73", alpha=0.25, linewidth=0, label="best thresholds"
    )
    axes.set_xlabel("presence_threshold")
    axes.set_ylabel("three-way accuracy")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
