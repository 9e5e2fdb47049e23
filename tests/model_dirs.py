"""Model directories without a network, and a stand-in for the forward pass."""

import json
import shutil
from pathlib import Path

import numpy as np
from torchvision.models import ResNet152_Weights

from catdog.classifier import Classifier
from catdog.model_info import ModelInfo
from catdog.preprocess import HTTP_FORMATS, Preprocessing
from catdog.runtime import ModelOutput
from catdog.settings import Settings
from tests.conftest import ROOT

CATEGORIES = tuple(ResNet152_Weights.IMAGENET1K_V1.meta["categories"])


def model_info(**changes: object) -> ModelInfo:
    values = {
        "network": "resnet152",
        "weights": "IMAGENET1K_V1",
        "weights_sha256": "394f9c45",
        "untrained": False,
        "runtime": "onnx",
        "precision": "fp32",
        "preprocessing": Preprocessing(256, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        "categories": CATEGORIES,
        "golden": (),
        "catdog_version": "0.1.0",
        "code_sha256": "0" * 64,
        "agreement": None,
    }
    return ModelInfo(**(values | changes))


def write_model_dir(folder: Path, info: ModelInfo, version: str = "7.0") -> Path:
    """A model directory that lacks only the network itself."""
    info.write(folder)
    shutil.copy(ROOT / "config" / "model-config.yaml", folder)
    (folder / "MAR-INF").mkdir()
    manifest = {"model": {"modelName": "catdog", "modelVersion": version}}
    (folder / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(manifest))
    return folder


class ColourRuntime:
    """Instead of a network: red pictures are tabbies, green ones pugs, blue ones espresso.

    It records the size of each batch.
    """

    device = "cpu"

    def __init__(self) -> None:
        self.batches: list[int] = []

    def run(self, pixels: np.ndarray) -> ModelOutput:
        self.batches.append(len(pixels))
        logits = np.zeros((len(pixels), 1000), dtype=np.float32)
        for channel, name in enumerate(("tabby", "pug", "espresso")):
            logits[:, CATEGORIES.index(name)] = pixels[:, channel].mean(axis=(1, 2)) / 16
        return ModelOutput(logits, np.zeros((len(pixels), 2048, 7, 7), dtype=np.float32))

    def batch_sizes(self, largest: int) -> list[int]:
        return [1, largest]


def colour_classifier(tmp_path: Path) -> tuple[Classifier, ColourRuntime]:
    folder = write_model_dir(tmp_path, model_info())
    runtime = ColourRuntime()
    settings = Settings.read(folder / "model-config.yaml")
    return Classifier(folder, ModelInfo.read(folder), settings, runtime, 2, HTTP_FORMATS), runtime
