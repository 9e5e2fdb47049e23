import json
from dataclasses import replace
from pathlib import Path

import pytest

from catdog.model_info import Agreement, GoldenImage, ModelInfo
from tests.support.model_dirs import CATEGORIES, model_info

AGREEMENT = Agreement(
    pictures=50,
    calibration_pictures=50,
    same_winner=0.98,
    same_top_class=0.88,
    mean_difference=0.0262,
    max_difference=0.3246,
)


def test_facts_survive_the_file(tmp_path: Path) -> None:
    info = model_info(golden=(GoldenImage("golden/b.png", 0.5, 0.25, "dog"),))
    info.write(tmp_path)
    assert ModelInfo.read(tmp_path) == info


def test_the_agreement_of_int8_survives_the_file(tmp_path: Path) -> None:
    info = model_info(precision="int8", agreement=AGREEMENT)
    info.write(tmp_path)
    assert ModelInfo.read(tmp_path) == info
    model_info().write(tmp_path)
    assert json.loads((tmp_path / "model.json").read_text())["agreement"] is None


def test_int8_without_a_measured_agreement_is_refused() -> None:
    with pytest.raises(ValueError, match="agreement with fp32 if it is int8, and else only"):
        model_info(precision="int8")
    with pytest.raises(ValueError, match="got precision fp32"):
        model_info(agreement=AGREEMENT)


@pytest.mark.parametrize("agreement", [AGREEMENT, None])
def test_bf16_has_one_where_it_could_be_measured(agreement: Agreement | None) -> None:
    assert model_info(precision="bf16", agreement=agreement).agreement == agreement
    with pytest.raises(ValueError, match="got precision bf16"):
        model_info(runtime="torch", precision="bf16", agreement=AGREEMENT)


def test_an_agreement_reads_as_a_sentence() -> None:
    assert str(replace(AGREEMENT, same_winner=1.0)) == (
        "same winner as fp32 on 100.0% of 50 images, same top class on 88.0%, "
        "cat and dog differ by 0.0262 (mean), 0.3246 (max)"
    )


def test_missing_and_unknown_facts_are_named(tmp_path: Path) -> None:
    values = model_info().to_dict()
    del values["weights"]
    (tmp_path / "model.json").write_text(json.dumps(values | {"wieghts": "x"}))
    with pytest.raises(ValueError, match=r"missing \['weights'\], unknown \['wieghts'\]"):
        ModelInfo.read(tmp_path)


@pytest.mark.parametrize("other", [None, 1, 2, 4])
def test_an_archive_of_another_format_is_refused(other: int | None) -> None:
    """The first edition's said nothing about its format; in 2 golden images said no truth."""
    values = model_info().to_dict()
    assert values.pop("format") == 3
    if other is not None:
        values["format"] = other
    message = f"archive format {other or 1}, .* reads format 3"
    with pytest.raises(ValueError, match=message):
        ModelInfo.from_dict(values)


def test_an_unknown_precision_lists_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"torch: fp32\|bf16\|fp16"):
        model_info(runtime="onnx", precision="fp16")
    with pytest.raises(ValueError, match="no runtime 'tensorrt'"):
        model_info(runtime="tensorrt")


def test_categories_in_another_order_are_refused() -> None:
    with pytest.raises(ValueError, match="not ImageNet-1k"):
        model_info(categories=tuple(reversed(CATEGORIES)))


@pytest.mark.parametrize(
    ("file", "shows"),
    [
        *((file, "cat") for file in ("/etc/passwd", "golden/../x", "golden/a/b", "golden/..")),
        *((file, "cat") for file in ("../golden/x", "golden", "", "model.onnx")),
        *(("golden/a.png", shows) for shows in ("horse", "", "Cat")),
    ],
)
def test_a_golden_image_lies_in_its_folder_and_shows_what_there_is(file: str, shows: str) -> None:
    with pytest.raises(ValueError, match=f"golden image {file!r} "):
        GoldenImage(file, 0.9, 0.1, shows)


@pytest.mark.parametrize(
    "change",
    [
        {"golden": []},
        {"golden": [1]},
        {"golden": None},
        {"golden": [{"file": 1, "cat": 0.1, "dog": 0.1, "shows": "cat"}]},
        {"golden": [{"file": "golden/a", "cat": "much", "dog": 0.1, "shows": "cat"}]},
        {"golden": [{"file": "golden/a", "cat": 0.9, "dog": 0.1}]},
        {"preprocessing": None},
        {"preprocessing": {"resize_size": 256}},
        {"categories": 5},
        {"agreement": [1]},
        {"runtime": ["onnx"]},
    ],
    ids=str,
)
def test_facts_of_another_shape_are_one_kind_of_error(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="golden|model.json|categories|runtime"):
        ModelInfo.from_dict(json.loads(json.dumps(model_info().to_dict())) | change)


@pytest.mark.parametrize("facts", [[], None, "x", 1])
def test_a_model_json_that_is_no_object_is_the_same_kind_of_error(facts: object) -> None:
    with pytest.raises(ValueError, match="model.json holds no facts"):
        ModelInfo.from_dict(facts)  # type: ignore[arg-type]
