"""How equal is equal: pixels, runtimes and served answers against the reference.

float32 is not exact itself, so each runtime may be at most four times as far from
float64 as the reference's own float32 is. `pytest -s` prints the figures.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from catdog.classifier import Classifier
from catdog.postprocess import class_probabilities
from catdog.results import Prediction
from catdog_serving.build.export import build_module
from catdog_serving.build.weights import Weights
from catdog_serving.client import CatDogClient
from catdog_serving.model_archive import open_archive
from tests.support.archive_cache import BuildArchive
from tests.support.reference import reference_masses, reference_pixels

BATCH = 8


def classified(classifier: Classifier, paths: list[Path], batch: int) -> np.ndarray:
    """(cat, dog) per image: float64 (N, 2)."""
    rows = []
    for start in range(0, len(paths), batch):
        for result in classifier.classify([p.read_bytes() for p in paths[start : start + batch]]):
            assert isinstance(result, Prediction)
            rows.append((result.cat, result.dog))
    return np.array(rows)


@pytest.fixture(scope="module")
def twenty(photos: list[Path]) -> list[Path]:
    return photos[:10] + photos[50:60]


@pytest.fixture(scope="module")
def seeded_reference(seeded_resnet: Weights, twenty: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Seeded ResNet-152: masses in float32 and in float64."""
    return (
        reference_masses(seeded_resnet, twenty),
        reference_masses(seeded_resnet, twenty, torch.float64),
    )


def test_the_seeded_softmax_is_spread(seeded_resnet: Weights, twenty: list[Path]) -> None:
    # Or else every comparison below would compare zeros and ones, and prove nothing.
    pixels = np.stack([reference_pixels(path) for path in twenty])
    with torch.inference_mode():
        logits, _ = build_module(seeded_resnet)(torch.from_numpy(pixels))
    probabilities = class_probabilities(logits.numpy())
    top = probabilities.max(axis=1)
    assert top.min() > 0.02
    assert top.max() < 0.95
    dog = probabilities[:, 151:269].sum(axis=1)
    assert dog.min() > 0.01
    assert dog.max() - dog.min() > 0.05
    print(f"\nseeded top probabilities {top.min():.3f} to {top.max():.3f}")


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_seeded_resnet_is_as_exact_as_the_reference(
    build: BuildArchive,
    twenty: list[Path],
    seeded_reference: tuple[np.ndarray, np.ndarray],
    runtime: str,
) -> None:
    float32, float64 = seeded_reference
    reference_error = np.abs(float32 - float64).max()
    with open_archive(build("resnet152", "seeded", runtime)) as model_dir:
        classifier = Classifier.load(model_dir)
        alone, batched = (classified(classifier, twenty, batch) for batch in (1, BATCH))
        classifier.close()
    for masses in (alone, batched):
        error = np.abs(masses - float64).max()
        print(f"\n{runtime}: {error:.1e} from float64, the reference {reference_error:.1e}")
        assert error <= 4 * reference_error
    assert np.abs(alone - batched).max() < 1e-5


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_trained_efficientnet_equals_the_reference(
    build: BuildArchive, photos: list[Path], photo_masses: np.ndarray, runtime: str
) -> None:
    with open_archive(build("efficientnet_lite0", None, runtime)) as model_dir:
        classifier = Classifier.load(model_dir)
        masses = classified(classifier, photos, BATCH)
        classifier.close()
    print(f"\n{runtime}: {np.abs(masses - photo_masses).max():.1e} from the reference")
    assert np.abs(masses - photo_masses).max() < 1e-4
    assert np.array_equal(masses[:, 0] > masses[:, 1], photo_masses[:, 0] > photo_masses[:, 1])


def test_real_photos_through_http(
    archive: Path, client: CatDogClient, photos: list[Path], photo_masses: np.ndarray
) -> None:
    """Served alone and in full batches, against in-process and against the reference."""
    with open_archive(archive) as model_dir:
        classifier = Classifier.load(model_dir)
        in_process = classified(classifier, photos, BATCH)
        classifier.close()
    alone = [client.classify(path) for path in photos]
    with ThreadPoolExecutor(2 * BATCH) as pool:
        together = list(pool.map(client.classify, photos))
    for served in (alone, together):
        masses = np.array([(p.cat, p.dog) for p in served])
        assert np.abs(masses - in_process).max() < 1e-5
    cat_wins = np.array([p.cat > p.dog for p in alone])
    assert np.array_equal(cat_wins, photo_masses[:, 0] > photo_masses[:, 1])
    right = int(cat_wins[:50].sum() + (~cat_wins[50:]).sum())
    print(f"\nright by the larger mass: {right} of 100")
    assert right >= 94
