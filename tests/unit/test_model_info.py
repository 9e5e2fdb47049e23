import json
from pathlib import Path

import pytest

from catdog.model_info import GoldenPicture, ModelInfo
from tests.model_dirs import CATEGORIES, model_info


def test_facts_survive_the_file(tmp_path: Path) -> None:
    info = model_info(golden=(GoldenPicture("golden/a.png", 0.5, 0.25),))
    info.write(tmp_path)
    assert ModelInfo.read(tmp_path) == info


def test_missing_and_unknown_facts_are_named(tmp_path: Path) -> None:
    values = model_info().to_dict()
    del values["weights"]
    (tmp_path / "model.json").write_text(json.dumps(values | {"wieghts": "x"}))
    with pytest.raises(ValueError, match=r"missing \['weights'\], unknown \['wieghts'\]"):
        ModelInfo.read(tmp_path)


def test_an_unknown_precision_lists_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"torch: fp32\|bf16\|fp16"):
        model_info(runtime="onnx", precision="bf16")
    with pytest.raises(ValueError, match="no runtime 'tensorrt'"):
        model_info(runtime="tensorrt")


def test_categories_in_another_order_are_refused() -> None:
    with pytest.raises(ValueError, match="not ImageNet-1k"):
        model_info(categories=tuple(reversed(CATEGORIES)))
