"""The engines for CPUs: the same answers from one model.onnx, and none is slow or grows later."""

import subprocess
import sys

import numpy as np
import pytest

from catdog.engines import MODEL_FILES, Engine, ModelOutput, load_engine, open_onnx
from catdog.engines import openvino as module
from catdog.engines.openvino import OpenVinoEngine, openvino_core, split_at_features
from catdog.engines.placement import has_bf16, has_openvino
from catdog.model_info import ModelInfo
from catdog.transforms import full_image_size, full_image_sizes
from catdog_serving.model_archive import open_archive
from tests.support.archive_cache import BuildArchive

needs_openvino = pytest.mark.skipif(not has_openvino(), reason="OpenVINO is not installed")
ENGINES = ("onnxruntime", pytest.param("openvino", marks=needs_openvino))


def load(build: BuildArchive, name: str, threads: int = 2) -> Engine:
    with open_archive(build("efficientnet_lite0", None, "onnx")) as model_dir:
        return load_engine(model_dir, ModelInfo.read(model_dir), "cpu", threads, name)


def noise(count: int, width: int = 224, height: int = 224) -> list[np.ndarray]:
    shape = (count, 3, height, width)
    return list(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_says_what_it_is_and_runs_images_of_any_shape_in_order(
    build: BuildArchive, name: str
) -> None:
    engine = load(build, name)
    assert (engine.name, engine.device, engine.precision) == (name, "cpu", "fp32")
    wide = noise(3, 96, 32)
    together = engine.run(wide)
    assert together.logits.dtype == together.maps.dtype == np.float32
    assert together.maps.shape == (3, 2, 1, 3)
    for index, image in enumerate(wide):
        alone = engine.run([image])
        np.testing.assert_allclose(alone.logits[0], together.logits[index], atol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_openvino_that_cannot_be_loaded_is_told_and_done_without(
    build: BuildArchive,
    precision: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As where its wheel is there, and a library that it needs is not."""
    monkeypatch.setattr(module, "openvino_core", openvino_core.__wrapped__)  # as in a new process
    monkeypatch.setitem(sys.modules, "openvino", None)
    with open_archive(build("efficientnet_lite0", None, "onnx")) as model_dir:
        engine = open_onnx(model_dir / MODEL_FILES["onnx"], "openvino", 1, precision)
    assert (engine.name, engine.precision) == ("onnxruntime", "fp32")
    assert "OpenVINO cannot be loaded, ONNX Runtime is taken" in caplog.text


@needs_openvino
def test_workers_share_the_cores_as_they_were_told(build: BuildArchive) -> None:
    """Bound to cores, two workers would compute on the same ones."""
    engine = load(build, "openvino", threads=1)
    assert isinstance(engine, OpenVinoEngine)
    compiled = engine._requests[0].get_compiled_model()
    wanted = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False}
    assert {name: compiled.get_property(name) for name in wanted} == wanted


@needs_openvino
def test_engines_give_the_same_numbers_and_keep_what_they_gave(build: BuildArchive) -> None:
    images = noise(2)
    ours: list[ModelOutput] = []
    for name in ("onnxruntime", "openvino"):
        engine = load(build, name)
        ours.append(engine.run(images))
        engine.run(noise(2, 64, 64))  # must not write into what the first pass gave
    for one, other in zip(*ours, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4 * max(1, np.abs(one).max()))


@needs_openvino
def test_a_network_cut_at_its_features_computes_the_same(build: BuildArchive) -> None:
    """As bf16 does, on any processor: both parts in float32."""
    engine = load(build, "openvino")
    with open_archive(build("efficientnet_lite0", None, "onnx")) as model_dir:
        model = openvino_core().read_model(model_dir / "model.onnx")
        body, head = (
            openvino_core().compile_model(part, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
            for part in split_at_features(model)
        )
    for images in (noise(3), noise(1, 448, 96)):
        pixels = np.stack(images)
        (features,) = body([pixels]).values()
        assert features.shape[1] == 1280
        parts = head([features, pixels]).values()
        for one, other in zip(parts, engine.run(images), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4 * max(1, np.abs(one).max()))


@needs_openvino
def test_bf16_is_computed_or_it_is_said_that_it_is_not(
    build: BuildArchive, caplog: pytest.LogCaptureFixture
) -> None:
    with open_archive(build("efficientnet_lite0", None, "onnx")) as model_dir:
        engine = OpenVinoEngine(model_dir / "model.onnx", 2, "bf16")
    output, exact = (each.run(noise(3)) for each in (engine, load(build, "openvino")))
    difference = np.abs(output.logits - exact.logits).max() / np.abs(exact.logits).max()
    if has_bf16():
        assert engine.precision == "bf16"
        assert not caplog.records
        assert 1e-5 < difference < 0.1  # 8 bits of mantissa, 50 layers
    else:
        assert engine.precision == "fp32"
        assert "does not compute bf16" in caplog.text
        assert difference == 0


SIGNALLED = """
import gc, os, signal, sys
from pathlib import Path
from catdog.engines.openvino import OpenVinoEngine
signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
first, second = (OpenVinoEngine(Path(sys.argv[1]), 1, "fp32") for _ in range(2))
del first
gc.collect()
del second
gc.collect()
os.kill(os.getpid(), signal.SIGTERM)
"""


@needs_openvino
def test_a_signal_is_handled_after_engines_have_gone(build: BuildArchive) -> None:
    """It was a segmentation fault: handlers ran on a stack that OpenVINO had freed."""
    with open_archive(build("efficientnet_lite0", None, "onnx")) as model_dir:
        program = [sys.executable, "-c", SIGNALLED, str(model_dir / MODEL_FILES["onnx"])]
        assert subprocess.run(program, check=False).returncode == 5


def test_full_image_sizes_are_all_there_are() -> None:
    found = {full_image_size((w, h)) for w in range(10, 3000, 7) for h in (10, 90, 500, 1000, 2990)}
    assert found <= set(full_image_sizes())
    assert len(set(full_image_sizes())) == len(full_image_sizes()) == 27


EXPLAINED = """
import sys, time
from pathlib import Path
import numpy as np, psutil
from catdog.engines import load_engine
from catdog.model_info import ModelInfo
from catdog.transforms import full_image_sizes
model_dir = Path(sys.argv[1])
engine = load_engine(model_dir, ModelInfo.read(model_dir), "cpu", 1, sys.argv[2])
engine.prepare_full_images()
rss = [psutil.Process().memory_info().rss]
seconds = {size: [] for size in full_image_sizes()}
for _ in range(3):
    for (width, height), took in seconds.items():
        before = time.process_time()
        engine.run([np.zeros((3, height, width), np.uint8)])
        took.append(time.process_time() - before)
    rss.append(psutil.Process().memory_info().rss)
print(*(round(after / 1e6) for after in rss))
print(max(max(took) / min(took) for took in seconds.values()))
others = {"onnxruntime", "openvino", "torch"} - {sys.argv[2]}
print(sorted(others & set(sys.modules)))
"""


@pytest.mark.parametrize("name", ENGINES)
def test_explanations_are_never_slow_and_take_no_more_memory(
    build: BuildArchive, name: str
) -> None:
    """Every shape three times, and no other engine in that process."""
    with open_archive(build("efficientnet_lite0", None, "onnx")) as model_dir:
        words = [sys.executable, "-c", EXPLAINED, str(model_dir), name]
        result = subprocess.run(words, capture_output=True, text=True, check=True)
    memory, slowest, others = result.stdout.splitlines()
    ready, first, *later = map(int, memory.split())
    assert first - ready <= 60
    assert max(later) - first <= 5
    assert float(slowest) <= 3
    assert others == "[]"
