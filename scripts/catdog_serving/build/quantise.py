"""Static int8 quantisation of an exported network, with ONNX Runtime's own tool.

What was chosen, by the measurements in docs/int8.md:
- unsigned activations with signed weights (U8S8), the pair that x86 multiplies fast;
  S8S8 ran at a third of its speed;
- one scale per output channel: with one per layer efficientnet_lite0 loses its answers;
- weights of 7 bits. CPUs with AVX2 but without VNNI add two products in 16 bits, and 8-bit
  weights overflow there without a word: the archive would pass the gate on the machine that
  packs it and give other answers on the one that serves it. 7 bits cannot overflow. The
  weights of depthwise convolutions keep 8: ONNX Runtime multiplies those in 16 bits and
  adds in 32;
- activation maps in float32: the nodes that feed them alone are left out, and the last layer
  is theirs as a copy of its own (ONNX Runtime cannot quantise weights that two kinds of
  product share);
- ranges from the smallest and the largest value seen (MinMax): cutting off outliers
  (Percentile) was never better.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import onnx

from catdog.engines import MODEL_FILES, open_onnx
from catdog.engines.placement import fastest_cpu_engine
from catdog.model_info import Agreement
from catdog.no_telemetry import import_onnxruntime
from catdog.torch_module import LogitsAndMaps
from catdog_serving.atomic_write import scratch_folder
from catdog_serving.build.agreement import LogitsOf, logits_in_batches, measure_agreement
from catdog_serving.build.calibration import CalibrationImages
from catdog_serving.build.export import eager_logits, export
from catdog_serving.build.weights import Weights

quantization = import_onnxruntime("onnxruntime.quantization")
quant_utils = import_onnxruntime("onnxruntime.quantization.quant_utils")


class _CalibrationReader:
    """Images one by one, in the form that ONNX Runtime asks for them."""

    def __init__(self, pixels: np.ndarray) -> None:
        self._images: Iterator[np.ndarray] = iter(pixels)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._images, None)
        return None if image is None else {"pixels": image[np.newaxis]}


def export_int8(
    module: LogitsAndMaps,
    weights: Weights,
    images: CalibrationImages,
    folder: Path,
    on_work: Callable[[str], None],
) -> tuple[LogitsOf, Agreement]:
    """Write the int8 model file into `folder`, and measure it against the eager network.

    Returns:
        The int8 network as it runs, and its agreement with `module` on the images that
        were held out.
    """
    target = folder / MODEL_FILES["onnx"]
    with scratch_folder() as scratch:
        exported = export(module, weights, "onnx", scratch)
        on_work(f"calibrating int8 with {len(images.calibration)} images")
        quantise(exported, target, images.calibration)
    # The one that will serve it here.
    name = fastest_cpu_engine("int8", weights.network.name)
    engine = open_onnx(target, name, 0, "int8")

    def logits_of(pixels: np.ndarray) -> np.ndarray:
        return engine.run(list(pixels)).logits

    on_work(f"comparing int8 with float32 on {len(images.held_out)} images")
    agreement = measure_agreement(
        reduced=logits_in_batches(logits_of, images.held_out),
        float32=logits_in_batches(partial(eager_logits, module), images.held_out),
        calibration_images=len(images.calibration),
    )
    return logits_of, agreement


def quantise(source: Path, target: Path, calibration: np.ndarray) -> None:
    """Write an int8 copy of a network; its inputs and outputs stay what they were.

    Args:
        source: The float32 network, as `export` writes it.
        target: The .onnx to make.
        calibration: Pixels, uint8, shape (C, 3, S, S).
    """
    model = onnx.load(source)
    # `export` has let ONNX Runtime do what its tool would want to be done first.
    quant_utils.add_pre_process_metadata(model)
    graph = model.graph
    quantization.quantize_static(
        model,
        target,
        _CalibrationReader(calibration),
        quant_format=quantization.QuantFormat.QDQ,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        per_channel=True,
        reduce_range=True,
        nodes_to_exclude=_nodes_of_maps_alone(graph),
        calibrate_method=quantization.CalibrationMethod.MinMax,
        extra_options={"TensorQuantOverrides": _whole_range_of_depthwise(graph)},
    )


def _nodes_of_maps_alone(graph: onnx.GraphProto) -> list[str]:
    """The names of the nodes that the maps are computed by, and the logits are not."""
    producers = {tensor: node for node in graph.node for tensor in node.output}

    def made_from(tensor: str) -> set[str]:
        """Each tensor on the way to this one, itself with them."""
        found: set[str] = set()
        waiting = [tensor]
        while waiting:
            tensor = waiting.pop()
            if tensor in producers and tensor not in found:
                found.add(tensor)
                waiting += producers[tensor].input
        return found

    alone = made_from("maps") - made_from("logits")
    return sorted({producers[tensor].name for tensor in alone})


def _whole_range_of_depthwise(graph: onnx.GraphProto) -> dict[str, list[dict[str, object]]]:
    """ONNX Runtime's overrides that give the weights of depthwise convolutions 8 bits."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    weights = [node.input[1] for node in graph.node if node.op_type == "Conv"]
    return {
        name: [{"axis": 0, "quant_type": quantization.QuantType.QInt8, "reduce_range": False}]
        for name in weights
        if shapes[name][1] == 1  # one input channel for each output channel
    }
