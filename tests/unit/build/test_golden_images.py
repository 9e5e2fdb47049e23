"""What the golden images show, against what a network calls them."""

from contextlib import nullcontext
from math import nan

import pytest

from catdog.model_info import GoldenImage, ModelInfo
from catdog.results import ClassProbability, ModelId, Prediction
from catdog_serving.build.golden_images import check_golden, check_shown
from catdog_serving.errors import RefusedError
from tests.support.model_dirs import model_info

CAT, DOG, NEITHER = (
    GoldenImage(f"golden/{shows}.png", 0.5, 0.5, shows) for shows in ("cat", "dog", "neither")
)


def answer(label: str, cat: float, dog: float, precision: str = "fp32") -> Prediction:
    top = (ClassProbability(176, "Saluki", dog),)
    model = ModelId("net", "mine", precision)
    return Prediction(label, cat, dog, 1 - cat - dog, None, top, None, model, "1.0")


def facts(*images: GoldenImage, untrained: bool = False) -> ModelInfo:
    return model_info(golden=images, untrained=untrained)


@pytest.mark.parametrize(
    ("image", "result", "is_right"),
    [
        (CAT, answer("cat", 0.92, 0.01), True),
        (CAT, answer("neither", 0.4, 0.3), True),  # the winner, below a high threshold
        (CAT, answer("dog", 0.0, 1.0), False),
        (CAT, answer("neither", 0.1, 0.1), False),
        (CAT, answer("cat", nan, nan), False),
        (DOG, answer("dog", 0.1, 0.2), True),
        (DOG, answer("cat", 0.2, 0.1), False),
        (NEITHER, answer("neither", 0.1, 0.4), True),
        (NEITHER, answer("cat", 0.6, 0.1), False),
    ],
)
def test_weights_that_do_not_know_what_an_image_shows_are_refused(
    image: GoldenImage, result: Prediction, is_right: bool
) -> None:
    with (
        nullcontext()
        if is_right
        else pytest.raises(RefusedError, match=f"{image.shows}.png shows .* insist with --insist")
    ):
        check_shown(facts(image), [result])
    check_shown(facts(image), [result], insist=True)
    check_shown(facts(image, untrained=True), [result])


def test_each_image_is_told_and_the_wrong_one_is_named() -> None:
    steps: list[str] = []
    results = [answer("cat", 0.92, 0.01), answer("dog", 0.0, 1.0)]
    with pytest.raises(RefusedError, match=r"^neither\.png shows neither, and is called dog: "):
        check_shown(facts(CAT, NEITHER), results, on_step=steps.append)
    assert steps == [
        "golden   cat.png shows a cat, and is called cat: cat 0.92, dog 0.01, Saluki",
        "golden   neither.png shows neither, and is called dog: cat 0.00, dog 1.00, Saluki",
    ]


@pytest.mark.parametrize(
    ("precision", "distance", "passes"),
    [
        ("fp32", 0.0009, True),
        ("fp32", 0.002, False),
        ("int8", 0.04, True),
        ("bf16", 0.02, True),  # on a GPU; on a CPU the same archive's answers say fp32
        ("bf16", 0.06, False),
        ("fp32", nan, False),
    ],
)
def test_masses_may_differ_as_much_as_what_computed_them_rounds(
    precision: str, distance: float, passes: bool
) -> None:
    result = answer("cat", 0.5 + distance, 0.5, precision)
    with nullcontext() if passes else pytest.raises(RefusedError, match="golden/cat.png got"):
        check_golden(facts(CAT), [result])
