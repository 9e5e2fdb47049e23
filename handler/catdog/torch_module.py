"""A network as one torch module: raw pixels in, logits and activation maps out.

The torch engine runs this module, and the ONNX file is exported from it, so
both compute the same thing. Importing it imports torch.
"""

import torch
from torch import nn

from catdog.labels import GROUPS, NUM_CLASSES
from catdog.networks import Network
from catdog.transforms import Preprocessing

# Far below every logit, and far from float32's limits.
_NOTHING = -1e30


class PixelsToLogits(nn.Module):
    """Normalise, then run the network, keeping its last feature map.

    Input: pixels, uint8, shape (N, 3, H, W).
    Output: logits (N, 1000) and features (N, C, h, w), float32.

    Attributes:
        precision: What the network computes in, up to its features. Normalising and the last
            layer are float32's, and so are the maps that follow.
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(
        self,
        network: Network,
        module: nn.Module,
        preprocessing: Preprocessing,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.network = network
        self.module = module
        self.precision = precision
        mean = torch.tensor(preprocessing.mean, dtype=torch.float64).view(1, 3, 1, 1)
        std = torch.tensor(preprocessing.std, dtype=torch.float64).view(1, 3, 1, 1)
        # (pixels / 255 - mean) / std as one multiplication and one addition.
        self.register_buffer("scale", (1 / (255 * std)).float())
        self.register_buffer("shift", (-mean / std).float())

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        images = pixels.to(self.scale.dtype) * self.scale + self.shift
        if self.precision is not torch.float32:
            images = images.to(self.precision)
        features = self.network.features(self.module, images)
        if self.precision is not torch.float32:
            features = features.to(self.scale.dtype)
        return self.network.logits(self.module, features), features


class LogitsAndMaps(nn.Module):
    """A network with the activation maps of both groups beside its logits.

    With logits z and a group of classes, g is the softmax of z over the group alone minus the
    softmax over the rest alone. With the last feature map F (C, h, w) and the last layer W
    (1000, C) the group's map is relu(sum_c (g W)_c F_c). Both networks average F over its area
    before W, so this is Grad-CAM (Selvaraju et al., 2017, https://arxiv.org/abs/1610.02391) of
    log M at F, M being the group's mass, without a backward pass and without two positive
    factors: the area, and 1 - M, with which an image that is surely a cat would have no map.

    Input: pixels, uint8, shape (N, 3, H, W).
    Output: logits (N, 1000) and maps (N, 2, h, w), float32, not scaled; `GROUPS` says which map
    is of what.
    """

    last_layer: torch.Tensor
    outside: torch.Tensor
    inside: torch.Tensor

    def __init__(self, network: nn.Module, last_layer: torch.Tensor) -> None:
        """Take what gives logits and the last feature map, and the weights (1000, C) between."""
        super().__init__()
        self.network = network
        # A copy, row by row: quantising the network's own leaves it alone, and efficientnet_lite0's
        # lies in its file column by column, which a product takes twice as long for.
        self.register_buffer(
            "last_layer", last_layer.detach().float().clone(memory_format=torch.contiguous_format)
        )
        member = torch.zeros(len(GROUPS), NUM_CLASSES)
        for row, group in zip(member, GROUPS, strict=True):
            row[group.start : group.stop] = 1
        # Added to logits, these leave nothing of a class in a softmax.
        self.register_buffer("outside", member * _NOTHING)  # (2, 1000)
        self.register_buffer("inside", (1 - member) * _NOTHING)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits, features = self.network(pixels)
        scores = logits.unsqueeze(1)  # (N, 1, 1000)
        gradients = (scores + self.inside).softmax(2) - (scores + self.outside).softmax(2)
        weights = gradients @ self.last_layer  # (N, 2, C)
        maps = (weights @ features.flatten(2)).relu()  # (N, 2, h * w)
        return logits, maps.reshape(-1, len(GROUPS), *features.shape[2:])
