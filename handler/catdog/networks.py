"""The networks that catdog can pack: how each is built and taken apart.

torch and torchvision are imported inside the functions, because a worker that
runs the ONNX runtime needs neither.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Network:
    """One architecture.

    Attributes:
        name: As in `--network` and in every answer.
        weights: Ids of the published weights, the default first.
        build: Makes the untrained module.
        features: (module, normalised images (N, 3, H, W)) -> the last feature
            map (N, C, h, w).
        logits: (module, that feature map) -> logits (N, 1000).
        last_layer: Attribute name of the module's last linear layer.
    """

    name: str
    weights: tuple[str, ...]
    build: Callable[[], torch.nn.Module]
    features: Callable[[Any, torch.Tensor], torch.Tensor]
    logits: Callable[[Any, torch.Tensor], torch.Tensor]
    last_layer: str

    @property
    def default_weights(self) -> str:
        return self.weights[0]

    def build_empty(self) -> torch.nn.Module:
        """The module without values, for weights to be assigned: drawing some takes over 1 s."""
        import torch

        with torch.device("meta"):
            return self.build()

    def last_layer_of(self, module: torch.nn.Module) -> torch.Tensor:
        """The weights from averaged features to logits, shape (1000, C)."""
        weights: torch.Tensor = getattr(module, self.last_layer).weight
        return weights


def _build_resnet152() -> torch.nn.Module:
    from torchvision.models import resnet152

    module: torch.nn.Module = resnet152(weights=None)
    return module


def _resnet_features(module: Any, images: torch.Tensor) -> torch.Tensor:
    x = module.maxpool(module.relu(module.bn1(module.conv1(images))))
    x = module.layer2(module.layer1(x))
    features: torch.Tensor = module.layer4(module.layer3(x))  # (N, 2048, H/32, W/32)
    return features


def _resnet_logits(module: Any, features: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = module.fc(module.avgpool(features).flatten(1))
    return logits


def _build_efficientnet_lite0() -> torch.nn.Module:
    from efficientnet_lite_pytorch import EfficientNet

    module: torch.nn.Module = EfficientNet.from_name("efficientnet-lite0")
    return module


def _efficientnet_features(module: Any, images: torch.Tensor) -> torch.Tensor:
    features: torch.Tensor = module.extract_features(images)  # (N, 1280, H/32, W/32)
    return features


def _efficientnet_logits(module: Any, features: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = module._fc(module._avg_pooling(features).flatten(1))
    return logits


NETWORKS = {
    network.name: network
    for network in (
        Network(
            name="resnet152",
            weights=("IMAGENET1K_V1", "IMAGENET1K_V2"),
            build=_build_resnet152,
            features=_resnet_features,
            logits=_resnet_logits,
            last_layer="fc",
        ),
        Network(
            name="efficientnet_lite0",
            weights=("efficientnet-lite0-57934424",),
            build=_build_efficientnet_lite0,
            features=_efficientnet_features,
            logits=_efficientnet_logits,
            last_layer="_fc",
        ),
    )
}


def get_network(name: str) -> Network:
    """Look a network up by its name.

    Raises:
        ValueError: If there is none of that name; the message lists those there are.
    """
    try:
        return NETWORKS[name]
    except KeyError:
        raise ValueError(f"unknown network {name!r}; choose from {', '.join(NETWORKS)}") from None
