"""model.json: what an archive says about itself.

Written when the archive is built, read by every loader, returned by
`GET /models/catdog?customized=true`.
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

from catdog.labels import check_categories
from catdog.results import ModelId
from catdog.transforms import Preprocessing

MODEL_INFO_FILE = "model.json"
GOLDEN_FOLDER = "golden"
# What an archive holds and how. The first edition's is 1, whose network gave no maps; of 2, its
# golden images did not say what they show.
ARCHIVE_FORMAT = 3
RUNTIMES = {"onnx": ("fp32", "bf16", "int8"), "torch": ("fp32", "bf16", "fp16")}
# What computes a network, and the runtime that its archives are packed for.
ENGINES = {"onnxruntime": "onnx", "openvino": "onnx", "torch": "torch"}
AUTO_ENGINE = "auto"  # the fastest that this machine has


@dataclass(frozen=True)
class GoldenImage:
    """An image packed in the archive: what it shows, and the masses that the network must give it.

    Attributes:
        file: Its place in the archive, golden/NAME.
        cat: The mass of the cats, in [0, 1].
        dog: The mass of the dogs, in [0, 1].
        shows: The truth, whatever the network says: "cat", "dog" or "neither".

    Raises:
        ValueError: If its place is another one, or it shows something else.
    """

    file: str
    cat: float
    dog: float
    shows: str

    def __post_init__(self) -> None:
        path = PurePosixPath(self.file)
        if path.parts != (GOLDEN_FOLDER, path.name) or path.name == "..":
            raise ValueError(f"golden image {self.file!r} is not a file of {GOLDEN_FOLDER}/")
        if not (isinstance(self.cat, int | float) and isinstance(self.dog, int | float)):
            raise ValueError(f"golden image {self.file!r} has no numbers for cat and dog")
        if self.shows not in ("cat", "dog", "neither"):
            raise ValueError(
                f"golden image {self.file!r} shows a cat, a dog or neither; got {self.shows!r}"
            )


@dataclass(frozen=True)
class Agreement:
    """How an int8 or bf16 network agrees with its float32 original, measured when it was packed.

    Attributes:
        pictures: How many were compared; none of them was calibrated with.
        calibration_pictures: How many others it was calibrated with.
        same_winner: Share of the images, in [0, 1], with the same larger mass.
        same_top_class: Share with the same most probable of the 1,000 classes.
        mean_difference: Mean over all images and both masses of the distance from float32's.
        max_difference: The largest of these.
    """

    pictures: int
    calibration_pictures: int
    same_winner: float
    same_top_class: float
    mean_difference: float
    max_difference: float

    def __str__(self) -> str:
        return (
            f"same winner as fp32 on {self.same_winner:.1%} of {self.pictures} images, "
            f"same top class on {self.same_top_class:.1%}, "
            f"cat and dog differ by {self.mean_difference:.4f} (mean), "
            f"{self.max_difference:.4f} (max)"
        )


@dataclass(frozen=True)
class ModelInfo:
    """The facts of one archive.

    Attributes:
        network: A name in `NETWORKS`.
        weights: The weights' id, such as IMAGENET1K_V1.
        weights_sha256: SHA-256 of the weights file; for seeded weights, of the values.
        untrained: True for seeded weights, whose answers mean nothing.
        runtime: "onnx" or "torch".
        precision: What it is packed to compute in; see `RUNTIMES`.
        preprocessing: The weights' own numbers.
        categories: 1,000 class names in the order of the logits.
        golden: Images in the archive, at least one, with their masses.
        catdog_version: Version of the packed code.
        code_sha256: SHA-256 over the packed code.
        agreement: With float32, of int8 and of a CPU's bf16; None of others, and where the
            machine that packed bf16 does not compute it.

    Raises:
        ValueError: If the facts contradict each other.
    """

    network: str
    weights: str
    weights_sha256: str
    untrained: bool
    runtime: str
    precision: str
    preprocessing: Preprocessing
    categories: tuple[str, ...]
    golden: tuple[GoldenImage, ...]
    catdog_version: str
    code_sha256: str
    agreement: Agreement | None

    def __post_init__(self) -> None:
        check_categories(self.categories)
        check_runtime(self.runtime, self.precision)
        if not self.golden:
            raise ValueError("there is no golden image: nothing would show that the network works")
        is_measured = self.agreement is not None
        is_bf16 = (self.runtime, self.precision) == ("onnx", "bf16")
        if is_measured != (self.precision == "int8") and not is_bf16:
            raise ValueError(
                f"an archive has an agreement with fp32 if it is int8, and else only if it is a "
                f"CPU's bf16; got precision {self.precision}, agreement {self.agreement}"
            )

    @property
    def model(self) -> ModelId:
        """What answers say about the model."""
        return ModelId(self.network, self.weights, self.precision)

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {"format": ARCHIVE_FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelInfo":
        """Read plain values back.

        Raises:
            ValueError: If they are of another archive format, or a fact is missing, unknown or
                of another shape; the message names them.
        """
        check_format(values)
        expected = {"format", *(field.name for field in fields(cls))}
        missing, unknown = expected - set(values), set(values) - expected
        if missing or unknown:
            raise ValueError(
                f"{MODEL_INFO_FILE}: missing {sorted(missing)}, unknown {sorted(unknown)}"
            )
        try:
            return cls._of(values)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"{MODEL_INFO_FILE}: a fact has another shape: {error}") from error

    @classmethod
    def _of(cls, values: dict[str, Any]) -> "ModelInfo":
        facts = {name: value for name, value in values.items() if name != "format"}
        preprocessing, agreement = values["preprocessing"], values["agreement"]
        return cls(
            **{
                **facts,
                "preprocessing": Preprocessing(
                    resize_size=preprocessing["resize_size"],
                    crop_size=preprocessing["crop_size"],
                    mean=tuple(preprocessing["mean"]),
                    std=tuple(preprocessing["std"]),
                ),
                "categories": tuple(values["categories"]),
                "golden": tuple(GoldenImage(**image) for image in values["golden"]),
                "agreement": None if agreement is None else Agreement(**agreement),
            }
        )

    def write(self, model_dir: Path) -> None:
        path = model_dir / MODEL_INFO_FILE
        path.write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, model_dir: Path) -> "ModelInfo":
        path = model_dir / MODEL_INFO_FILE
        return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))


def check_format(facts: dict[str, Any]) -> None:
    """Make sure that a model.json is of the format that this code reads.

    Raises:
        ValueError: If not.
    """
    if not isinstance(facts, dict):
        raise ValueError(f"{MODEL_INFO_FILE} holds no facts")
    # The first edition's names a network and no format.
    archive_format = facts.get("format", 1 if "network" in facts else ARCHIVE_FORMAT)
    if archive_format != ARCHIVE_FORMAT:
        raise ValueError(
            f"{MODEL_INFO_FILE} is of archive format {archive_format}, and this catdog reads "
            f"format {ARCHIVE_FORMAT}"
        )


def check_runtime(runtime: str | None, precision: str) -> None:
    """Make sure that there is such a runtime, and that it knows the precision.

    Args:
        runtime: A name in `RUNTIMES`, or None for any of them.
        precision: What it must compute in.

    Raises:
        ValueError: If not; the message lists what there is.
    """
    asked = RUNTIMES.values() if runtime is None else [RUNTIMES.get(runtime, ())]
    if not any(precision in known for known in asked):
        named = "" if runtime is None else f" {runtime!r}"
        choices = ", ".join(f"{name}: {'|'.join(known)}" for name, known in RUNTIMES.items())
        raise ValueError(f"no runtime{named} with precision {precision!r}; there are {choices}")


def check_engine(engine: object) -> None:
    """Make sure that there is such an engine.

    Raises:
        ValueError: If not; the message lists what there is.
    """
    if engine not in (AUTO_ENGINE, *ENGINES):
        choices = ", ".join((AUTO_ENGINE, *ENGINES))
        raise ValueError(f"engine must be one of {choices}; got {engine!r}")
