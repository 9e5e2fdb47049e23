"""What an answer is, and that everything which repeats it says the same."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from catdog.results import (
    ActivationMap,
    Animal,
    Box,
    Breed,
    ClassProbability,
    Explanation,
    ModelId,
    Prediction,
)
from catdog_serving.folder import outputs
from catdog_serving.folder.image_result import FileInfo, ImageResult
from catdog_serving.viewer import gallery
from tests.support.paths import ROOT

MAP = ActivationMap((10, 8), (0.0, 0.0, 10.0, 8.0), ((0.0, 1.0), (0.5, 0.25)))
PREDICTION = Prediction(
    label="cat",
    cat=0.9,
    dog=0.05,
    other=0.05,
    breed=Breed("tabby", 281, 0.5, 0.45),
    top=(ClassProbability(281, "tabby", 0.45),),
    box=Box(1, 2, 3, 4),
    model=ModelId("resnet152", "IMAGENET1K_V1", "fp32"),
    version="1.0",
    map=MAP,
)


def test_openapi_parquet_csv_and_report_have_the_same_fields() -> None:
    answer = PREDICTION.to_dict(with_map=True)
    schemas = yaml.safe_load((ROOT / "docs" / "openapi.yaml").read_text())["components"]["schemas"]
    documented = schemas["Prediction"]["properties"]
    assert list(documented) == list(answer)
    assert schemas["Prediction"]["required"] == [name for name in answer if name != "map"]
    assert list(documented["breed"]["oneOf"][1]["properties"]) == list(answer["breed"])
    assert list(documented["top"]["items"]["properties"]) == list(answer["top"][0])
    assert list(schemas["Map"]["properties"]) == list(answer["map"])
    explanation = Explanation(PREDICTION, PREDICTION.box, MAP)
    both = replace(explanation, animals=(Animal("cat", Box(1, 2, 3, 4), 0.9),)).to_dict()
    documented = schemas["Explanation"]
    assert list(documented["properties"]) == list(both)
    assert documented["required"] == list(explanation.to_dict())
    animal = documented["properties"]["animals"]["items"]["properties"]
    assert list(animal) == list(both["animals"][0])

    row = ImageResult(FileInfo(Path("cat.jpg"), 1, 2, "0" * 64), PREDICTION).to_dict()
    in_parquet = outputs.parquet_schema()
    assert in_parquet.names == [*(name for name in row if name != "map"), "error"]
    assert [field.name for field in in_parquet.field("breed").type] == list(answer["breed"])
    assert [field.name for field in in_parquet.field("top").type.value_type] == list(
        answer["top"][0]
    )
    flat = {"breed_index", "breed_share", "breed_probability", "error_type", "error_message"}
    assert set(outputs._CSV_COLUMNS) - flat == set(row) - {"top", "map"}
    assert set(gallery._SHOWN) <= set(row)


@pytest.mark.parametrize(("x1", "fills"), [(100, True), (90, True), (89, False)])
def test_a_box_of_nine_tenths_of_an_image_fills_it(x1: int, fills: bool) -> None:
    assert Box(0, 0, x1, 50).fills((100, 50)) is fills


def test_answers_survive_the_way_over_http() -> None:
    explanation = Explanation(PREDICTION, None, MAP)
    for answer in (PREDICTION, explanation):
        sent = json.loads(json.dumps(answer.to_dict()))
        assert type(answer).from_dict(sent) == answer
    newer = json.loads(json.dumps(PREDICTION.to_dict(with_map=True))) | {"mood": "sleepy"}
    newer["breed"] |= {"coat": "striped"}
    assert Prediction.from_dict(newer).map == PREDICTION.map


def test_the_breeds_probability_of_an_older_server_is_its_share_of_the_labels_sum() -> None:
    older = PREDICTION.to_dict()
    del older["breed"]["probability"]
    assert Prediction.from_dict(older) == PREDICTION


@pytest.mark.parametrize(("cat", "breed"), [(0.5, "tabby"), (0.49, None)])
def test_an_uncertain_label_shows_no_breed(cat: float, breed: str | None) -> None:
    shown = replace(PREDICTION, cat=cat).certain_breed
    assert (shown and shown.name) == breed


def test_untrained_weights_are_called_that() -> None:
    assert str(PREDICTION.model) == "resnet152 IMAGENET1K_V1, fp32"
    untrained = ModelId("resnet152", "seeded", "int8")
    assert str(untrained) == "resnet152 seeded (untrained: its answers mean nothing), int8"
    assert ModelId.from_dict(untrained.to_dict()) == untrained


def test_a_client_loads_results_errors_and_what_an_image_may_be_and_nothing_else_of_ours() -> None:
    program = """
import sys
import catdog_serving
print(*sorted(name for name in sys.modules if name.partition(".")[0].startswith("catdog")))
print("PIL" in sys.modules, "numpy" in sys.modules)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines() == [
        "catdog catdog.invalid_image catdog.results catdog_serving catdog_serving.answer_errors "
        "catdog_serving.client catdog_serving.errors catdog_serving.http_session "
        "catdog_serving.image_source",
        "False False",
    ]
