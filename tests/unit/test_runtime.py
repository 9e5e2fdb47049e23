import logging

import numpy as np
import pytest
import torch
from torch import nn

from catdog.networks import NETWORKS, get_network
from catdog.preprocess import Preprocessing
from catdog.runtime import choose_device
from catdog.torch_module import PixelsToLogits, fold_batch_norm

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
    assert choose_device("cpu", "torch") == "cpu"
    assert choose_device("cpu", "onnx") == "cpu"
    assert not caplog.records


def test_a_gpu_without_cuda_falls_back_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with caplog.at_level(logging.WARNING):
        assert choose_device("cuda:1", "torch") == "cpu"
    assert "torch sees no CUDA device" in caplog.text


def test_an_onnx_archive_on_a_gpu_worker_says_what_to_do(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        assert choose_device("cuda:0", "onnx") == "cpu"
    assert "package with --runtime torch" in caplog.text
