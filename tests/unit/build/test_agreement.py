import numpy as np
import pytest

from catdog.model_info import Agreement
from catdog_serving.build.agreement import AgreementGate, logits_in_batches, measure_agreement
from catdog_serving.errors import RefusedError

CAT, DOG, CUP = 281, 151, 504


def logits(*images: dict[int, float]) -> np.ndarray:
    """Logits that give each image's classes these probabilities, and the others none."""
    rows = np.full((len(images), 1000), -100.0, dtype=np.float32)
    for row, probabilities in zip(rows, images, strict=True):
        for index, probability in probabilities.items():
            row[index] = np.log(probability)
    return rows


def agreement(same_winner: float, mean_difference: float) -> Agreement:
    return Agreement(50, 50, same_winner, 0.9, mean_difference, 0.3)


def test_differences_are_of_both_masses_over_all_images() -> None:
    float32 = logits({CAT: 0.8, DOG: 0.1, CUP: 0.1}, {CAT: 0.3, DOG: 0.5, CUP: 0.2})
    int8 = logits({CAT: 0.7, DOG: 0.1, CUP: 0.2}, {CAT: 0.3, DOG: 0.2, CUP: 0.5})
    measured = measure_agreement(int8, float32, calibration_images=7)
    assert (measured.pictures, measured.calibration_pictures) == (2, 7)
    assert measured.same_winner == 0.5  # the second became a cat
    assert measured.same_top_class == 0.5  # and its top class a cup
    assert measured.mean_difference == pytest.approx((0.1 + 0 + 0 + 0.3) / 4, abs=1e-6)
    assert measured.max_difference == pytest.approx(0.3, abs=1e-6)


def test_a_network_agrees_with_itself() -> None:
    same = logits({CAT: 0.8, DOG: 0.2}, {CAT: 0.1, DOG: 0.9})
    measured = measure_agreement(same, same, calibration_images=10)
    assert (measured.same_winner, measured.same_top_class) == (1, 1)
    assert (measured.mean_difference, measured.max_difference) == (0, 0)


def test_the_limits_themselves_pass() -> None:
    AgreementGate().check(agreement(0.98, 0.05), "int8")


@pytest.mark.parametrize("precision", ["int8", "bf16"])
@pytest.mark.parametrize(
    ("same_winner", "mean_difference"), [(0.979, 0), (1, 0.0501), (1, float("nan"))]
)
def test_beyond_a_limit_is_refused_with_all_figures(
    same_winner: float, mean_difference: float, precision: str
) -> None:
    with pytest.raises(RefusedError) as caught:
        AgreementGate().check(agreement(same_winner, mean_difference), precision)
    assert caught.value.exit_code == 4
    for figure in (f"{same_winner:.1%}", f"{mean_difference:.4f}", "98.0%", "at most 0.05"):
        assert figure in str(caught.value)
    assert str(caught.value).startswith(f"{precision} is too far from fp32: ")
    assert "or package fp32" in str(caught.value)


def test_limits_outside_0_to_1_are_named() -> None:
    with pytest.raises(ValueError, match=r"min_same_winner must be in 0..1, got 98"):
        AgreementGate(min_same_winner=98)
    with pytest.raises(ValueError, match="max_mean_difference"):
        AgreementGate(max_mean_difference=-1)


def test_batches_keep_the_order_and_the_last_image() -> None:
    pixels = np.arange(19, dtype=np.uint8).reshape(19, 1, 1, 1)
    sizes = []

    def first_pixel(batch: np.ndarray) -> np.ndarray:
        sizes.append(len(batch))
        return batch[:, 0, 0]

    assert logits_in_batches(first_pixel, pixels)[:, 0].tolist() == list(range(19))
    assert sizes == [8, 8, 3]
