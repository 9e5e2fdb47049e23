"""How exact maps are: against captum's Grad-CAM, between the runtimes, against float64."""

from pathlib import Path

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from torch import nn

from catdog.activation_map import explained_group, scale_to_peak
from catdog.classifier import Classifier
from catdog.engines import load_engine
from catdog.engines.torch import TorchEngine
from catdog.labels import GROUPS
from catdog.model_info import ModelInfo
from catdog.networks import NETWORKS, Network
from catdog.results import Explanation
from catdog.transforms import Task
from catdog_serving.build.export import build_module
from catdog_serving.build.golden_images import sample_pixels
from catdog_serving.build.weights import Weights
from catdog_serving.model_archive import open_archive
from tests.support.archive_cache import BuildArchive
from tests.support.reference import reference_pixels

SAMPLE_NAMES = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")


class LogMass(nn.Module):
    """The log of one group's mass, with the last feature map as a layer of its own."""

    def __init__(self, engine: TorchEngine, network: Network, group: range) -> None:
        super().__init__()
        self.module, self.network, self.group = engine._module.network, network, group
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
        engine = load_engine(model_dir, info, "cpu", 2)
    assert isinstance(engine, TorchEngine)
    pixels = np.stack([sample_pixels(name, info.preprocessing) for name in SAMPLE_NAMES])
    maps = scale_to_peak(engine.run(list(pixels)).maps)
    informative = 0
    for index, group in enumerate(GROUPS):
        ours = maps[:, index]
        log_mass = LogMass(engine, NETWORKS[network], group)
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
    """Of crops and of full images; before they are rounded."""
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

    def eager_maps(dtype: torch.dtype) -> np.ndarray:
        module = build_module(seeded_resnet).to(dtype)
        with torch.inference_mode():
            _, maps = module(torch.from_numpy(pixels))
        return scale_to_peak(maps.numpy())

    exact = eager_maps(torch.float64)
    reference_error = np.abs(eager_maps(torch.float32) - exact).max()
    for runtime in ("onnx", "torch"):
        with open_archive(build("resnet152", "seeded", runtime)) as model_dir:
            loaded = load_engine(model_dir, ModelInfo.read(model_dir), "cpu", 2)
            error = np.abs(scale_to_peak(loaded.run(list(pixels)).maps) - exact).max()
        print(f"\n{runtime}: maps {error:.1e} from float64's, the reference {reference_error:.1e}")
        assert error <= 4 * reference_error


def maps_of(archive: Path, paths: list[Path]) -> list[np.ndarray]:
    """The explained map of each crop, then of each full image."""
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
        classifier.close()
    assert output.crops is not None
    assert len(groups) == len(output.full_images) == len(paths)
    crops = scale_to_peak(output.crops.maps)
    maps = [of_image[group] for of_image, group in zip(crops, groups, strict=True)]
    for full_image, group in zip(output.full_images, groups, strict=True):
        maps.append(scale_to_peak(full_image.maps)[0, group])
    return maps
