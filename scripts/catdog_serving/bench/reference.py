"""The loop that catdog replaces: one image at a time through the eager network.

    python -m catdog_serving.bench.reference resnet152 STATE.pth FOLDER

It is what everything here is compared with, so it is written as such a script
is: Resize, CenterCrop, ToTensor, Normalize on a PIL image, a float32 NCHW batch
of one, softmax, two sums; torch's own number of threads.
"""

import argparse
import io
import time
from pathlib import Path

import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms

from catdog.labels import CAT_INDICES, DOG_INDICES
from catdog.networks import get_network

_SUFFIXES = {".jpg", ".jpeg", ".png"}


class ReferenceLoop:
    """The eager network with its transforms.

    Args:
        network: A name in `NETWORKS`.
        state: A .pth file with the network's state.
        device: "cpu" or "cuda:N".
    """

    def __init__(self, network: str, state: Path, device: str = "cpu") -> None:
        self.device = device
        self.module = get_network(network).build()
        self.module.load_state_dict(torch.load(state, map_location="cpu", weights_only=True))
        self.module.eval().to(device)
        # The original script's numbers; other networks' own cost the same time.
        self._transform = transforms.Compose(
            [
                transforms.Resize(256),
                transforms.CenterCrop(224),
                transforms.ToTensor(),
                transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            ]
        )

    def classify(self, image: bytes) -> tuple[float, float]:
        """Decode one image and give its cat and dog mass."""
        opened = Image.open(io.BytesIO(image)).convert("RGB")
        batch = self._transform(opened).unsqueeze(0).to(self.device)  # (1, 3, 224, 224)
        with torch.no_grad():
            probabilities = self.module(batch)[0].softmax(dim=0)  # (1000,)
        cat = probabilities[list(CAT_INDICES)].sum().item()
        dog = probabilities[list(DOG_INDICES)].sum().item()
        return cat, dog

    def multiply_adds(self, side: int = 224) -> int:
        """Multiply-adds of convolutions and linear layers for one image, side x side pixels."""
        with FlopCounterMode(display=False) as counted, torch.no_grad():
            self.module(torch.zeros(1, 3, side, side, device=self.device))
        return int(counted.get_total_flops() // 2)


def main() -> None:
    """Classify a folder and print its means, as the script does."""
    parser = argparse.ArgumentParser(description="the reference loop over a folder")
    parser.add_argument("network")
    parser.add_argument("state", type=Path)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    loop = ReferenceLoop(args.network, args.state)
    paths = sorted(path for path in args.folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    start = time.perf_counter()
    masses = [loop.classify(path.read_bytes()) for path in paths]
    seconds = time.perf_counter() - start
    cat, dog = (sum(column) / len(masses) for column in zip(*masses, strict=True))
    print(f"{args.folder}: {len(paths)} images in {seconds:.2f} s, {len(paths) / seconds:.2f}/s")
    print(f"  mean cat {cat:.4f}, dog {dog:.4f}")


if __name__ == "__main__":
    main()
