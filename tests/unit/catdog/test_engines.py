from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from catdog.engines import DeviceLostError, OutOfDeviceMemoryError, load_engine
from catdog.engines.fusion import FusedConvolution, fuse
from catdog.engines.placement import Placement
from catdog.engines.torch import TorchEngine, _CapturedPass, next_power_of_two
from catdog.model_info import ModelInfo
from catdog.networks import NETWORKS, get_network
from catdog.torch_module import PixelsToLogits
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
def test_fusing_leaves_no_batch_norm_and_the_same_numbers(name: str) -> None:
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
    fused = fuse(whole)
    layers = list(fused.modules())
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in layers)
    if name == "resnet152":  # 50 blocks of three convolutions, and the first one
        assert sum(isinstance(layer, FusedConvolution) for layer in layers) == 151
        assert sum(isinstance(layer, nn.Conv2d) for layer in layers) == 4  # of the shortcuts
        assert not any(isinstance(layer, nn.ReLU) for layer in layers)
    with torch.inference_mode():
        for ours, expected in zip(fused(pixels), whole(pixels), strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    ("convolution", "fusable"),
    [
        (nn.Conv2d(3, 3, 3, padding=1, stride=2, groups=3), True),
        (nn.Conv2d(3, 3, 3, padding=2, dilation=2, bias=False), True),
        (nn.Conv2d(3, 3, 3, padding="same"), False),
        (nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"), False),
    ],
)
def test_only_what_cudnn_fuses_is_fused(convolution: nn.Conv2d, fusable: bool) -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution, self.relu = convolution, nn.ReLU()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.relu(self.convolution(images))
            return result

    block = Block().eval()
    images = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    fused = fuse(block)
    assert any(isinstance(layer, FusedConvolution) for layer in fused.modules()) == fusable
    torch.testing.assert_close(fused(images), block(images))


def test_a_result_that_is_used_twice_is_not_fused() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
            self.relu = nn.ReLU()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            result = self.convolution(images)
            other: torch.Tensor = self.relu(result) + self.norm(result)
            return other

    block = Block().eval()
    images = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(fuse(block)(images), block(images))


@pytest.fixture
def engine(build: BuildArchive) -> TorchEngine:
    with open_archive(build("efficientnet_lite0", None, "torch")) as model_dir:
        loaded = load_engine(model_dir, ModelInfo.read(model_dir), "cpu", 2)
    assert isinstance(loaded, TorchEngine)
    return loaded


def noise(count: int, height: int = 64, width: int = 64) -> list[np.ndarray]:
    return list(
        np.random.default_rng(0).integers(0, 256, (count, 3, height, width), dtype=np.uint8)
    )


def test_bf16_keeps_the_head_in_float32(build: BuildArchive, engine: TorchEngine) -> None:
    """As on a GPU, but slowly."""
    with open_archive(build("efficientnet_lite0", None, "torch")) as model_dir:
        info = ModelInfo.read(model_dir)
        half = TorchEngine(model_dir / "model.pth", info, Placement("cpu", "bf16", "torch"), 2)
    layers = [
        layer for layer in half._module.modules() if getattr(layer, "weight", None) is not None
    ]
    held = {type(layer): layer.weight.dtype for layer in layers}
    assert held.pop(nn.Linear) is torch.float32
    assert set(held.values()) == {torch.bfloat16}
    assert half._module.last_layer.dtype is torch.float32
    images = noise(3)
    expected, output = engine.run(images), half.run(images)
    assert output.logits.dtype == output.maps.dtype == np.float32
    scale = np.abs(expected.logits).max()
    difference = np.abs(output.logits - expected.logits).max() / scale
    assert 1e-5 < difference < 0.1  # 8 bits of mantissa, 50 layers


def test_images_of_any_shape_run_in_order(engine: TorchEngine) -> None:
    wide = noise(2, 32, 96)
    both = engine.run(wide)
    assert both.maps.shape[1:] == (2, 1, 3)
    for index, image in enumerate(wide):
        np.testing.assert_allclose(engine.run([image]).logits[0], both.logits[index], atol=1e-4)


@pytest.mark.parametrize(
    ("count", "expected"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (63, 64), (64, 64), (65, 128)]
)
def test_batches_are_captured_in_powers_of_two(count: int, expected: int) -> None:
    assert next_power_of_two(count) == expected


def capture(engine: TorchEngine, size: int) -> torch.Tensor:
    """Give it a graph as `prepare` does on a GPU: replayed, it computes from the same memory into
    the same memory. Gives the pixels' memory."""
    pixels = torch.full((size, 3, 64, 64), 7, dtype=torch.uint8)
    with torch.inference_mode():
        outputs = engine._module(pixels)

    def replay() -> None:
        for kept, computed in zip(outputs, engine._module(pixels), strict=True):
            kept.copy_(computed)

    graph = SimpleNamespace(replay=replay)
    engine._captured[size] = _CapturedPass(graph, pixels, *outputs)  # type: ignore[arg-type]
    return pixels


@pytest.mark.parametrize("counts", [(4,), (3,), (4, 3, 4), (3, 4)])
def test_a_captured_pass_gives_what_was_asked_for_and_nothing_of_the_last(
    engine: TorchEngine, counts: tuple[int, ...]
) -> None:
    images = noise(sum(counts))
    expected = engine.run(images)
    pixels = capture(engine, 4)
    logits, maps = [], []
    for count in counts:  # a GPU's results are copied to the host; here they are views
        output = engine.run([images.pop(0) for _ in range(count)])
        logits.append(output.logits.copy())
        maps.append(output.maps.copy())
    assert [len(one) for one in logits] == list(counts)
    np.testing.assert_allclose(np.concatenate(logits), expected.logits, atol=1e-4)
    np.testing.assert_allclose(np.concatenate(maps), expected.maps, atol=1e-4)
    assert not (pixels == 7).all()  # it was run, and not the network beside it


def test_what_was_not_captured_runs_without(engine: TorchEngine) -> None:
    wide, many = noise(3, 32, 96), noise(6)
    expected = engine.run(wide), engine.run(many)
    pixels = capture(engine, 4)
    for images, output in zip((wide, many), expected, strict=True):
        np.testing.assert_allclose(engine.run(images).logits, output.logits, atol=1e-4)
    assert (pixels == 7).all()


def fail_above(
    engine: TorchEngine, monkeypatch: pytest.MonkeyPatch, largest: int, error: Exception
) -> list[int]:
    """Let passes over more images fail as they do on a GPU; gives the sizes of all passes."""
    module, sizes = engine._module, []

    def run(pixels: torch.Tensor) -> object:
        sizes.append(len(pixels))
        if len(pixels) > largest:
            raise error
        return module(pixels)

    monkeypatch.setattr(engine, "_module", run)
    return sizes


def test_a_batch_too_large_for_the_memory_is_split(
    engine: TorchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = noise(5)
    expected = engine.run(images)
    sizes = fail_above(engine, monkeypatch, 2, torch.OutOfMemoryError("CUDA out of memory"))
    output = engine.run(images)
    assert sizes == [5, 2, 3, 1, 2]
    np.testing.assert_allclose(output.logits, expected.logits, atol=1e-4)
    np.testing.assert_allclose(output.maps, expected.maps, atol=1e-4)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        torch.AcceleratorError("CUDA error: out of memory"),  # of pinned memory, or a graph
        RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_no_room_for_one_image_says_what_to_lower(
    engine: TorchEngine, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    sizes = fail_above(engine, monkeypatch, 0, error)
    wanted = "lower batchSize, or the number of workers of each GPU"
    with pytest.raises(OutOfDeviceMemoryError, match=wanted) as raised:
        engine.run(noise(2))
    assert sizes == [2, 1]
    assert raised.value.__cause__ is None  # its frames would keep what the pass allocated
    with pytest.raises(OutOfDeviceMemoryError, match=wanted):
        engine.prepare(4, 64)


def test_a_device_that_failed_is_named(
    engine: TorchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_above(engine, monkeypatch, 0, torch.AcceleratorError("an illegal memory access"))
    with pytest.raises(DeviceLostError, match="illegal memory access"):
        engine.run(noise(2))


def test_a_bug_stays_one(engine: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_above(engine, monkeypatch, 0, RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes") as raised:
        engine.run(noise(2))
    assert type(raised.value) is RuntimeError
