"""catdog evaluate: how right the answers are on folders whose truth is known.

DIR/cats and DIR/dogs are classified, and DIR/neither if there is one.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from catdog.results import Prediction
from catdog_serving.errors import NotReadyError
from catdog_serving.evaluation.evaluation import LABELS, TRUTHS, Evaluation, evaluate
from catdog_serving.evaluation.metrics import Share
from catdog_serving.extras import install_hint
from catdog_serving.folder.backends import Backend
from catdog_serving.folder.files import ImageFailure
from catdog_serving.folder.find_files import ImageFiles
from catdog_serving.folder.outputs import printable

_UNBOUNDED_WIDTH = 10_000  # for pipes: rows are never cut or folded there

_FOLDER_NAMES = {
    "cat": ("cat", "cats"),
    "dog": ("dog", "dogs"),
    "neither": ("neither", "other", "others"),
}


def evaluate_folder(
    directory: Path, backend: Backend, on_image: Callable[[bool], object]
) -> Evaluation:
    """Classify the class folders of `directory` and compare.

    Args:
        directory: The folder of class folders.
        backend: Where to classify.
        on_image: Called for each image, with whether it failed.

    Raises:
        NotReadyError: If the folders are not as they should be, or the extra `report`
            is not installed.
    """
    check_extra()
    folders = class_folders(directory)

    def outcomes() -> Iterator[tuple[str, Path, Prediction | ImageFailure]]:
        for truth, folder in folders.items():
            for result in backend.classify_files(ImageFiles(folder)):
                on_image(isinstance(result.outcome, ImageFailure))
                yield truth, cast("Path", result.path), result.outcome

    return evaluate(outcomes())


def check_extra() -> None:
    """Find out before the work that scikit-learn and matplotlib are there."""
    try:
        import matplotlib  # noqa: F401
        import sklearn  # noqa: F401
    except ImportError as error:
        raise NotReadyError(
            f"catdog evaluate needs {error.name}; run: {install_hint('report')}"
        ) from error


def class_folders(directory: Path) -> dict[str, Path]:
    """The folder of each truth, by its name: `cats`, `Dog`, `neither`, `other`.

    Raises:
        NotReadyError: If one is missing, empty, there twice, or of another name.
    """
    if not directory.is_dir():
        raise NotReadyError(f"there is no folder {directory}")
    allowed = ", ".join(name for names in _FOLDER_NAMES.values() for name in names)
    truths = {name: truth for truth, names in _FOLDER_NAMES.items() for name in names}
    found: dict[str, Path] = {}
    for path in sorted(path for path in directory.iterdir() if path.is_dir()):
        truth = truths.get(path.name.lower())
        if truth is None:
            raise NotReadyError(
                f"{path} is no class that catdog knows; its folders may be called: {allowed}"
            )
        if truth in found:
            raise NotReadyError(f"{found[truth]} and {path} are the same class; keep one")
        if next(iter(ImageFiles(path)), None) is None:
            raise NotReadyError(f"{path} holds no images; every class needs at least one")
        found[truth] = path
    for truth in ("cat", "dog"):
        if truth not in found:
            raise NotReadyError(f"{directory} has no folder {truth}s; name a folder that has one")
    return {truth: found[truth] for truth in TRUTHS if truth in found}


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Show a person all but the plots."""
    if not console.is_terminal:
        console.width = _UNBOUNDED_WIDTH
    console.print(_figures(evaluation))
    console.print()
    console.print(_confusion_table(evaluation))
    if evaluation.mistakes:
        console.print("\nworst mistakes, by the mass on the wrong animal")
    for sample in evaluation.mistakes:
        console.print(
            f"  {sample.wrong_mass:.4f}  {sample.truth} taken for {sample.taken_for}  "
            f"{escape(printable(str(sample.path)))}",
            highlight=False,
        )
    if evaluation.failures:
        console.print(f"\n{len(evaluation.failures)} failed and are no part of any accuracy")
    for failure in evaluation.failures:
        console.print(
            f"  {escape(printable(str(failure.path)))}: {escape(failure.error.message)}",
            highlight=False,
        )
    if evaluation.model:
        name = escape(str(evaluation.model))
        console.print(f"\nmodel: {name}, version {evaluation.version}")


def _figures(evaluation: Evaluation) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column()
    table.add_row("two-way accuracy", *_share_cells(evaluation.two_way))
    table.add_row("  cats", *_share_cells(evaluation.cats))
    table.add_row("  dogs", *_share_cells(evaluation.dogs))
    if evaluation.three_way:
        best = evaluation.three_way.best
        table.add_row("three-way accuracy", *_share_cells(evaluation.three_way.right))
        where = f"any above {best.low:.4f} up to {best.high:.4f}: three-way {best.right.value:.4f}"
        table.add_row("best presence_threshold", f"{best.threshold:.4f}", where)
        table.add_row("", "", "chosen on these images; on others it will do a little worse")
    table.add_row("ROC AUC, cat against dog", _number(evaluation.roc_auc), "by cat - dog")
    table.add_row(
        "calibration error",
        _number(evaluation.calibration_error),
        f"expected, {len(evaluation.calibration)} bins of max(cat, dog) / (cat + dog)",
    )
    return table


def _share_cells(share: Share) -> tuple[str, str]:
    low, high = share.interval
    count = f"{share.count} of {share.total}"
    return _number(share.value), f"{count}; 95 % interval {low:.4f} to {high:.4f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _confusion_table(evaluation: Evaluation) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("truth")
    for label in LABELS:
        table.add_column(label, justify="right")
    for mean in ("mean cat", "mean dog", "mean other"):
        table.add_column(mean, justify="right")
    for truth, counts in evaluation.confusion.items():
        masses = evaluation.mean_masses.get(truth, {})
        table.add_row(
            truth,
            *(str(counts[label]) for label in LABELS),
            *(_number(masses.get(kind)) for kind in ("cat", "dog", "other")),
        )
    return table
