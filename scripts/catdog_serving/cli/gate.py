"""`--evaluate DIR` of `catdog package` and `catdog deploy`: labelled images as a gate."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from catdog_serving.cli.backends import wished_engine
from catdog_serving.cli.options import print_line
from catdog_serving.errors import RefusedError
from catdog_serving.evaluation.evaluation import evaluate_folder
from catdog_serving.evaluation.labelled_files import LabelledFolder
from catdog_serving.folder.local_backend import LocalBackend

MIN_ACCURACY = 0.9

EvaluateOption = Annotated[
    Path | None,
    typer.Option(
        "--evaluate",
        metavar="FOLDER",
        help="Images in its cats/ and dogs/, and perhaps neither/: refuse if it is often wrong.",
    ),
]
MinAccuracyOption = Annotated[
    float,
    typer.Option(
        "--min-accuracy",
        metavar="SHARE",
        min=0,
        max=1,
        help="For --evaluate: the least share of right winners, and with neither/ of labels.",
    ),
]


def accuracy_gate(directory: Path | None, least: float) -> Callable[[Path], None]:
    """A check of an archive on labelled images, which raises `RefusedError`.

    Args:
        directory: As `catdog evaluate` takes it, looked at here and now; None: no check.
        least: The two-way accuracy that is enough, and the three-way one, in [0, 1].

    Raises:
        NotReadyError: If the folder is not fit.
    """
    if directory is None:
        return lambda _: None
    LabelledFolder.find(directory)

    def check(archive: Path) -> None:
        with LocalBackend(archive, engine=wished_engine()) as backend:
            evaluation = evaluate_folder(directory, backend, lambda _: None)
        if evaluation.failures:
            first = evaluation.failures[0]
            raise RefusedError(f"{first.path} could not be classified: {first.error.message}")
        found = {"cats and dogs by the larger number": evaluation.two_way}
        if evaluation.three_way:
            found["labels"] = evaluation.three_way.right
        for what, share in found.items():
            line = f"{share.count} of {share.total} {what} are right in {directory}"
            print_line(f"asked    {line}")
            if share.value is None or share.value < least:
                raise RefusedError(
                    f"{line}, less than the {least:g} that --min-accuracy asks for; nothing was "
                    "changed"
                )

    return check
