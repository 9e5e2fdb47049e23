"""The head that computes activation maps from logits and the last feature map."""

import numpy as np
import pytest
import torch
from torch import nn

from catdog.labels import CAT_INDICES, GROUPS
from catdog.torch_module import LogitsAndMaps

CHANNELS = 8
CLASSES = 1000


class Given(nn.Module):
    """Gives what it was told to, for each image the same."""

    def __init__(self, logits: torch.Tensor, features: torch.Tensor) -> None:
        super().__init__()
        self.logits, self.features = logits, features

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.logits, self.features


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 1, shape)).float()


def maps_of(logits: torch.Tensor, features: torch.Tensor, last_layer: torch.Tensor) -> torch.Tensor:
    answered, maps = LogitsAndMaps(Given(logits, features), last_layer)(torch.zeros(1))
    assert answered is logits
    return maps


def logits_of_a_cat_mass(mass: float) -> torch.Tensor:
    """Logits, (1, 1000), whose five cat classes together have this probability."""
    logits = torch.zeros(1, CLASSES, dtype=torch.float64)
    others = CLASSES - len(CAT_INDICES)
    logits[0, CAT_INDICES.start : CAT_INDICES.stop] = float(
        np.log(mass) - np.log1p(-mass) + np.log(others / len(CAT_INDICES))
    )
    return logits.float()


def test_the_map_is_the_gradient_of_the_log_mass_times_the_features() -> None:
    """As autograd has it, without the two positive factors: the area, and 1 - M."""
    features, last_layer = random(3, CHANNELS, 5, 7).abs(), random(CLASSES, CHANNELS, seed=1)
    features.requires_grad_()
    logits = features.mean((2, 3)) @ last_layer.T
    maps = maps_of(logits, features, last_layer)
    for index, group in enumerate(GROUPS):
        masses = logits.softmax(1)[:, group.start : group.stop].sum(1)
        (gradients,) = torch.autograd.grad(masses.log().sum(), features, retain_graph=True)
        weights = gradients.sum((2, 3)) / (1 - masses).unsqueeze(1)
        expected = torch.einsum("nc,nchw->nhw", weights, features).relu()
        torch.testing.assert_close(maps[:, index], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mass", [1 - 1e-9, 1e-30, 0.005])
def test_a_sure_a_vanished_and_an_undecided_cat_have_a_map(mass: float) -> None:
    """0.005 is five of 1,000 equal logits."""
    features, last_layer = random(1, CHANNELS, 7, 7).abs(), random(CLASSES, CHANNELS, seed=1)
    maps = maps_of(logits_of_a_cat_mass(mass), features, last_layer)
    assert maps.isfinite().all()
    assert (maps.amax((2, 3)) > 0).all()


@pytest.mark.parametrize("cat_logit", [-1e4, 1e4])
def test_logits_that_no_softmax_tells_apart_from_infinite_ones_have_a_map(cat_logit: float) -> None:
    logits = torch.zeros(1, CLASSES)
    logits[0, CAT_INDICES.start : CAT_INDICES.stop] = cat_logit
    features, last_layer = random(1, CHANNELS, 7, 7).abs(), random(CLASSES, CHANNELS, seed=1)
    maps = maps_of(logits, features, last_layer)
    assert maps.isfinite().all()
    assert (maps.amax((2, 3)) > 0).all()


def test_each_image_of_a_batch_gets_the_map_it_gets_alone() -> None:
    logits, features = random(5, CLASSES) * 3, random(5, CHANNELS, 7, 9, seed=1)
    last_layer = random(CLASSES, CHANNELS, seed=2)
    together = maps_of(logits, features, last_layer)
    assert together.shape == (5, len(GROUPS), 7, 9)
    for index in range(5):
        one = slice(index, index + 1)
        alone = maps_of(logits[one], features[one], last_layer)
        torch.testing.assert_close(together[one], alone, rtol=1e-5, atol=1e-5)
