"""Runs over a folder in this process: whole, or ended by Ctrl-C."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from catdog_serving.cli.classify import run_classify
from catdog_serving.folder.image_result import ImageResult
from catdog_serving.folder.run_options import RunOptions
from catdog_serving.remote_path import AnyPath
from tests.support.run_states import left_beside
from tests.support.stub_backend import NameBackend


def classify(
    *paths: Path, backend: NameBackend | None = None, output: Path, **options: object
) -> list[str]:
    """Run, and give the names of the files that were really classified."""
    backend = backend or NameBackend()
    run_classify(RunOptions(paths, output=output, **options), backend)  # type: ignore[arg-type]
    return [path.name for path in backend.asked]


def interrupted(*paths: Path, after: int, output: Path, **options: object) -> None:
    """Ctrl-C when so many files are classified."""

    class Interrupted(NameBackend):
        def classify_files(self, paths: Iterable[AnyPath]) -> Iterator[ImageResult]:
            for number, result in enumerate(super().classify_files(paths)):
                if number == after:
                    raise KeyboardInterrupt
                yield result

    with pytest.raises(KeyboardInterrupt):
        classify(*paths, backend=Interrupted(), output=output, **options)
    assert left_beside(output) == [""]
