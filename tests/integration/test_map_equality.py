"""How exact maps are: against captum's Grad-CAM, between the runtimes, against float64."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from torch import nn

from catdog.activation_map import activation_maps, explained_group
from catdog.classifier import Classifier
from catdog.labels import CAT_INDICES, DOG_INDICES
from catdog.model_info import ModelInfo
from catdog.networks import NETWORKS, Network
from catdog.postprocess import class_probabilities
from catdog.results import Explanation
from catdog.runtime import TorchRuntime, load_last_layer, load_runtime
from catdog.transforms import Task
from catdog_serving.build.export import build_module
from catdog_serving.build.golden import sample_pixels
from catdog_serving.build.weights import Weights
from catdog_serving.model_archive import open_archive
from tests.support.archive_cache import BuildArchive
from tests.support.reference import reference_pixels

SAMPLE_NAMES = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")


def maps_from(
    logits: np.ndarray, features: np.ndarray, last_layer: np.ndarray, groups: list[range]
) -> np.ndarray:
    return activation_maps(logits, class_probabilities(logits), features, last_layer, groups)


class LogMass(nn.Module):
    """The log of one group's mass, with the last feature map as a layer of its own."""

    def __init__(self, runtime: TorchRuntime, network: Network, group: range) -> None:
        super().__init__()
        self.module, self.network, self.group = runtime._module, network, group
        self.features = nn.Identity()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        _, features = self.module(pixels)
        logits = self.network.logits(self.module.module, self.features(features))
        log_probabilities = logits.double().log_softmax(dim=1)
        return log_probabilities[:, self.group.start : self.group.stop].logsumexp(dim=1)


@pytest.mark.parametrize(
    ("network", "weights"), [("efficientnet_lite0", None), ("resnet152", "seeded")]
)
def test_the_map_is_captums_grad_cam_of_the_log_mass(
    build: BuildArchive, network: str, weights: str | None
) -> None:
    with open_archive(build(network, weights, "torch")) as model_dir:
        info = ModelInfo.read(model_dir)
        runtime = load_runtime(model_dir, info, "cpu", 2)
        last_layer = load_last_layer(model_dir)
    assert last_layer.flags.c_contiguous  # or products with it take twice as long
    assert isinstance(runtime, TorchRuntime)
    pixels = np.stack([sample_pixels(name, info.preprocessing) for name in SAMPLE_NAMES])
    logits, features = runtime.run(pixels)
    informative = 0
    for group in (CAT_INDICES, DOG_INDICES):
        ours = maps_from(logits, features, last_layer, [group] * len(pixels))
        log_mass = LogMass(runtime, NETWORKS[network], group)
        grad_cam = LayerGradCam(log_mass, log_mass.features)
        theirs = grad_cam.attribute(
            torch.from_numpy(pixels).float(), relu_attributions=True
        ).detach()[:, 0]
        peaks = theirs.amax(dim=(1, 2), keepdim=True)
        scaled = torch.where(peaks > 0, theirs / peaks, 0)  # nothing may speak for a dog
        informative += (np.ptp(ours, axis=(1, 2)) > 0.5).sum()
        np.testing.assert_allclose(ours, scaled.numpy(), rtol=1e-3, atol=5e-5)
    assert informative >= 1  # flat maps would be equal whatever was computed


def test_both_runtimes_give_the_same_map(build: BuildArchive, photos: list[Path]) -> None:
    """Of the middle squares and of the whole images; before they are rounded."""
    onnx, torch_ = (
        maps_of(build("efficientnet_lite0", None, runtime), photos[::5])
        for runtime in ("onnx", "torch")
    )
    worst = max(np.abs(one - other).max() for one, other in zip(onnx, torch_, strict=True))
    print(f"\nefficientnet_lite0: maps of the two runtimes within {worst:.1e}")
    assert worst <= 1e-3


def test_seeded_resnets_maps_are_as_exact_as_the_references(
    build: BuildArchive, seeded_resnet: Weights, photos: list[Path]
) -> None:
    """Untrained features cancel almost out in a map, so float32 itself is not exact to 1e-3."""
    pixels = np.stack([reference_pixels(path) for path in photos[::25]])
    last_layer = seeded_resnet.state["fc.weight"].numpy()

    def maps(run: Callable[[np.ndarray], Sequence[np.ndarray]]) -> np.ndarray:
        logits, features = run(pixels)
        return np.stack(
            [
                maps_from(logits, features, last_layer, [group] * len(pixels))
                for group in (CAT_INDICES, DOG_INDICES)
            ]
        )

    def eager(dtype: torch.dtype) -> Callable[[np.ndarray], Sequence[np.ndarray]]:
        module = build_module(seeded_resnet).to(dtype)

        def run(batch: np.ndarray) -> list[np.ndarray]:
            with torch.inference_mode():
                return [output.numpy() for output in module(torch.from_numpy(batch))]

        return run

    exact = maps(eager(torch.float64))
    reference_error = np.abs(maps(eager(torch.float32)) - exact).max()
    for runtime in ("onnx", "torch"):
        with open_archive(build("resnet152", "seeded", runtime)) as model_dir:
            loaded = load_runtime(model_dir, ModelInfo.read(model_dir), "cpu", 2)
            error = np.abs(maps(loaded.run) - exact).max()
        print(f"\n{runtime}: maps {error:.1e} from float64's, the reference {reference_error:.1e}")
        assert error <= 4 * reference_error


def maps_of(archive: Path, paths: list[Path]) -> list[np.ndarray]:
    """A map of each middle square, then of each whole image."""
    with open_archive(archive) as model_dir:
        classifier = Classifier.load(model_dir)
        inputs = classifier.preprocess(
            [path.read_bytes() for path in paths], [Task.EXPLANATION] * len(paths)
        )
        output = classifier.infer(inputs)
        groups = [
            explained_group(one.prediction)
            for one in classifier.postprocess(inputs, output)
            if isinstance(one, Explanation)
        ]
        last_layer = load_last_layer(model_dir)
        classifier.close()
    assert output.crops is not None
    assert len(groups) == len(output.full_images) == len(paths)
    maps = list(maps_from(*output.crops, last_layer, groups))
    for whole, group in zip(output.full_images, groups, strict=True):
        maps += list(maps_from(*whole, last_layer, [group]))
    return maps
