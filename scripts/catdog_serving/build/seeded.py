"""Seeded weights: reproducible and untrained, for tests and benchmarks.

Fresh weights alone give logits of about 1e8, whose softmax is exactly 0 or 1,
so that every comparison on them passes. These are calibrated instead: the
batch norms see real images once, and the last layer is scaled so that the
softmax is spread over many classes.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from PIL import Image
from torch import nn

from catdog.decode import Decoder, Limits
from catdog.networks import Network
from catdog.transforms import Preprocessing
from catdog_serving.sample_images import SAMPLES

SEED = 152
LOGIT_STD = 3.0  # gives top probabilities of 0.1 to 0.7
_SAMPLE_NAMES = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")
_CROPS_PER_SAMPLE = 4


def seeded_state(network: Network, preprocessing: Preprocessing) -> dict[str, torch.Tensor]:
    """Make the network's seeded weights; the same on every call.

    Returns:
        Parameter names to tensors, as `module.state_dict()` has them.
    """
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        module = network.build().eval()
    images = _calibration_images(preprocessing)  # (16, 3, S, S)
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    with torch.no_grad(), _one_thread():
        for norm in norms:
            norm.momentum = None  # the running statistics become this batch's own
            norm.train()
        network.features(module, images)
        module.eval()
        logits = network.logits(module, network.features(module, images))
        last_layer = getattr(module, network.last_layer)
        scale = LOGIT_STD / logits.std()
        last_layer.weight *= scale
        last_layer.bias *= scale
    return {name: value.detach() for name, value in module.state_dict().items()}


@contextmanager
def _one_thread() -> Iterator[None]:
    """The last digits of a sum depend on its order, and that on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def state_sha256(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over the names and values, in order of the names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def _calibration_images(preprocessing: Preprocessing) -> torch.Tensor:
    """Squares from the samples' corners, normalised: float32 (16, 3, S, S)."""
    decoder = Decoder(Limits(max_pixels=10**6, max_aspect_ratio=10))
    side = preprocessing.crop_size
    squares = []
    for name in _SAMPLE_NAMES:
        image = decoder.decode((SAMPLES / name).read_bytes()).image
        squares += [
            np.asarray(_corner(image, corner).resize((side, side)))
            for corner in range(_CROPS_PER_SAMPLE)
        ]
    pixels = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).float() / 255
    mean = torch.tensor(preprocessing.mean).view(1, 3, 1, 1)
    std = torch.tensor(preprocessing.std).view(1, 3, 1, 1)
    return (pixels - mean) / std


def _corner(image: Image.Image, corner: int) -> Image.Image:
    """One of four overlapping squares, each reaching into one corner."""
    side = min(image.size) * 3 // 4
    left = (image.width - side) * (corner % 2)
    top = (image.height - side) * (corner // 2)
    return image.crop((left, top, left + side, top + side))
