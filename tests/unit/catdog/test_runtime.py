import logging
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from catdog.model_info import ModelInfo
from catdog.networks import NETWORKS, get_network
from catdog.runtime import choose_placement, load_runtime
from catdog.torch_module import PixelsToLogits, fold_batch_norm
from catdog.transforms import Preprocessing
from catdog_serving.model_archive import open_archive
from tests.support.archive_cache import BuildArchive

IMAGENET = Preprocessing(256, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_an_unknown_network_lists_those_there_are() -> None:
    with pytest.raises(ValueError, match="choose from resnet152, efficientnet_lite0"):
        get_network("resnet50")


@pytest.mark.parametrize("name", NETWORKS)
def test_the_module_equals_the_networks_own_forward(name: str) -> None:
    network = get_network(name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = network.build().eval()
    pixels = torch.from_numpy(
        np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64), dtype=np.uint8)
    )
    mean = torch.tensor(IMAGENET.mean).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET.std).view(1, 3, 1, 1)
    with torch.inference_mode():
        expected = module((pixels / 255 - mean) / std)
        logits, features = PixelsToLogits(network, module, IMAGENET).eval()(pixels)
    assert logits.shape == (2, 1000)
    assert features.shape[2:] == (2, 2)
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-4 * expected.abs().max())


@pytest.mark.parametrize("name", NETWORKS)
def test_folding_leaves_no_batch_norm_and_the_same_numbers(name: str) -> None:
    network = get_network(name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = network.build().eval()
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):  # as after training, not 0 and 1
                layer.running_mean.normal_(0, 0.1)
                layer.running_var.uniform_(0.5, 2)
                nn.init.normal_(layer.bias, 0, 0.1)
    whole = PixelsToLogits(network, module, IMAGENET).eval().double()
    pixels = torch.from_numpy(
        np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64), dtype=np.uint8)
    )
    folded = fold_batch_norm(whole)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())
    with torch.inference_mode():
        for ours, expected in zip(folded(pixels), whole(pixels), strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-8)


def test_the_cpu_needs_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert choose_placement("cpu", "torch", "fp32") == ("cpu", "fp32")
    assert choose_placement("cpu", "onnx", "int8") == ("cpu", "int8")
    assert not caplog.records


def test_a_gpu_without_cuda_falls_back_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with caplog.at_level(logging.WARNING):
        assert choose_placement("cuda:1", "torch", "bf16") == ("cpu", "fp32")
    assert "torch sees no CUDA device" in caplog.text


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_on_a_cpu_says_once_what_is_computed(
    precision: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert choose_placement("cpu", "torch", precision) == ("cpu", "fp32")
    (record,) = caplog.records
    assert record.getMessage() == (
        f"the archive is packed for {precision}, which needs a GPU: this worker computes in fp32, "
        "and its answers say so"
    )


def test_an_onnx_archive_on_a_gpu_worker_says_what_to_do(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        assert choose_placement("cuda:0", "onnx", "fp32") == ("cpu", "fp32")
    assert "package with --runtime torch" in caplog.text


def test_a_gpu_that_is_there_is_taken_with_the_archives_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_placement("cuda:1", "torch", "bf16") == ("cuda:1", "bf16")


def test_a_compiled_network_gives_the_same_and_fills_batches_up(
    build: BuildArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def compile_eagerly(module: nn.Module, dynamic: bool) -> Callable[[torch.Tensor], object]:
        assert dynamic is False

        def run(batch: torch.Tensor) -> object:
            seen.append(len(batch))
            return module(batch)

        return run

    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 224, 224), dtype=np.uint8)
    with open_archive(build("efficientnet_lite0", None, "torch")) as model_dir:
        info = ModelInfo.read(model_dir)
        plain = load_runtime(model_dir, info, "cpu", 2)
        monkeypatch.setattr(torch, "compile", compile_eagerly)
        compiled = load_runtime(model_dir, info, "cpu", 2, compiled=True)
    assert list(compiled.batch_sizes(5)) == [1, 2, 4, 8]
    assert list(plain.batch_sizes(5)) == [1, 5]
    for size in (1, 2, 3, 5):
        expected, output = plain.run(pixels[:size]), compiled.run(pixels[:size])
        assert output.logits.shape == (size, 1000)
        assert output.maps.shape == expected.maps.shape
        np.testing.assert_allclose(output.logits, expected.logits, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(output.maps, expected.maps, rtol=1e-3, atol=1e-3)
    assert seen == [1, 2, 4, 8]
