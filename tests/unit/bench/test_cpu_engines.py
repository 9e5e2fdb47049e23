"""Which engine is chosen by its speed, and what is said of it."""

import pytest
from rich.console import Console

from catdog.model_info import ModelInfo
from catdog_serving.bench import cpu_engines as module
from catdog_serving.bench.cpu_engines import (
    EngineChoice,
    auto_over_best,
    choose_engine,
    cpu_engines,
)
from catdog_serving.bench.interleave import Measurement
from catdog_serving.model_archive import open_archive
from tests.support.archive_cache import BuildArchive


def test_auto_is_held_against_the_best_where_it_is_least() -> None:
    rates = {
        "onnxruntime_b1": Measurement((4.0, 2.0)),
        "openvino_b1": Measurement((2.0, 1.0)),
        "onnxruntime_b8": Measurement((4.0, 2.0)),
        "openvino_b8": Measurement((8.0, 4.0)),
    }
    least = auto_over_best(rates, "onnxruntime")
    assert least is not None
    assert least.values == (0.5, 0.5)
    best = auto_over_best({k: v for k, v in rates.items() if "b1" in k}, "onnxruntime")
    assert best is not None
    assert best.median == 1
    assert auto_over_best({"onnxruntime_b1": Measurement((4.0,))}, "onnxruntime") is None


@pytest.mark.parametrize(
    ("openvino", "chosen", "said"),
    [
        (10.2, "onnxruntime", "nothing is more than 3 % faster"),
        (15.0, "openvino", "openvino is 1.50 times as fast as onnxruntime, which auto takes"),
    ],
)
def test_another_engine_is_chosen_only_where_it_is_worth_it(
    build: BuildArchive,
    monkeypatch: pytest.MonkeyPatch,
    openvino: float,
    chosen: str,
    said: str,
) -> None:
    rates = {"onnxruntime_b1": 9.0, "onnxruntime_b8": 10.0, "openvino_b1": 1.0}
    found = {
        name: {"images_per_s": Measurement((rate,))}
        for name, rate in {**rates, "openvino_b8": openvino}.items()
    }
    monkeypatch.setattr(module, "cpu_engines", lambda _: {"onnxruntime": None, "openvino": None})
    monkeypatch.setattr(module, "engine_benchmarks", lambda *_: {})
    monkeypatch.setattr(module, "run_rounds", lambda *_: found)
    monkeypatch.setattr(module, "fastest_engine", lambda _: "onnxruntime")
    with open_archive(build("efficientnet_lite0", None, "onnx")) as model_dir:
        choice = choose_engine(model_dir)
    assert isinstance(choice, EngineChoice)
    assert choice.chosen == chosen
    assert said in choice.line
    console = Console(width=100)
    with console.capture() as capture:
        console.print(choice.table())
    assert "onnxruntime  fp32       9.00" in capture.get()


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_the_engines_of_an_archive_are_those_of_its_runtime(
    build: BuildArchive, runtime: str
) -> None:
    with open_archive(build("efficientnet_lite0", None, runtime)) as model_dir:
        assert ModelInfo.read(model_dir).runtime == runtime
        found = cpu_engines(model_dir)
    assert "torch" not in found
    assert ("onnxruntime" in found) == (runtime == "onnx")
    assert {engine.precision for engine in found.values()} <= {"fp32"}
