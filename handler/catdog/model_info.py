"""model.json: what an archive says about itself.

Written when the archive is built, read by every loader, returned by
`GET /models/catdog?customized=true`.
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from catdog.labels import check_categories
from catdog.preprocess import Preprocessing

MODEL_INFO_FILE = "model.json"
RUNTIMES = {"onnx": ("fp32",), "torch": ("fp32", "bf16", "fp16")}

# How far the masses of a golden picture may be from those in model.json. float32 on
# two machines differs by about 1e-4 at most; another picture or network by 1e-2 and more.
GOLDEN_TOLERANCE = 1e-3


@dataclass(frozen=True)
class GoldenPicture:
    """A picture packed in the archive, with the masses that the network must give it."""

    file: str
    cat: float
    dog: float


@dataclass(frozen=True)
class ModelInfo:
    """The facts of one archive.

    Attributes:
        network: A name in `NETWORKS`.
        weights: The weights' id, such as IMAGENET1K_V1.
        weights_sha256: SHA-256 of the weights file; for seeded weights, of the values.
        untrained: True for seeded weights, whose answers mean nothing.
        runtime: "onnx" or "torch".
        precision: What the runtime computes in; see `RUNTIMES`.
        preprocessing: The weights' own numbers.
        categories: 1,000 class names in the order of the logits.
        golden: Pictures in the archive, with their masses.
        catdog_version: Version of the packed code.
        code_sha256: SHA-256 over the packed code.
    """

    network: str
    weights: str
    weights_sha256: str
    untrained: bool
    runtime: str
    precision: str
    preprocessing: Preprocessing
    categories: tuple[str, ...]
    golden: tuple[GoldenPicture, ...]
    catdog_version: str
    code_sha256: str

    def __post_init__(self) -> None:
        check_categories(self.categories)
        check_runtime(self.runtime, self.precision)

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelInfo":
        """Read plain values back.

        Raises:
            ValueError: If a fact is missing or unknown; the message names them.
        """
        expected = {field.name for field in fields(cls)}
        if set(values) != expected:
            raise ValueError(
                f"{MODEL_INFO_FILE}: missing {sorted(expected - set(values))}, "
                f"unknown {sorted(set(values) - expected)}"
            )
        preprocessing = values["preprocessing"]
        return cls(
            **{
                **values,
                "preprocessing": Preprocessing(
                    resize_size=preprocessing["resize_size"],
                    crop_size=preprocessing["crop_size"],
                    mean=tuple(preprocessing["mean"]),
                    std=tuple(preprocessing["std"]),
                ),
                "categories": tuple(values["categories"]),
                "golden": tuple(GoldenPicture(**picture) for picture in values["golden"]),
            }
        )

    def write(self, model_dir: Path) -> None:
        path = model_dir / MODEL_INFO_FILE
        path.write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, model_dir: Path) -> "ModelInfo":
        path = model_dir / MODEL_INFO_FILE
        return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))


def check_runtime(runtime: str, precision: str) -> None:
    """Make sure that there is such a runtime, and that it knows the precision.

    Raises:
        ValueError: If not; the message lists what there is.
    """
    if precision not in RUNTIMES.get(runtime, ()):
        choices = ", ".join(f"{name}: {'|'.join(known)}" for name, known in RUNTIMES.items())
        raise ValueError(
            f"no runtime {runtime!r} with precision {precision!r}; there are {choices}"
        )
