"""A network as one torch module: raw pixels in, logits and features out.

The torch runtime runs this module, and the ONNX file is exported from it, so
both compute the same thing. Importing it imports torch.
"""

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from catdog.networks import Network
from catdog.transforms import Preprocessing


class PixelsToLogits(nn.Module):
    """Normalise, then run the network, keeping its last feature map.

    Input: pixels, uint8, shape (N, 3, H, W).
    Output: logits (N, 1000) and features (N, C, h, w), float32.
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, network: Network, module: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        self.module = module
        mean = torch.tensor(preprocessing.mean, dtype=torch.float64).view(1, 3, 1, 1)
        std = torch.tensor(preprocessing.std, dtype=torch.float64).view(1, 3, 1, 1)
        # (pixels / 255 - mean) / std as one multiplication and one addition.
        self.register_buffer("scale", (1 / (255 * std)).float())
        self.register_buffer("shift", (-mean / std).float())

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        images = pixels.to(self.scale.dtype) * self.scale + self.shift
        features = self.network.features(self.module, images)
        return self.network.logits(self.module, features), features


class _ConvolutionsAreLeaves(fx.Tracer):
    """Traces a network, but never into a convolution that pads by itself."""

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return isinstance(module, nn.Conv2d) or super().is_leaf_module(module, qualified_name)


def fold_batch_norm(module: PixelsToLogits) -> fx.GraphModule:
    """Merge every batch norm into the convolution before it.

    Args:
        module: In eval mode; left unchanged.

    Returns:
        A module that computes the same from fewer operations.
    """
    graph_module = fx.GraphModule(module, _ConvolutionsAreLeaves().trace(module))
    layers = dict(graph_module.named_modules())
    for node in list(graph_module.graph.nodes):
        if node.op != "call_module" or not isinstance(layers[node.target], nn.BatchNorm2d):
            continue
        source = node.args[0]
        convolution = layers.get(source.target) if source.op == "call_module" else None
        if not isinstance(convolution, nn.Conv2d) or len(source.users) > 1:
            continue
        folded = fuse_conv_bn_eval(convolution, layers[node.target])
        graph_module.set_submodule(source.target, folded)
        node.replace_all_uses_with(source)
        graph_module.graph.erase_node(node)
    graph_module.delete_all_unused_submodules()
    graph_module.recompile()
    return graph_module
