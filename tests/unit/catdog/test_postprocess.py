import json

import numpy as np
import pytest
import torch
from torchvision.models import ResNet152_Weights

from catdog.postprocess import class_masses, class_probabilities, predict
from catdog.results import Breed, ClassProbability, ModelId, Prediction

CATEGORIES = ResNet152_Weights.IMAGENET1K_V1.meta["categories"]
MODEL = ModelId("resnet152", "IMAGENET1K_V1", "fp32")
CATS, DOGS = slice(281, 286), slice(151, 269)


def logits_for(**probabilities: float) -> np.ndarray:
    """One row whose softmax gives the named classes these probabilities, the rest the remainder."""
    row = np.full(1000, (1 - sum(probabilities.values())) / (1000 - len(probabilities)))
    for name, probability in probabilities.items():
        row[CATEGORIES.index(name.replace("_", " "))] = probability
    return np.log(row)[np.newaxis]


def answer(logits: np.ndarray, threshold: float = 0.25) -> Prediction:
    (prediction,) = predict(class_probabilities(logits), CATEGORIES, threshold, MODEL, "1.0")
    return prediction


def test_masses_are_the_scripts_sums_of_softmax() -> None:
    logits = np.random.default_rng(1).normal(0, 3, (16, 1000)).astype(np.float32)
    probabilities = torch.from_numpy(logits).double().softmax(dim=1)
    expected = torch.stack(
        (probabilities[:, 281:286].sum(dim=1), probabilities[:, 151:269].sum(dim=1)), dim=1
    )
    np.testing.assert_allclose(class_masses(logits), expected.numpy(), rtol=0, atol=1e-12)


def test_huge_logits_do_not_overflow() -> None:
    logits = np.zeros((1, 1000), dtype=np.float32)
    logits[0, 281] = 1e30
    assert class_masses(logits).tolist() == [[1.0, 0.0]]


@pytest.mark.parametrize("shape", [(1000,), (2, 999), (1, 2, 1000)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected logits of shape \(N, 1000\)"):
        class_masses(np.zeros(shape))
    with pytest.raises(ValueError, match="expected logits"):
        class_probabilities(np.zeros(shape))


def predict_plainly(logits: np.ndarray, threshold: float) -> Prediction:
    """One image by itself, in the plainest way, logits (1000,)."""
    (probabilities,) = class_probabilities(logits[np.newaxis])
    cat, dog = (float(probabilities[group].sum()) for group in (CATS, DOGS))
    label = "neither" if cat + dog < threshold else "cat" if cat > dog else "dog"
    breed = None
    if label != "neither":
        group, mass = (CATS, cat) if label == "cat" else (DOGS, dog)
        index = max(range(group.start, group.stop), key=lambda i: probabilities[i])
        own = float(probabilities[index])
        breed = Breed(CATEGORIES[index], index, round(own / mass, 6), round(own, 6))
    top = np.argsort(-probabilities, kind="stable")[:5].tolist()
    return Prediction(
        label=label,
        cat=round(cat, 6),
        dog=round(dog, 6),
        other=round(max(0.0, 1 - round(cat, 6) - round(dog, 6)), 6),
        breed=breed,
        top=tuple(
            ClassProbability(i, CATEGORIES[i], round(float(probabilities[i]), 6)) for i in top
        ),
        box=None,
        model=MODEL,
        version="1.0",
    )


@pytest.mark.parametrize("decimals", [9, 1, 0, -1])
@pytest.mark.parametrize("spread", [1, 4])
def test_a_batch_is_answered_as_each_of_its_images_by_itself(decimals: int, spread: int) -> None:
    """Logits as sure as a network's, and many equal ones, of which the lowest index is first."""
    random = np.random.default_rng(spread)
    logits = random.normal(0, spread, (64, 1000))
    logits[:24, DOGS] += spread  # a third dogs, a third cats
    logits[24:48, CATS] += 5
    logits = logits.round(decimals).astype(np.float32)
    predictions = predict(class_probabilities(logits), CATEGORIES, 0.25, MODEL, "1.0")
    assert predictions == [predict_plainly(row, 0.25) for row in logits]
    assert predictions == [answer(row[np.newaxis]) for row in logits]


def test_a_cat() -> None:
    prediction = answer(logits_for(tabby=0.6, tiger_cat=0.3, beagle=0.05))
    assert prediction.label == "cat"
    assert prediction.cat == pytest.approx(0.9, abs=2e-3)
    assert prediction.breed is not None
    assert (prediction.breed.name, prediction.breed.index) == ("tabby", 281)
    assert prediction.breed.share == pytest.approx(0.6 / prediction.cat, abs=1e-5)
    assert prediction.breed.probability == prediction.top[0].probability
    assert [entry.name for entry in prediction.top[:3]] == ["tabby", "tiger cat", "beagle"]
    assert len(prediction.top) == 5
    assert prediction.box is None


def test_the_breed_comes_from_the_winning_group() -> None:
    prediction = answer(logits_for(tabby=0.35, beagle=0.2, pug=0.2))
    assert prediction.label == "dog"
    assert prediction.breed is not None
    assert prediction.breed.name == "beagle"
    assert prediction.top[0].name == "tabby"


def test_below_the_threshold_it_is_neither() -> None:
    logits = logits_for(tabby=0.2, espresso=0.7)
    prediction = answer(logits)
    assert prediction.label == "neither"
    assert prediction.breed is None
    assert answer(logits, threshold=0.1).label == "cat"


def test_masses_are_not_renormalised() -> None:
    prediction = answer(logits_for(tabby=0.3, beagle=0.1, espresso=0.5))
    assert prediction.cat + prediction.dog < 0.45
    assert prediction.cat + prediction.dog + prediction.other == pytest.approx(1, abs=2e-6)


def test_predictions_come_in_order() -> None:
    logits = np.concatenate([logits_for(tabby=0.9), logits_for(pug=0.9), logits_for(cup=0.9)])
    labels = [p.label for p in predict(class_probabilities(logits), CATEGORIES, 0.25, MODEL, "1.0")]
    assert labels == ["cat", "dog", "neither"]


def test_an_answer_survives_json() -> None:
    for logits in (logits_for(tabby=0.9), logits_for(cup=0.9)):
        prediction = answer(logits)
        sent = json.loads(json.dumps(prediction.to_dict()))
        assert list(sent) == [
            *("label", "cat", "dog", "other", "breed", "top", "box"),
            *("network", "weights", "precision", "version"),
        ]
        assert Prediction.from_dict(sent | {"added_later": 1}) == prediction
