"""Model directories without a network, and a stand-in for the forward pass."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision.models import ResNet152_Weights

from catdog.classifier import Classifier
from catdog.decode import Decoder
from catdog.engines import ModelOutput
from catdog.model_info import GoldenImage, ModelInfo
from catdog.read_settings import Settings
from catdog.torch_module import LogitsAndMaps
from catdog.transforms import Preprocessing
from tests.support.paths import ROOT, SAMPLES

CATEGORIES = tuple(ResNet152_Weights.IMAGENET1K_V1.meta["categories"])


def model_info(**changes: Any) -> ModelInfo:
    info = ModelInfo(
        network="resnet152",
        weights="IMAGENET1K_V1",
        weights_sha256="394f9c45",
        untrained=False,
        runtime="onnx",
        precision="fp32",
        preprocessing=Preprocessing(256, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        categories=CATEGORIES,
        golden=(GoldenImage("golden/a.png", 0.9, 0.01, "cat"),),
        catdog_version="0.1.0",
        code_sha256="0" * 64,
        agreement=None,
    )
    return replace(info, **changes)


def write_model_dir(folder: Path, info: ModelInfo, version: str = "7.0") -> Path:
    """A model directory that lacks only the network itself."""
    info.write(folder)
    shutil.copy(ROOT / "config" / "model-config.yaml", folder)
    for image in info.golden:
        (folder / image.file).parent.mkdir(exist_ok=True)
        shutil.copy(SAMPLES / "chelsea.png", folder / image.file)
    (folder / "MAR-INF").mkdir()
    manifest = {"model": {"modelName": "catdog", "modelVersion": version}}
    (folder / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(manifest))
    return folder


class Colours(nn.Module):
    """Red images are tabbies, green ones pugs, blue ones espresso.

    Its features are the colours of cells of 32 x 32 pixels, and its logits their means, as in
    a network with one last layer.
    """

    cell = 32

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = gain
        self.last_layer = torch.zeros(1000, 3)
        for channel, name in enumerate(("tabby", "pug", "espresso")):
            self.last_layer[CATEGORIES.index(name), channel] = 1

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = nn.functional.avg_pool2d(pixels.float(), self.cell) * self.gain
        return features.mean((2, 3)) @ self.last_layer.T, features


class ColourEngine:
    """`Colours` instead of a network, with the real head; it records the shape of each batch."""

    name = "colours"
    device = "cpu"
    cell = Colours.cell

    precision = "fp32"

    def __init__(self, gain: float = 1 / 16) -> None:
        colours = Colours(gain)
        self._module = LogitsAndMaps(colours, colours.last_layer)
        self.shapes: list[tuple[int, ...]] = []

    @property
    def batches(self) -> list[int]:
        return [shape[0] for shape in self.shapes]

    def run(self, images: Sequence[np.ndarray]) -> ModelOutput:
        pixels = np.stack(images)
        self.shapes.append(pixels.shape)
        with torch.inference_mode():
            logits, maps = self._module(torch.from_numpy(pixels))
        return ModelOutput(logits.numpy(), maps.numpy())

    def prepare(self, batch_size: int, side: int) -> None:
        self.run([np.zeros((3, side, side), np.uint8)] * batch_size)

    def prepare_full_images(self) -> None:
        """Nothing, as most engines."""


def colour_classifier(tmp_path: Path, gain: float = 1 / 16) -> tuple[Classifier, ColourEngine]:
    folder = write_model_dir(tmp_path, model_info())
    info = ModelInfo.read(folder)
    settings = Settings.read(folder / "model-config.yaml")
    engine = ColourEngine(gain)
    return Classifier(folder, info, settings, engine, 2, Decoder(settings.limits)), engine
