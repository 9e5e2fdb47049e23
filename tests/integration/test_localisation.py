"""Boxes against those drawn by eye: the figures of docs/explanations.md, and the threshold."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from catdog.classifier import Classifier
from catdog.read_settings import Settings
from catdog_serving.evaluation.metrics import Share
from catdog_serving.model_archive import open_archive
from tests.support.localisation import (
    MODES,
    Labelled,
    best_threshold,
    cross_validated,
    explain_labelled,
)
from tests.support.paths import ROOT

DOCUMENT = ROOT / "docs" / "explanations.md"


@pytest.fixture(scope="module")
def labelled(archive: Path, photos: list[Path]) -> Iterator[list[Labelled]]:
    with open_archive(archive) as model_dir:
        classifier = Classifier.load(model_dir)
        yield explain_labelled(classifier)
        classifier.close()


def test_the_threshold_is_the_one_that_the_labels_choose(labelled: list[Labelled]) -> None:
    settings = Settings.read(ROOT / "config" / "model-config.yaml")
    assert settings.box_threshold == best_threshold(labelled)
    for mode in MODES:
        assert set(cross_validated(labelled, mode)[0]) == {settings.box_threshold}  # of every fold


def test_the_document_says_what_is_measured(labelled: list[Labelled]) -> None:
    table = [figures(labelled, mode) for mode in MODES]
    settings = Settings.read(ROOT / "config" / "model-config.yaml")
    filled = 0
    for photo in labelled:
        box = photo.located("whole", settings.box_threshold)
        filled += box is not None and box.fills(photo.maps["whole"].size)
    table.append(f"in {filled} of the {len(labelled)}")
    print("", *table, sep="\n")
    document = re.sub(r"\s+", " ", DOCUMENT.read_text(encoding="utf-8"))
    for row in table:
        assert row in document


def figures(labelled: list[Labelled], mode: str) -> str:
    """A row of the document's table."""
    pointing = sum(photo.points_inside(mode) for photo in labelled)
    _, ious = cross_validated(labelled, mode)
    shares = [
        Share(int(count), len(labelled))
        for count in (pointing, (ious >= 0.3).sum(), (ious >= 0.5).sum())
    ]
    cells = [
        f"{share.count} of {share.total}: {share.value:.2f} "
        f"({share.interval[0]:.2f} to {share.interval[1]:.2f})"
        for share in shares
    ]
    return f"| {mode} | {' | '.join(cells)} | {ious.mean():.2f} |"


@pytest.mark.parametrize("mode", MODES)
def test_maps_point_at_the_animal(labelled: list[Labelled], mode: str) -> None:
    assert np.mean([photo.points_inside(mode) for photo in labelled]) >= 0.9
