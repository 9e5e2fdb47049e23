"""Write a network into the form that its runtime loads: model.onnx or model.pth."""

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from catdog.engines import MODEL_FILES
from catdog.labels import GROUPS
from catdog.no_telemetry import import_onnxruntime
from catdog.torch_module import LogitsAndMaps, PixelsToLogits
from catdog_serving.build.weights import Weights

if TYPE_CHECKING:
    import onnx

_OPSET = 20
_PRODUCTS = ("Conv", "Gemm", "MatMul")
_TRACED_SIDE = 64  # any will do; the smallest that leaves the last feature map an area


def build_module(weights: Weights) -> LogitsAndMaps:
    """The eager float32 network with its weights: the reference of every export."""
    module = weights.network.build_empty()
    module.load_state_dict(dict(weights.state), strict=True, assign=True)
    network = PixelsToLogits(weights.network, module, weights.preprocessing)
    return LogitsAndMaps(network, weights.network.last_layer_of(module)).eval()


def eager_logits(module: LogitsAndMaps, pixels: np.ndarray) -> np.ndarray:
    """Run the eager network: pixels, uint8, (N, 3, S, S) -> logits (N, 1000)."""
    with torch.inference_mode():
        logits, _ = module(torch.from_numpy(pixels))
    array: np.ndarray = logits.numpy()
    return array


def export(module: LogitsAndMaps, weights: Weights, runtime: str, folder: Path) -> Path:
    """Write the float32 model file of `runtime` ("onnx" or "torch"), and say where it is."""
    path = folder / MODEL_FILES[runtime]
    if runtime == "torch":
        content = io.BytesIO()  # torch's own writer has no name for a full disk
        torch.save(dict(weights.state), content)
        path.write_bytes(content.getbuffer())
    else:
        _export_onnx(module, path)
    return path


def _export_onnx(module: LogitsAndMaps, path: Path) -> None:
    """Export with free N, H and W; inputs "pixels", outputs "logits" and "maps".

    torch's exporter that traces takes a seventh of the time of the one on torch.export, which
    proves sizes that no size of ours depends on. What it leaves open, ONNX Runtime settles: sums
    of constants, and padding before convolutions.
    """
    import onnx  # archives for GPUs do without

    free = {0: "n", 2: "h", 3: "w"}
    traced = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its age and its insides
        torch.onnx.export(
            module,
            (torch.zeros((2, 3, _TRACED_SIDE, _TRACED_SIDE), dtype=torch.uint8),),
            traced,  # type: ignore[arg-type]  # it takes files, which its annotation leaves out
            input_names=["pixels"],
            output_names=["logits", "maps"],
            dynamic_axes={"pixels": free, "logits": {0: "n"}, "maps": {0: "n", 2: "mh", 3: "mw"}},
            dynamo=False,
            opset_version=_OPSET,
        )
    # ONNX Runtime writes over it, and has no name for a full disk either.
    path.write_bytes(traced.getbuffer())
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    onnxruntime.InferenceSession(traced.getvalue(), options, providers=["CPUExecutionProvider"])
    model = onnx.load(path)
    _give_each_its_own(model.graph)
    model.graph.output[1].type.tensor_type.shape.dim[1].dim_value = len(GROUPS)
    del model.opset_import[:]  # of which ONNX Runtime names all that it knows
    model.opset_import.append(onnx.helper.make_opsetid("", _OPSET))
    path.write_bytes(model.SerializeToString())


def _give_each_its_own(graph: "onnx.GraphProto") -> None:
    """Undo the exporter's merging of equal weights: each product gets its own again.

    The maps' last layer is not to be quantised, and the logits' is.
    """
    weights = {tensor.name: tensor for tensor in graph.initializer}
    taken = set()
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name not in weights or node.op_type not in _PRODUCTS:
                continue
            if name in taken:
                copy = graph.initializer.add()
                copy.CopyFrom(weights[name])
                copy.name = node.input[place] = f"{name} of {node.name}"
            taken.add(name)
