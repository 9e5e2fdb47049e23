"""A .pth file with weights: read without running code, unwrapped, and refused by its cause.

What trainings save is often not the bare state: it lies in a checkpoint beside other things, and
its names begin with those of what wrapped the network. Both are taken away here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from catdog.networks import Network
from catdog_serving.errors import NotReadyError

State = dict[str, torch.Tensor]

CLASSES = 1_000
# Under which name checkpoints keep the network's state; averages such as model_ema are no choice
# that is made unasked.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "module")
# What DataParallel, torch.compile and Lightning modules put before each name.
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")

# How a file of something else begins -> what it is, and what to do.
_OTHER_FILES = {
    b"version https://git-lfs": "it is a pointer of Git LFS and not the file; run: git lfs pull",
    b"<": "it is a web page; fetch the file itself",
    b"\x89HDF": "it is an HDF5 file, as Keras writes; catdog reads what torch.save wrote",
    b"\x1f\x8b": "it is compressed; unpack it first",
}
_NO_PYTORCH = "it is no PyTorch file; catdog reads what torch.save(model.state_dict(), path) wrote"
# What torch says of a file -> what it means.
_COMPLAINTS = {
    "TorchScript": "it is a TorchScript program; save the model's state_dict() with torch.save",
    "central directory": "it is cut off; copy or fetch it again",
    "truncated": "it is cut off; copy or fetch it again",
    "unexpected EOF": "it is cut off; copy or fetch it again",
    "Ran out of input": "it is cut off; copy or fetch it again",
    "Unsupported": (
        "it holds Python objects such as a whole model, and reading them would run code; "
        "save the model's state_dict() alone with torch.save"
    ),
}
# Bottleneck blocks or not, and how many there are in each layer.
_RESNETS: dict[tuple[bool, tuple[int, ...]], str] = {
    (False, (2, 2, 2, 2)): "ResNet-18",
    (False, (3, 4, 6, 3)): "ResNet-34",
    (True, (3, 4, 6, 3)): "ResNet-50",
    (True, (3, 4, 23, 3)): "ResNet-101",
    (True, (3, 8, 36, 3)): "ResNet-152",
}


def load_state(network: Network, path: Path) -> State:
    """Read a network's weights, in float32.

    Args:
        network: The architecture that they have to fit.
        path: The file.

    Raises:
        NotReadyError: If they do not; one line that names the cause.
    """
    try:
        state = _without_prefixes(_state_of(_read(path)))
        _check_fit(network, state)
    except ValueError as error:
        raise NotReadyError(f"{path} holds no weights of {network.name}: {error}") from error
    return {name: t.float() if t.is_floating_point() else t for name, t in state.items()}


def _read(path: Path) -> Any:
    """What torch.save wrote.

    Raises:
        ValueError: If it is something else, or would run code.
    """
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise ValueError("it is empty; copy or fetch it again")
    for beginning, complaint in _OTHER_FILES.items():
        if head.lstrip().startswith(beginning):
            raise ValueError(complaint)
    if path.suffix == ".safetensors" or head[8:10] == b'{"':
        raise ValueError(
            "it is a safetensors file; read it with safetensors.torch.load_file, and save what "
            "that gives with torch.save"
        )
    if path.suffix == ".onnx":
        raise ValueError("it is an ONNX file; catdog makes its own from PyTorch's weights")
    if not head.startswith((b"PK", b"\x80")):
        raise ValueError(_NO_PYTORCH)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types on a file that it cannot read
        said = str(error)
        known = (meaning for words, meaning in _COMPLAINTS.items() if words in said)
        raise ValueError(next(known, _NO_PYTORCH)) from error


def _state_of(found: Any) -> State:
    """The state within a checkpoint."""
    while isinstance(found, Mapping):
        inner = [name for name in _WRAPPERS if isinstance(found.get(name), Mapping)]
        if not inner:
            break
        if len(inner) > 1:
            raise ValueError(f"it holds {' and '.join(inner)}; save the one that is meant alone")
        found = found[inner[0]]
    if not isinstance(found, Mapping):
        raise ValueError(f"it holds a {type(found).__name__} and no state_dict()")
    others = [str(name) for name, value in found.items() if not isinstance(value, torch.Tensor)]
    if others or not found:
        names = ", ".join(others[:3]) or "nothing"
        raise ValueError(f"it holds {names}, and no state_dict() that catdog finds")
    return {str(name): value for name, value in found.items()}


def _without_prefixes(state: State) -> State:
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            within = {name.removeprefix(prefix): value for name, value in state.items()}
            return _without_prefixes(within)
    return state


def _check_fit(network: Network, state: State) -> None:
    """Compare names and shapes with the network's own.

    Raises:
        ValueError: If they differ; the reason that says most comes first.
    """
    module = network.build_empty()
    expected = module.state_dict()
    head = f"{network.last_layer}.weight"
    # Files of before PyTorch 0.4 lack the counters, and torch fills them in.
    missing = [n for n in expected if n not in state and not n.endswith("num_batches_tracked")]
    unknown = [name for name in state if name not in expected]
    shaped = [n for n in expected if n in state and state[n].shape != expected[n].shape]
    if missing or unknown or any(not name.startswith(network.last_layer) for name in shaped):
        looks = _looks_like(state)
        if looks and looks.lower().replace("-", "") != network.name.replace("_", ""):
            raise ValueError(f"it looks like {looks}, and --network is {network.name}")
    if head in shaped:
        raise ValueError(
            f"its head has {len(state[head])} classes, and catdog needs ImageNet's {CLASSES:,}"
        )
    if missing or unknown:
        lacks = f"it lacks {len(missing)} of {len(expected)} tensors{_such_as(missing)}"
        raise ValueError(f"{lacks}, and has {len(unknown)} that are unknown{_such_as(unknown)}")
    if shaped:
        name = shaped[0]
        got, wanted = tuple(state[name].shape), tuple(expected[name].shape)
        raise ValueError(f"its {name} has the shape {got}, and the network's is {wanted}")
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"its {name} has values that are no numbers (NaN or infinite)")
    try:
        module.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _such_as(names: list[str]) -> str:
    return f", such as {names[0]}" if names else ""


def _looks_like(state: State) -> str | None:
    """Which network's names and shapes these are, as far as they say it."""
    if "layer1.0.conv1.weight" not in state:
        if "_conv_stem.weight" in state:
            return "EfficientNet-lite0" if len(_blocks(state, "_blocks")) == 16 else "EfficientNet"
        if "cls_token" in state or "class_token" in state:
            return "a vision transformer"
        return None
    is_bottleneck = "layer1.0.conv3.weight" in state
    blocks = tuple(len(_blocks(state, f"layer{layer}")) for layer in (1, 2, 3, 4))
    kernel = state.get("layer1.0.conv2.weight")
    if kernel is None or kernel.dim() != 4:
        return None
    width, group = kernel.shape[:2]
    if width != group:
        return "a ResNeXt"
    if width != 64:
        return "a Wide ResNet"
    return _RESNETS.get((is_bottleneck, blocks))


def _blocks(state: State, layer: str) -> set[str]:
    return {name.split(".")[1] for name in state if name.startswith(f"{layer}.")}
