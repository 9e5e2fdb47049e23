"""A user's own weights: found within what a training saved, or refused by their cause."""

import dataclasses
import io
import json
import pickle
import struct
import warnings
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import resnet18, resnet34, resnet50, resnext50_32x4d, vit_b_16
from torchvision.models.resnet import BasicBlock, ResNet

from catdog.networks import get_network
from catdog_serving.build.weights_file import load_state
from catdog_serving.errors import NotReadyError

LITE = get_network("efficientnet_lite0")


def small(classes: int = 1000) -> nn.Module:
    """As small as a ResNet gets; under the name of the one that catdog packs."""
    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=classes)


SMALL = dataclasses.replace(get_network("resnet152"), build=small)
STATE = dict(small().state_dict())
OTHER = {name: torch.zeros_like(value) for name, value in STATE.items()}


def prefixed(prefix: str, state: dict[str, Any] = STATE) -> dict[str, Any]:
    return {prefix + name: value for name, value in state.items()}


@pytest.mark.parametrize(
    "saved",
    [
        OrderedDict(STATE),
        {"state_dict": STATE, "epoch": 3, "best": 0.9},
        {"model_state_dict": STATE, "optimizer_state_dict": {"state": {}}},
        {"model": STATE, "model_ema": OTHER, "args": "none"},
        {"model": {"state_dict": prefixed("module.")}},
        prefixed("module."),
        prefixed("module._orig_mod."),
        {"state_dict": prefixed("model."), "pytorch-lightning_version": "2"},
        {"net": prefixed("_orig_mod.module.")},
        {name: value for name, value in STATE.items() if "num_batches" not in name},
        {name: v.half() if v.is_floating_point() else v for name, v in STATE.items()},
    ],
    ids=lambda saved: ",".join(list(saved)[:2]),
)
def test_a_state_is_found_within_what_a_training_saved(
    saved: dict[str, Any], tmp_path: Path
) -> None:
    torch.save(saved, tmp_path / "mine.pth")
    state = load_state(SMALL, tmp_path / "mine.pth")
    for name in ("conv1.weight", "fc.bias", "layer4.0.bn2.running_var"):
        assert state[name].dtype == torch.float32
        torch.testing.assert_close(state[name], STATE[name], atol=1e-3, rtol=1e-3)
    small().load_state_dict(state, strict=True)


def saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def like(build: Callable[[], nn.Module]) -> bytes:
    """The names and shapes of a network, without its megabytes."""
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in build().state_dict().items()}
    return saved({name: torch.zeros(()).expand(shape) for name, shape in shapes.items()})


def scripted() -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and still what people have
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), buffer)
    return buffer.getvalue()


def safetensors() -> bytes:
    header = json.dumps({"fc.bias": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}})
    return struct.pack("<Q", len(header)) + header.encode()


TWO = dict(small(2).state_dict())
BROKEN = STATE | {"layer1.0.bn1.weight": STATE["layer1.0.bn1.weight"] * float("nan")}
LACKING = {name: value for name, value in STATE.items() if name != "bn1.bias"}
WIDER = STATE | {"layer1.0.bn1.weight": torch.ones(65)}

CAUSES: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "it is empty"),
    "LFS": (lambda: b"version https://git-lfs.github.com/spec/v1\noid x", "run: git lfs pull"),
    "web page": (lambda: b"\n<!DOCTYPE html><html>", "it is a web page"),
    "Keras": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(100), "it is an HDF5 file"),
    "gzip": (lambda: b"\x1f\x8b" + bytes(100), "it is compressed"),
    "safetensors": (safetensors, "it is a safetensors file"),
    "text": (lambda: b"weights" * 100, "it is no PyTorch file"),
    "image": (lambda: b"\x89PNG\r\n\x1a\n", "it is no PyTorch file"),
    "another pickle": (lambda: pickle.dumps([1, 2]), "it is no PyTorch file"),
    "cut off": (lambda: saved(STATE)[:-1000], "it is cut off"),
    "TorchScript": (scripted, "it is a TorchScript program"),
    "a module": (lambda: saved(nn.Linear(2, 2)), r"save the model.s state_dict\(\) alone"),
    "arguments beside": (
        lambda: saved({"model": STATE, "args": Namespace(lr=1)}),
        "it holds Python objects",
    ),
    "a tensor": (lambda: saved(torch.zeros(2)), r"it holds a Tensor and no state_dict"),
    "a list": (lambda: saved([1]), "it holds a list and no state_dict"),
    "optimizer": (
        lambda: saved({"optimizer": {}, "epoch": 3}),
        "it holds optimizer, epoch, and no",
    ),
    "nothing": (lambda: saved({}), "it holds nothing, and no state_dict"),
    "two": (lambda: saved({"model": STATE, "net": OTHER}), "it holds model and net; save the one"),
    "2 classes": (lambda: saved(TWO), "its head has 2 classes, .* ImageNet's 1,000"),
    "2 classes, wrapped": (
        lambda: saved({"state_dict": prefixed("module.", TWO)}),
        "its head has 2 classes",
    ),
    "ResNet-34": (lambda: like(resnet34), "it looks like ResNet-34, and --network"),
    "ResNet-50": (lambda: like(resnet50), "it looks like ResNet-50"),
    "ResNeXt": (lambda: like(resnext50_32x4d), "it looks like a ResNeXt"),
    "Res2Net": (
        lambda: saved({"layer1.0.conv1.weight": torch.zeros(64, 64, 1, 1)}),
        r"it lacks \d+ of \d+ tensors",
    ),
    "ViT": (lambda: like(vit_b_16), "it looks like a vision transformer"),
    "lite0": (lambda: like(LITE.build), "it looks like EfficientNet-lite0"),
    "NaN": (lambda: saved(BROKEN), r"layer1\.0\.bn1\.weight has values that are no numbers"),
    "wider": (lambda: saved(WIDER), r"bn1\.weight has the shape \(65,\), and .* \(64,\)"),
    "lacking": (lambda: saved(LACKING), r"it lacks 1 of \d+ tensors, such as bn1\.bias, and has 0"),
    "a linear layer": (
        lambda: saved(nn.Linear(2, 2).state_dict()),
        r"it lacks \d+ of \d+ tensors, such as conv1.weight, and has 2 .* unknown, such as weight",
    ),
}


@pytest.mark.parametrize("kind", CAUSES)
def test_what_is_no_state_of_the_network_is_refused_by_its_cause(kind: str, tmp_path: Path) -> None:
    made, cause = CAUSES[kind]
    path = tmp_path / "mine.pth"
    path.write_bytes(made())
    with pytest.raises(
        NotReadyError, match=f"mine.pth holds no weights of resnet152: .*{cause}"
    ) as e:
        load_state(SMALL, path)
    assert len(str(e.value).splitlines()) == 1


def test_the_other_network_is_told_the_same(tmp_path: Path) -> None:
    (tmp_path / "mine.pth").write_bytes(like(resnet18))
    with pytest.raises(NotReadyError, match="looks like ResNet-18, and --network is efficientnet"):
        load_state(LITE, tmp_path / "mine.pth")
