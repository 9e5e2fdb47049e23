"""Write a network into the form that its runtime loads: model.onnx or model.pth."""

import io
import logging
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import torch

from catdog.engines import MODEL_FILES
from catdog.torch_module import LogitsAndMaps, PixelsToLogits
from catdog_serving.build.weights import Weights


def build_module(weights: Weights) -> LogitsAndMaps:
    """The eager float32 network with its weights: the reference of every export."""
    module = weights.network.build()
    module.load_state_dict(dict(weights.state), strict=True)
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
        _export_onnx(module, weights.preprocessing.crop_size, path)
    return path


def _export_onnx(module: LogitsAndMaps, side: int, path: Path) -> None:
    """Export with free N, H and W; inputs "pixels", outputs "logits" and "maps"."""
    example = torch.zeros((2, 3, side, side), dtype=torch.uint8)
    free = torch.export.Dim.DYNAMIC
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    # The exporter prints its progress and warns about its own insides.
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (example,),
            path,
            input_names=["pixels"],
            output_names=["logits", "maps"],
            dynamic_shapes={"pixels": {0: free, 2: free, 3: free}},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
