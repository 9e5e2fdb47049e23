"""Where a network runs, by which engine, and in what: the one decision about all three."""

import importlib
import importlib.util
import logging
from typing import NamedTuple

from catdog.cpu import cpu_instructions
from catdog.model_info import AUTO_ENGINE, ENGINES, ModelInfo, check_engine
from catdog.networks import NETWORKS

log = logging.getLogger(__name__)

# Instruction sets with products of bf16; OpenVINO computes it with these, and says so itself.
_BF16_INSTRUCTIONS = {"avx512_bf16", "amx_bf16", "avx_ne_convert"}


class _Measured(NamedTuple):
    """Where OpenVINO was measured faster than ONNX Runtime.

    Attributes:
        instructions: The processor has these.
        precision: What both compute in.
        networks: For which networks it was faster.
    """

    instructions: str
    precision: str
    networks: tuple[str, ...]


# Of OpenVINO; what is not here is ONNX Runtime's. docs/performance.md has the figures of each row
# under its name ("Engines"), and of what is not here. bf16 needs none: no other engine has it.
_OPENVINO_IS_FASTER = (
    _Measured("amx_int8", "fp32", tuple(NETWORKS)),
    _Measured("amx_int8", "int8", ("resnet152",)),
)


class Placement(NamedTuple):
    """Where a network runs, and how.

    Attributes:
        device: "cpu" or "cuda:N".
        precision: What it computes in there.
        engine: A name in `ENGINES`.
    """

    device: str
    precision: str
    engine: str


def choose_placement(wanted: str, info: ModelInfo, engine: str = AUTO_ENGINE) -> Placement:
    """Settle on what is there; what was wanted and cannot be had is logged.

    Args:
        wanted: The device: "cpu" or "cuda:N".
        info: The archive's facts.
        engine: A name in `ENGINES`, or "auto" for the fastest.

    Raises:
        ValueError: If there is no such engine.
    """
    check_engine(engine)
    device = _choose_device(wanted, info.runtime)
    chosen = _choose_engine(engine, info)
    computed = computed_precision(info.precision, device, chosen)
    if computed != info.precision:
        bf16 = "OpenVINO on a processor that computes it (AMX, AVX512_BF16)"
        needed = bf16 if info.runtime == "onnx" else "a GPU"
        log.warning(
            "the archive is packed for %s, which needs %s: this worker computes in %s, and its "
            "answers say so",
            info.precision,
            needed,
            computed,
        )
    return Placement(device, computed, chosen)


def best_device(runtime: str) -> str:
    """Where an archive computes in a process of its own: on a GPU if it is packed for one."""
    if runtime == "onnx" or not _sees_cuda():
        return "cpu"
    return "cuda:0"


def computed_precision(precision: str, device: str, engine: str) -> str:
    """What an engine computes in on a device, for an archive of some precision."""
    if device != "cpu" or precision in ("fp32", "int8"):
        return precision
    return "bf16" if (engine, precision) == ("openvino", "bf16") and has_bf16() else "fp32"


def fastest_engine(info: ModelInfo) -> str:
    """The engine that is known to be the fastest for an archive on this machine."""
    if info.runtime == "torch":
        return "torch"
    return fastest_cpu_engine(info.precision, info.network)


def fastest_cpu_engine(precision: str, network: str) -> str:
    """The same for a model.onnx of that precision."""
    if not has_openvino():
        return "onnxruntime"
    if precision == "bf16":
        if has_bf16():
            return "openvino"
        precision = "fp32"
    instructions = cpu_instructions()
    is_faster = any(
        row.instructions in instructions and row.precision == precision and network in row.networks
        for row in _OPENVINO_IS_FASTER
    )
    return "openvino" if is_faster else "onnxruntime"


def has_bf16() -> bool:
    """Whether an engine for this machine's CPU computes bf16."""
    return has_openvino() and not _BF16_INSTRUCTIONS.isdisjoint(cpu_instructions())


def has_openvino() -> bool:
    """Whether OpenVINO is installed; it is not imported."""
    return importlib.util.find_spec("openvino") is not None


def _choose_engine(wanted: str, info: ModelInfo) -> str:
    if wanted != AUTO_ENGINE and ENGINES[wanted] != info.runtime:
        log.warning(
            "the engine %s was asked for, and does not run archives of the %s runtime: "
            "another one is taken",
            wanted,
            info.runtime,
        )
    elif wanted == "openvino" and not has_openvino():
        log.warning("the engine openvino was asked for, and is not installed: another one is taken")
    elif wanted != AUTO_ENGINE:
        return wanted
    return fastest_engine(info)


def _choose_device(wanted: str, runtime: str) -> str:
    if wanted == "cpu":
        return "cpu"
    if runtime == "onnx":
        log.warning(
            "this worker was given %s, but the archive holds the onnx runtime, which runs on the "
            "CPU; package with --runtime torch to use the GPU",
            wanted,
        )
        return "cpu"
    if _sees_cuda():
        return wanted
    log.warning("this worker was given %s, but torch sees no CUDA device; using the CPU", wanted)
    return "cpu"


def _sees_cuda() -> bool:
    # By name, so that linters and readers see that torch is loaded only on this path.
    found: bool = importlib.import_module("torch").cuda.is_available()
    return found
