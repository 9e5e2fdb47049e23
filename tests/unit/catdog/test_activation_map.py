import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from catdog.activation_map import activation_maps, locate
from catdog.classifier import Classifier
from catdog.labels import CAT_INDICES, DOG_INDICES
from catdog.postprocess import class_probabilities
from catdog.results import Explanation
from catdog.transforms import full_view
from catdog_serving.model_archive import open_archive
from tests.support.paths import SAMPLES

UNIT = full_view((100, 100))


def maps_of(
    logits: np.ndarray, features: np.ndarray, last_layer: np.ndarray, groups: list[range]
) -> np.ndarray:
    return activation_maps(logits, class_probabilities(logits), features, last_layer, groups)


def test_each_image_of_a_batch_gets_the_map_it_gets_alone() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 3, (5, 1000)).astype(np.float32)
    features = generator.random((5, 64, 7, 9), dtype=np.float32)
    last_layer = generator.normal(0, 1, (1000, 64)).astype(np.float32)
    groups = [CAT_INDICES, DOG_INDICES, CAT_INDICES, DOG_INDICES, CAT_INDICES]
    together = maps_of(logits, features, last_layer, groups)
    for index, group in enumerate(groups):
        one = slice(index, index + 1)
        alone = maps_of(logits[one], features[one], last_layer, [group])
        np.testing.assert_allclose(together[one], alone, rtol=0, atol=1e-5)
        assert alone.max() == 1
        assert alone.min() >= 0


@pytest.mark.parametrize("cat_logit", [-1e4, 1e30])
def test_a_mass_of_nearly_nothing_or_everything_still_has_a_map(cat_logit: float) -> None:
    logits = np.zeros((1, 1000), dtype=np.float32)
    logits[0, 281:286] = cat_logit
    features = np.random.default_rng(0).random((1, 8, 7, 7), dtype=np.float32)
    last_layer = np.random.default_rng(1).normal(0, 1, (1000, 8)).astype(np.float32)
    found = maps_of(logits, features, last_layer, [CAT_INDICES])
    assert np.isfinite(found).all()
    assert found.max() == 1


def test_nothing_that_speaks_for_the_group_is_a_map_of_zeros_and_no_box() -> None:
    zeros = np.zeros((1, 8, 7, 7), dtype=np.float32)
    found = maps_of(np.zeros((1, 1000)), zeros, np.zeros((1000, 8)), [CAT_INDICES])
    assert found.max() == 0
    assert locate(found[0], UNIT, 0.3) is None


def test_a_last_layer_of_another_network_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected a last layer of shape \(1000, 8\)"):
        maps_of(np.zeros((1, 1000)), np.zeros((1, 8, 7, 7)), np.zeros((1000, 9)), [CAT_INDICES])


def test_the_box_is_of_the_largest_region_not_of_the_highest_peak() -> None:
    activation = np.zeros((10, 10), dtype=np.float32)
    activation[1:5, 1:6] = 0.8
    activation[8, 8] = 1
    box = locate(activation, UNIT, 0.4)
    assert box is not None
    for found, edge in zip(box, (10, 10, 60, 50), strict=True):
        assert abs(found - edge) <= 3  # the interpolated edge of a step lies beside it


@given(
    arrays(np.bool_, st.tuples(st.integers(1, 8), st.integers(1, 8)), elements=st.booleans()),
    st.tuples(st.integers(1, 500), st.integers(1, 500)),
)
def test_the_region_is_the_one_that_scipy_finds(mask: np.ndarray, size: tuple[int, int]) -> None:
    """Any pattern of cells: the interpolated map labelled by scipy, the largest region's box."""
    from scipy import ndimage

    from catdog.activation_map import _interpolation

    activation = mask.astype(np.float32)
    box = locate(activation, full_view(size), 0.5)
    fine = _interpolation(mask.shape[0]) @ activation @ _interpolation(mask.shape[1]).T
    labelled, count = ndimage.label(fine >= 0.5)
    if count == 0:
        assert box is None
        return
    areas = ndimage.sum_labels(fine >= 0.5, labelled, range(1, count + 1))
    boxes = ndimage.find_objects(labelled)
    largest = [
        (
            int(found[1].start * size[0] / fine.shape[1]),
            int(found[0].start * size[1] / fine.shape[0]),
            int(np.ceil(found[1].stop * size[0] / fine.shape[1] - 1e-9)),
            int(np.ceil(found[0].stop * size[1] / fine.shape[0] - 1e-9)),
        )
        for found, area in zip(boxes, areas, strict=True)
        if area == areas.max()
    ]
    assert any(np.abs(np.subtract(box, one)).max() <= 1 for one in largest)


def test_an_explanation_survives_the_way_over_http(archive: Path) -> None:
    with open_archive(archive) as model_dir:
        classifier = Classifier.load(model_dir)
        (explanation,) = classifier.explain([(SAMPLES / "chelsea.png").read_bytes()])
        classifier.close()
    assert isinstance(explanation, Explanation)
    sent = json.loads(json.dumps(explanation.to_dict()))
    assert Explanation.from_dict(sent) == explanation


def test_the_explained_prediction_is_the_prediction(archive: Path) -> None:
    images = [path.read_bytes() for path in sorted(SAMPLES.iterdir())]
    with open_archive(archive) as model_dir:
        classifier = Classifier.load(model_dir)
        predictions = classifier.classify(images)
        explanations = classifier.explain(images)
        classifier.close()
    for prediction, explanation in zip(predictions, explanations, strict=True):
        assert isinstance(explanation, Explanation)
        assert explanation.prediction == prediction
        assert (explanation.box is None) == (prediction.label == "neither")
        assert (prediction.box is None) == (prediction.label == "neither")
