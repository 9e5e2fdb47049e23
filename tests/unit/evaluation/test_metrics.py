"""The evaluation's arithmetic against scipy, published values, hand counts and brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from catdog.read_settings import LOWEST_PRESENCE
from catdog_serving.evaluation.metrics import (
    Share,
    best_threshold,
    calibration_bins,
    expected_calibration_error,
    roc_auc,
    threshold_curve,
)


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [  # R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_intervals_are_the_published_ones(count: int, total: int, low: float, high: float) -> None:
    assert Share(count, total).interval == pytest.approx((low, high), abs=0.5e-4)


@given(st.integers(0, 500), st.integers(1, 500))
def test_intervals_are_scipys_and_hold_their_share(count: int, total: int) -> None:
    count = min(count, total)
    low, high = Share(count, total).interval
    scipys = stats.binomtest(count, total).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((scipys.low, scipys.high), abs=1e-12)
    assert 0 <= low <= count / total + 1e-12
    assert count / total - 1e-12 <= high <= 1


def test_a_share_of_nothing_is_unknown() -> None:
    assert Share(0, 0).to_dict() == {"count": 0, "total": 0, "value": None, "low": 0, "high": 1}


# ---- the presence_threshold ----

IMAGES = st.lists(
    st.tuples(
        # presence, with ties; with the decimals of an answer
        (st.integers(0, 30).map(lambda n: n / 30) | st.floats(0, 1)).map(lambda p: round(p, 6)),
        st.sampled_from(["neither", "right animal", "wrong animal"]),
    ),
    min_size=1,
    max_size=40,
)


def right_labels(images: list[tuple[float, str]], threshold: float) -> int:
    """As the handler labels: neither when the presence is below the threshold."""
    return sum(
        truth == ("neither" if presence < threshold else "right animal")
        for presence, truth in images
    )


def arrays(images: list[tuple[float, str]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    presence = np.array([presence for presence, _ in images])
    truth = np.array([truth for _, truth in images])
    return presence, truth == "neither", truth == "right animal"


@given(IMAGES)
@example([(0.0, "neither"), (1.0, "neither")])
@example([(1.0, "right animal"), (0.01, "neither"), (0.01, "right animal")])
def test_the_curve_is_right_everywhere_and_no_threshold_beats_the_best(
    images: list[tuple[float, str]],
) -> None:
    curve = threshold_curve(*arrays(images))
    for low, high, right in zip(curve.edges, curve.edges[1:], curve.right, strict=False):
        assert right_labels(images, high) == right
        assert right_labels(images, np.nextafter(low, 1)) == right
    best = best_threshold(curve)
    presences = sorted({LOWEST_PRESENCE, 1.0, *(presence for presence, _ in images)})
    midpoints = [(low + high) / 2 for low, high in itertools.pairwise(presences)]
    allowed = [t for t in (*presences, *midpoints) if LOWEST_PRESENCE < t <= 1]
    assert right_labels(images, best.threshold) == best.right.count
    assert max(right_labels(images, threshold) for threshold in allowed) == best.right.count
    assert right_labels(images, best.high) == best.right.count
    assert LOWEST_PRESENCE <= best.low < best.threshold < best.high <= 1


def test_masses_that_differ_by_the_rounding_of_a_sum_are_equal() -> None:
    curve = threshold_curve(*arrays([(0.1 + 0.2, "neither"), (0.3, "right animal")]))
    assert curve.edges.tolist() == [LOWEST_PRESENCE, 0.3, 1]


def test_the_best_threshold_is_the_middle_of_the_widest_best_interval() -> None:
    images = [(0.1, "neither"), (0.3, "right animal"), (0.4, "neither"), (0.8, "right animal")]
    best = best_threshold(threshold_curve(*arrays(images)))
    assert (best.threshold, best.low, best.high) == pytest.approx((0.6, 0.4, 0.8))
    assert best.right == Share(3, 4)


def test_an_image_that_is_wrong_either_way_does_not_cut_the_interval() -> None:
    images = [(0.2, "neither"), (0.5, "wrong animal"), (0.9, "right animal")]
    best = best_threshold(threshold_curve(*arrays(images)))
    assert (best.low, best.high) == pytest.approx((0.2, 0.9))


# ---- calibration ----


def test_the_calibration_error_is_the_hand_computed_one() -> None:
    confidence = np.array([0.95, 0.97, 0.96, 0.55, 0.58])
    right = np.array([True, True, False, True, False])
    bins = calibration_bins(confidence, right)
    filled = {(round(b.low, 3), b.right.count, b.right.total) for b in bins if b.right.total}
    assert filled == {(0.933, 2, 3), (0.533, 1, 2)}
    expected = 3 / 5 * abs(2 / 3 - 0.96) + 2 / 5 * abs(1 / 2 - 0.565)
    assert expected_calibration_error(bins) == pytest.approx(expected)
    nothing = calibration_bins(np.zeros(0), np.zeros(0, bool))
    assert expected_calibration_error(nothing) is None


def test_every_confidence_has_its_bin() -> None:
    confidence = np.array([0.0, 1 / 15, np.nextafter(1 / 15, 1), 0.5, 1.0])
    counts = [b.right.total for b in calibration_bins(confidence, confidence > 2)]
    assert [i for i, count in enumerate(counts) for _ in range(count)] == [0, 0, 1, 7, 14]


# ---- ROC ----


@given(st.lists(st.tuples(st.booleans(), st.integers(-5, 5)), min_size=2, max_size=30))
def test_the_auc_is_the_share_of_pairs_in_order(images: list[tuple[bool, int]]) -> None:
    cats = [score for is_cat, score in images if is_cat]
    dogs = [score for is_cat, score in images if not is_cat]
    auc = roc_auc(np.array([c for c, _ in images]), np.array([s for _, s in images]))
    if not cats or not dogs:
        assert auc is None
        return
    pairs_won = stats.mannwhitneyu(cats, dogs, method="asymptotic").statistic
    assert auc == pytest.approx(pairs_won / (len(cats) * len(dogs)), abs=1e-12)
