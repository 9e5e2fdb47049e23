"""Which device, engine and precision an archive gets, and what is said where it gets another."""

import logging

import pytest
import torch

from catdog.engines import placement
from catdog.engines.placement import best_device, choose_placement, fastest_engine
from catdog.model_info import Agreement, ModelInfo
from tests.support.model_dirs import model_info

CLOSE = Agreement(20, 20, 1.0, 1.0, 0.01, 0.02)


def packed(runtime: str, precision: str, network: str = "resnet152") -> ModelInfo:
    agreement = CLOSE if precision == "int8" else None
    return model_info(runtime=runtime, precision=precision, network=network, agreement=agreement)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine without OpenVINO, CUDA or a processor that needs either."""
    machine(monkeypatch, "avx2", openvino=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return monkeypatch


def machine(monkeypatch: pytest.MonkeyPatch, *instructions: str, openvino: bool = True) -> None:
    monkeypatch.setattr(placement, "cpu_instructions", lambda: frozenset(instructions))
    monkeypatch.setattr(placement, "has_openvino", lambda: openvino)


AMX = ("avx2", "avx512f", "amx_int8", "amx_bf16")


@pytest.mark.parametrize(
    ("instructions", "network", "precision", "engine"),
    [
        (("avx2",), "resnet152", "fp32", "onnxruntime"),
        (("avx2",), "efficientnet_lite0", "int8", "onnxruntime"),
        (("avx2", "avx512_vnni"), "resnet152", "int8", "onnxruntime"),
        (AMX, "resnet152", "fp32", "openvino"),
        (AMX, "efficientnet_lite0", "fp32", "openvino"),
        (AMX, "resnet152", "int8", "openvino"),
        (AMX, "efficientnet_lite0", "int8", "onnxruntime"),
        (AMX, "resnet152", "bf16", "openvino"),
        (("avx2", "avx512_bf16"), "resnet152", "bf16", "openvino"),
        (("avx2",), "resnet152", "bf16", "onnxruntime"),
    ],
)
@pytest.mark.parametrize("openvino", [True, False])
def test_the_fastest_follows_the_processor_and_what_is_installed(
    plain: pytest.MonkeyPatch,
    instructions: tuple[str, ...],
    network: str,
    precision: str,
    engine: str,
    openvino: bool,
) -> None:
    machine(plain, *instructions, openvino=openvino)
    expected = engine if openvino else "onnxruntime"
    assert fastest_engine(packed("onnx", precision, network)) == expected


@pytest.mark.parametrize(
    ("runtime", "precision", "engine"),
    [("torch", "fp32", "torch"), ("onnx", "fp32", "onnxruntime"), ("onnx", "int8", "onnxruntime")],
)
@pytest.mark.usefixtures("plain")
def test_the_cpu_needs_no_warning(
    runtime: str, precision: str, engine: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert choose_placement("cpu", packed(runtime, precision)) == ("cpu", precision, engine)
    assert not caplog.records


def test_bf16_is_computed_where_the_processor_can(
    plain: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    machine(plain, *AMX)
    assert choose_placement("cpu", packed("onnx", "bf16")) == ("cpu", "bf16", "openvino")
    assert not caplog.records


@pytest.mark.parametrize(
    ("runtime", "precision", "engine", "instructions", "needs"),
    [
        ("torch", "bf16", "auto", AMX, "a GPU"),
        ("torch", "fp16", "auto", AMX, "a GPU"),
        ("onnx", "bf16", "auto", ("avx2",), "OpenVINO on a processor that computes it"),
        ("onnx", "bf16", "onnxruntime", AMX, "OpenVINO on a processor that computes it"),
    ],
)
def test_half_precision_that_cannot_be_had_says_once_what_is_computed(
    plain: pytest.MonkeyPatch,
    runtime: str,
    precision: str,
    engine: str,
    instructions: tuple[str, ...],
    needs: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    machine(plain, *instructions)
    with caplog.at_level(logging.WARNING):
        chosen = choose_placement("cpu", packed(runtime, precision), engine)
    assert chosen == ("cpu", "fp32", "torch" if runtime == "torch" else "onnxruntime")
    (record,) = caplog.records
    message = record.getMessage()
    assert f"packed for {precision}, which needs {needs}" in message
    assert message.endswith("this worker computes in fp32, and its answers say so")


@pytest.mark.parametrize(
    ("engine", "runtime", "installed", "taken", "said"),
    [
        ("openvino", "onnx", True, "openvino", None),
        ("onnxruntime", "onnx", True, "onnxruntime", None),
        ("torch", "torch", True, "torch", None),
        ("openvino", "onnx", False, "onnxruntime", "is not installed"),
        ("openvino", "torch", True, "torch", "does not run archives of the torch runtime"),
        ("torch", "onnx", True, "onnxruntime", "does not run archives of the onnx runtime"),
    ],
)
def test_an_engine_is_chosen_by_hand_where_it_can_be_had(
    plain: pytest.MonkeyPatch,
    engine: str,
    runtime: str,
    installed: bool,
    taken: str,
    said: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    machine(plain, "avx2", openvino=installed)
    with caplog.at_level(logging.WARNING):
        assert choose_placement("cpu", packed(runtime, "fp32"), engine).engine == taken
    assert [said in record.getMessage() for record in caplog.records if said] == [True] * bool(said)
    assert bool(said) == bool(caplog.records)


def test_an_unknown_engine_lists_those_there_are() -> None:
    with pytest.raises(ValueError, match="auto, onnxruntime, openvino, torch; got 'tensorrt'"):
        choose_placement("cpu", packed("onnx", "fp32"), "tensorrt")


@pytest.mark.usefixtures("plain")
def test_a_gpu_without_cuda_falls_back_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert choose_placement("cuda:1", packed("torch", "bf16"))[:2] == ("cpu", "fp32")
    assert "torch sees no CUDA device" in caplog.text


def test_an_onnx_archive_on_a_gpu_worker_says_what_to_do(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        assert choose_placement("cuda:0", packed("onnx", "fp32"))[:2] == ("cpu", "fp32")
    assert "package with --runtime torch" in caplog.text


def test_a_gpu_that_is_there_is_taken_with_the_archives_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_placement("cuda:1", packed("torch", "bf16")) == ("cuda:1", "bf16", "torch")


@pytest.mark.parametrize(
    ("runtime", "cuda", "device"),
    [("torch", True, "cuda:0"), ("torch", False, "cpu"), ("onnx", True, "cpu")],
)
def test_an_archive_computes_where_it_is_packed_for(
    runtime: str, cuda: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert best_device(runtime) == device
