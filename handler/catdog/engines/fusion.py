"""Fuse a network's layers: batch norm, relu and residual additions go into the convolutions.

Unfused, each of them reads and writes every activation again: on an H200 a batch of ResNet-152
takes twice as long (docs/performance.md).
"""

import operator

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from catdog.torch_module import PixelsToLogits

_ADDITIONS = (operator.add, operator.iadd, torch.add)


class FusedConvolution(nn.Module):
    """A convolution with what follows it, as one kernel of cuDNN: relu(convolution [+ residual]).

    On a CPU it computes the same in steps.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        """Take over the weights of a convolution that pads with a fixed number of zeros."""
        super().__init__()
        self.weight = convolution.weight
        bias = convolution.bias
        self.bias = (
            nn.Parameter(torch.zeros_like(self.weight[:, 0, 0, 0])) if bias is None else bias
        )
        self.stride, self.dilation = list(convolution.stride), list(convolution.dilation)
        self.padding = [int(side) for side in convolution.padding]
        self.groups = convolution.groups

    def forward(self, images: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        how = (self.stride, self.padding, self.dilation, self.groups)
        if not images.is_cuda:
            result = torch.conv2d(images, self.weight, self.bias, *how)
            return torch.relu(result if residual is None else result + residual)
        if residual is None:
            return torch.cudnn_convolution_relu(images, self.weight, self.bias, *how)
        return torch.cudnn_convolution_add_relu(images, self.weight, residual, 1.0, self.bias, *how)


def fuse(module: PixelsToLogits) -> fx.GraphModule:
    """Fuse all that can be.

    Args:
        module: In eval mode; left unchanged.

    Returns:
        A module that computes the same from fewer operations.
    """
    graph_module = fx.GraphModule(module, _ConvolutionsAreLeaves().trace(module))
    _fuse_batch_norm(graph_module)
    _fuse_relu(graph_module)
    graph_module.delete_all_unused_submodules()
    graph_module.recompile()
    return graph_module


class _ConvolutionsAreLeaves(fx.Tracer):
    """Traces a network, but never into a convolution that pads by itself."""

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return isinstance(module, nn.Conv2d) or super().is_leaf_module(module, qualified_name)


def _fuse_batch_norm(graph_module: fx.GraphModule) -> None:
    for node in list(graph_module.graph.nodes):
        convolution = _convolution_of(graph_module, node.args[0]) if node.args else None
        layer = _layer_of(graph_module, node)
        if convolution is None or not isinstance(layer, nn.BatchNorm2d):
            continue
        source = node.args[0]
        graph_module.set_submodule(source.target, fuse_conv_bn_eval(convolution, layer))
        node.replace_all_uses_with(source)
        graph_module.graph.erase_node(node)


def _fuse_relu(graph_module: fx.GraphModule) -> None:
    """relu(convolution) and relu(convolution + residual); cuDNN has no other activations."""
    for node in list(graph_module.graph.nodes):
        if not isinstance(_layer_of(graph_module, node), nn.ReLU):
            continue
        (source,) = node.args
        inputs = [source]
        if source.op == "call_function" and source.target in _ADDITIONS and len(source.users) == 1:
            inputs = list(source.args)
        for found in inputs:
            convolution = _convolution_of(graph_module, found)
            if convolution is not None and _pads_with_zeros(convolution):
                break
        else:
            continue
        graph_module.set_submodule(found.target, FusedConvolution(convolution))
        residuals = [one for one in inputs if one is not found]
        with graph_module.graph.inserting_before(node):
            fused = graph_module.graph.call_module(found.target, (found.args[0], *residuals))
        node.replace_all_uses_with(fused)
        for gone in (node, *([source] if residuals else []), found):
            graph_module.graph.erase_node(gone)


def _pads_with_zeros(convolution: nn.Conv2d) -> bool:
    """Whether it pads by a number of zeros, and not in a way of its own."""
    return type(convolution) is nn.Conv2d and (
        convolution.padding_mode == "zeros" and not isinstance(convolution.padding, str)
    )


def _convolution_of(graph_module: fx.GraphModule, node: object) -> nn.Conv2d | None:
    """The convolution that a node calls, if only one other node uses its result."""
    layer = _layer_of(graph_module, node)
    used_once = isinstance(node, fx.Node) and len(node.users) == 1
    return layer if isinstance(layer, nn.Conv2d) and used_once else None


def _layer_of(graph_module: fx.GraphModule, node: object) -> nn.Module | None:
    if not isinstance(node, fx.Node) or node.op != "call_module":
        return None
    return graph_module.get_submodule(str(node.target))
