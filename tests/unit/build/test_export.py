"""The exported network: torch's numbers at any size, and nothing of the machine that wrote it."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from catdog.engines import open_onnx
from catdog.networks import Network
from catdog.torch_module import LogitsAndMaps
from catdog.transforms import Preprocessing
from catdog_serving.build.export import build_module, export
from catdog_serving.build.weights import Weights

CHANNELS = 8


class Small(nn.Sequential):
    """Padding on one side, a convolution, its norm, an activation; one layer to the classes."""

    def __init__(self) -> None:
        super().__init__(
            nn.ZeroPad2d((0, 1, 0, 1)),
            nn.Conv2d(3, CHANNELS, 3, stride=32, bias=False),
            nn.BatchNorm2d(CHANNELS),
            nn.ReLU6(),
        )
        self.last = nn.Linear(CHANNELS, 1000)


NETWORK = Network(
    name="small",
    weights=("seeded",),
    build=Small,
    features=lambda module, images: module[3](module[2](module[1](module[0](images)))),
    logits=lambda module, features: module.last(features.mean((2, 3))),
    last_layer="last",
)


@pytest.fixture
def weights() -> Weights:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = Small().state_dict()
        state["2.running_mean"].normal_()
        state["2.running_var"].uniform_(0.5, 2)
    preprocessing = Preprocessing(256, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return Weights(NETWORK, "seeded", "", True, state, preprocessing, ())


def exported(weights: Weights, folder: Path) -> tuple[LogitsAndMaps, Path]:
    folder.mkdir()
    module = build_module(weights)
    return module, export(module, weights, "onnx", folder)


def test_any_number_of_images_of_any_size_gets_torchs_numbers(
    weights: Weights, tmp_path: Path
) -> None:
    module, path = exported(weights, tmp_path / "model")
    engine = open_onnx(path, "onnxruntime", 1, "fp32")
    for shape in ((1, 3, 224, 224), (3, 3, 96, 448), (2, 3, 32, 32)):
        pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        with torch.inference_mode():
            expected = module(torch.from_numpy(pixels))
        assert expected[1].shape == (shape[0], 2, shape[2] // 32, shape[3] // 32)
        for ours, theirs in zip(engine.run(list(pixels)), expected, strict=True):
            np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5)


def test_two_exports_are_the_same_bytes_without_a_path_or_a_trace(
    weights: Weights, tmp_path: Path
) -> None:
    first, second = (exported(weights, tmp_path / name)[1].read_bytes() for name in "ab")
    assert first == second
    for trace in (b".py", b"stack", b"site-packages", str(tmp_path).encode()):
        assert trace not in first


def test_the_graph_is_onnx_alone_and_the_maps_have_weights_of_their_own(
    weights: Weights, tmp_path: Path
) -> None:
    model = onnx.load(exported(weights, tmp_path / "model")[1])
    onnx.checker.check_model(model)
    assert [(one.domain, one.version) for one in model.opset_import] == [("", 20)]
    kinds = [node.op_type for node in model.graph.node]
    assert not {"Pad", "BatchNormalization", "Identity", "Constant"} & set(kinds)
    last_layers = [one for one in model.graph.initializer if list(one.dims) == [1000, CHANNELS]]
    assert len(last_layers) == 2
    outputs = {
        one.name: [side.dim_param or side.dim_value for side in one.type.tensor_type.shape.dim]
        for one in (*model.graph.input, *model.graph.output)
    }
    assert outputs == {
        "pixels": ["n", 3, "h", "w"],
        "logits": ["n", 1000],
        "maps": ["n", 2, "mh", "mw"],
    }
