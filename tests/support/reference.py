"""The reference computation, straight from torchvision and torch, for comparing with ours."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, Resize

from catdog_serving.build.weights import Weights


def reference_pixels(path: Path) -> np.ndarray:
    """torchvision's Resize + CenterCrop on the PIL image: uint8 (3, 224, 224)."""
    crop = Compose([Resize(256), CenterCrop(224)])(Image.open(path).convert("RGB"))
    return np.asarray(crop).transpose(2, 0, 1)


def reference_masses(
    weights: Weights, paths: list[Path], dtype: torch.dtype = torch.float32
) -> np.ndarray:
    """(cat, dog) masses, one image at a time through the eager network: float64 (N, 2)."""
    module = weights.network.build()
    module.load_state_dict(dict(weights.state))
    module = module.eval().to(dtype)
    mean = torch.tensor(weights.preprocessing.mean, dtype=dtype).view(3, 1, 1)
    std = torch.tensor(weights.preprocessing.std, dtype=dtype).view(3, 1, 1)
    rows = []
    for path in paths:
        image = (torch.from_numpy(reference_pixels(path).copy()).to(dtype) / 255 - mean) / std
        with torch.no_grad():
            probabilities = module(image.unsqueeze(0))[0].softmax(dim=0)
        rows.append((probabilities[281:286].sum().item(), probabilities[151:269].sum().item()))
    return np.array(rows)
