"""Boxes and maps over HTTP, and from each runtime."""

import io
import json
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from catdog.classifier import Classifier
from catdog.overlay import draw_overlay
from catdog.results import ActivationMap, Explanation, Prediction
from catdog_serving.client import CatDogClient
from catdog_serving.errors import InvalidImageError
from catdog_serving.model_archive import open_archive
from catdog_serving.torchserve.server import TorchServe
from tests.support.paths import SAMPLES
from tests.support.raw_requests import post_all

CAT = SAMPLES / "chelsea.png"
MAP = {"Catdog-Map": "true"}
PNG = {"Accept": "image/png"}
CONCURRENCY = 16


def test_an_explanation_over_http_is_the_one_in_process(
    archive: Path, client: CatDogClient, photos: list[Path]
) -> None:
    some = [*photos[::10], *sorted(SAMPLES.iterdir())]
    with open_archive(archive) as model_dir:
        classifier = Classifier.load(model_dir)
        expected = classifier.explain([path.read_bytes() for path in some])
        classifier.close()
    for path, inside in zip(some, expected, strict=True):
        served = client.explain(path)
        assert isinstance(inside, Explanation)
        assert (served.box, served.prediction.box) == (inside.box, inside.prediction.box)
        assert_same_map(served.map, inside.map)
        assert served.prediction == client.classify(path)


def test_an_explanation_survives_the_way_over_http(archive: Path) -> None:
    with open_archive(archive) as model_dir:
        classifier = Classifier.load(model_dir)
        (explanation,) = classifier.explain([CAT.read_bytes()])
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


def test_a_prediction_brings_its_map_only_when_asked(client: CatDogClient) -> None:
    assert client.classify(CAT).map is None
    with_map = client.classify(CAT, with_map=True)
    assert with_map.map is not None
    assert with_map.map.size == (451, 300)
    assert with_map == client.classify(CAT)


def test_what_is_no_image_cannot_be_explained(client: CatDogClient) -> None:
    with pytest.raises(InvalidImageError, match="cannot decode 4 bytes"):
        client.explain(b"junk")


def test_200_mixed_requests_each_get_what_they_asked_for(
    server: TorchServe, client: CatDogClient, photos: list[Path]
) -> None:
    """Predictions with and without map, explanations and drawings; 5 % are no images."""
    images = {path: path.read_bytes() for path in photos[::7]}
    alone = {path: client.explain(path) for path in images}
    maps = {path: client.classify(path, with_map=True).map for path in images}
    order = random.Random(7)
    plan: list[tuple[str, dict[str, str], Path | None]] = []
    for number in range(200):
        api, headers = order.choice(
            [("predictions", {}), ("predictions", MAP), ("explanations", {}), ("explanations", PNG)]
        )
        plan.append((api, headers, None if number % 20 == 0 else order.choice(list(images))))
    order.shuffle(plan)
    answers = post_all(
        server.config.inference_url,
        (
            (
                api,
                images[path] if path else b"no image",
                {"Content-Type": "application/octet-stream", **headers},
            )
            for api, headers, path in plan
        ),
        CONCURRENCY,
    )
    for (api, headers, path), answer in zip(plan, answers, strict=True):
        if path is None:
            assert answer.status == 400
            assert json.loads(answer.body)["type"] == "InvalidImage"
            continue
        assert answer.status == 200
        expected = alone[path]
        if headers == PNG and api == "explanations":
            with Image.open(io.BytesIO(answer.body)) as drawn:
                assert drawn.format == "PNG"
                assert_same_image(drawn, overlay(path, expected))
        elif api == "explanations":
            explanation = Explanation.from_dict(json.loads(answer.body))
            assert_same_prediction(explanation.prediction, expected.prediction)
            assert explanation.box == expected.box
            assert_same_map(explanation.map, expected.map)
        else:
            prediction = Prediction.from_dict(json.loads(answer.body))
            assert_same_prediction(prediction, expected.prediction)
            if headers == MAP:
                own = maps[path]
                assert prediction.map is not None
                assert own is not None
                assert_same_map(prediction.map, own)
            else:
                assert prediction.map is None


def overlay(path: Path, explanation: Explanation) -> Image.Image:
    with Image.open(path) as image:
        return draw_overlay(image.convert("RGB"), explanation.map, explanation.box)


def assert_same_image(one: Image.Image, other: Image.Image) -> None:
    """But for the map's rounding; without map or box, or with another's, it is far more."""
    assert one.size == other.size
    assert np.abs(np.asarray(one, float) - np.asarray(other, float)).mean() < 0.5


def assert_same_prediction(one: Prediction, other: Prediction) -> None:
    assert (one.label, one.box, one.version) == (other.label, other.box, other.version)
    assert abs(one.cat - other.cat) <= 1e-5
    assert abs(one.dog - other.dog) <= 1e-5


def assert_same_map(one: ActivationMap, other: ActivationMap) -> None:
    """Rounding to 3 decimals may fall to either side."""
    assert one.size == other.size
    np.testing.assert_allclose(one.view, other.view, rtol=0, atol=0.01)
    np.testing.assert_allclose(one.grid, other.grid, rtol=0, atol=1e-3 + 1e-9)
