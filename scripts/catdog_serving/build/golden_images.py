"""The golden images: packed into every archive, with the masses they must get.

They serve the check after packaging, the worker's warm-up and the check of a
deploy. The expected masses come from the eager float32 network, not from the
runtime that was packed, so that an export that computes something else is found.
An int8 network's are its own: how far they are from float32 is for the gate in
agreement.py.
"""

from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

import numpy as np

from catdog.decode import Decoder, Limits
from catdog.invalid_image import InvalidImage
from catdog.model_info import GOLDEN_FOLDER, GoldenImage, ModelInfo
from catdog.postprocess import class_masses
from catdog.results import Prediction
from catdog.transforms import Preprocessing, read_model_input
from catdog_serving.build.agreement import LogitsOf
from catdog_serving.errors import RefusedError
from catdog_serving.sample_images import SAMPLES

# What each of them shows, which no network has to say.
GOLDEN_SHOWS = {"chelsea.png": "cat", "coffee.png": "neither"}

# How far the masses of a golden image may be from those in model.json. float32 on
# two machines differs by about 1e-4 at most; another image or network by 1e-2 and more.
TOLERANCE = 1e-3
# The same of an int8 network, whose golden masses are its own. ONNX Runtime's AVX2 and VNNI
# kernels agreed to the last bit, but rounding at another place moves whole levels: computing
# the same int8 network in float32 moved masses by up to 0.035 (docs/int8.md).
# bf16 and fp16 get as much room: an answer names them only where they were computed, and the masses
# in model.json are float32's.
REDUCED_TOLERANCE = 0.05


def golden_images(logits_of: LogitsOf, preprocessing: Preprocessing) -> tuple[GoldenImage, ...]:
    """Let a network say what each golden image's masses are."""
    masses = class_masses(logits_of(golden_pixels(preprocessing))).tolist()
    return tuple(
        GoldenImage(f"{GOLDEN_FOLDER}/{name}", cat, dog, shows)
        for (name, shows), (cat, dog) in zip(GOLDEN_SHOWS.items(), masses, strict=True)
    )


def golden_pixels(preprocessing: Preprocessing) -> np.ndarray:
    """All of them, prepared as the weights want it: uint8, shape (N, 3, S, S)."""
    return np.stack([sample_pixels(name, preprocessing) for name in GOLDEN_SHOWS])


def sample_pixels(name: str, preprocessing: Preprocessing) -> np.ndarray:
    """One sample image, prepared as the weights want it: uint8 (3, S, S)."""
    limits = Limits(max_pixels=10**6, max_aspect_ratio=10)
    return read_model_input((SAMPLES / name).read_bytes(), Decoder(limits), preprocessing).crop


def check_golden(info: ModelInfo, results: Sequence[Prediction | InvalidImage]) -> list[Prediction]:
    """Compare answers for the golden images with what model.json promises; gives them back.

    Raises:
        RefusedError: If one differs by more than `TOLERANCE`, or `REDUCED_TOLERANCE` where it
            was not computed in float32.
    """
    found = []
    for image, result in zip(info.golden, results, strict=True):
        if isinstance(result, InvalidImage):
            raise RefusedError(f"{image.file} could not be classified: {result}")
        tolerance = TOLERANCE if result.model.precision == "fp32" else REDUCED_TOLERANCE
        distance = max(abs(result.cat - image.cat), abs(result.dog - image.dog))
        if not distance <= tolerance:
            raise RefusedError(
                f"{image.file} got cat {result.cat:.4f}, dog {result.dog:.4f}; model.json says "
                f"cat {image.cat:.4f}, dog {image.dog:.4f} "
                f"(tolerance {tolerance:g})"
            )
        found.append(result)
    return found


def check_shown(
    info: ModelInfo,
    results: Sequence[Prediction],
    *,
    insist: bool = False,
    on_step: Callable[[str], None] = lambda _: None,
) -> None:
    """Compare answers for the golden images with what they show, as people see them.

    `check_golden` finds an export that computes something else than the weights say; this finds
    weights that are not those of a network that knows cats from dogs.

    Args:
        info: The archive's facts. Seeded weights may say anything: all of it says "untrained".
        results: The answers that `check_golden` let pass.
        insist: Let wrong answers pass.
        on_step: Is told, for each image, what it shows and what it is called.

    Raises:
        RefusedError: If the cat's mass is not the larger one on a cat, likewise for a dog, or an
            image of neither is called one.
    """
    wrong = []
    for image, result in zip(info.golden, results, strict=True):
        shown = image.shows if image.shows == "neither" else f"a {image.shows}"
        line = (
            f"{PurePosixPath(image.file).name} shows {shown}, and is called {result.label}: "
            f"cat {result.cat:.2f}, dog {result.dog:.2f}, {result.top[0].name}"
        )
        on_step(f"golden   {line}")
        is_right = {
            "cat": result.cat > result.dog,  # false for NaN
            "dog": result.dog > result.cat,
            "neither": result.label == "neither",
        }[image.shows]
        if not is_right:
            wrong.append(line)
    if wrong and not info.untrained and not insist:
        raise RefusedError(
            f"{wrong[0]}. These weights do not know it, and nothing was changed; look whether "
            "they are the right ones, or insist with --insist"
        )
