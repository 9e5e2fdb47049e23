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
    info = model_info(golden=(GoldenImage("golden/a.png", 0.5, 0.25),))
    info.write(tmp_path)
    assert ModelInfo.read(tmp_path) == info


def test_the_agreement_of_int8_survives_the_file(tmp_path: Path) -> None:
    info = model_info(precision="int8", agreement=AGREEMENT)
    info.write(tmp_path)
    assert ModelInfo.read(tmp_path) == info
    model_info().write(tmp_path)
    assert json.loads((tmp_path / "model.json").read_text())["agreement"] is None


def test_int8_without_a_measured_agreement_is_refused() -> None:
    with pytest.raises(ValueError, match="agreement with fp32 if it is int8, and only then"):
        model_info(precision="int8")
    with pytest.raises(ValueError, match="got precision fp32"):
        model_info(agreement=AGREEMENT)


def test_an_agreement_reads_as_a_sentence() -> None:
    assert str(replace(AGREEMENT, same_winner=1.0)) == (
        "same winner as fp32 on 100.0% of 50 images, same top class on 88.0%, "
        "masses differ by 0.0262 (mean), 0.3246 (max)"
    )


def test_missing_and_unknown_facts_are_named(tmp_path: Path) -> None:
    values = model_info().to_dict()
    del values["weights"]
    (tmp_path / "model.json").write_text(json.dumps(values | {"wieghts": "x"}))
    with pytest.raises(ValueError, match=r"missing \['weights'\], unknown \['wieghts'\]"):
        ModelInfo.read(tmp_path)


@pytest.mark.parametrize("other", [None, 1, 3])
def test_an_archive_of_another_format_is_refused(other: int | None) -> None:
    """The first edition's said nothing about its format."""
    values = model_info().to_dict()
    assert values.pop("format") == 2
    if other is not None:
        values["format"] = other
    message = f"archive format {other or 1}, .* reads format 2"
    with pytest.raises(ValueError, match=message):
        ModelInfo.from_dict(values)


def test_an_unknown_precision_lists_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"torch: fp32\|bf16\|fp16"):
        model_info(runtime="onnx", precision="bf16")
    with pytest.raises(ValueError, match="no runtime 'tensorrt'"):
        model_info(runtime="tensorrt")


def test_categories_in_another_order_are_refused() -> None:
    with pytest.raises(ValueError, match="not ImageNet-1k"):
        model_info(categories=tuple(reversed(CATEGORIES)))
