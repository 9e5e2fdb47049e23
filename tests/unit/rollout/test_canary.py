import pytest

from catdog_serving.monitoring.metrics import Scrape
from catdog_serving.rollout.canary import TrafficWindow

QUIET = TrafficWindow(seconds=5, requests=0, failed=0, mean_s=None)


def window(requests: int = 100, failed: int = 0, mean_s: float | None = 0.02) -> TrafficWindow:
    return TrafficWindow(10, requests, failed, mean_s)


@pytest.mark.parametrize(
    ("before", "after", "bad"),
    [
        (QUIET, window(failed=1), False),
        (QUIET, window(failed=2), True),
        (QUIET, window(requests=10, failed=1), True),
        (QUIET, window(requests=0), False),
        (QUIET, window(requests=0, failed=1), True),
        # an overloaded server refused 20 % before: a faster model is welcome
        (window(failed=20), window(failed=21), False),
        (window(failed=20), window(failed=30), True),
    ],
)
def test_one_request_in_a_hundred_may_fail_on_top_of_what_failed_before(
    before: TrafficWindow, after: TrafficWindow, bad: bool
) -> None:
    assert after.fails_more(before) == bad


@pytest.mark.parametrize(
    ("before_s", "after_s", "bad"),
    [
        (0.02, 0.9, False),  # a larger network is slower; that alone is no failure
        (0.02, 1.1, True),
        (None, 1.1, True),
        (0.5, 1.4, False),
        (0.5, 1.6, True),
        (0.02, None, False),
    ],
)
def test_slow_is_over_a_second_and_three_times_as_long_as_before(
    before_s: float | None, after_s: float | None, bad: bool
) -> None:
    assert window(mean_s=after_s).is_too_slow(window(mean_s=before_s)) == bad


def test_a_window_is_the_rise_of_the_metrics() -> None:
    before = Scrape.parse("ts_inference_requests_total{} 10\n", time_s=100)
    after = Scrape.parse(
        "ts_inference_requests_total{} 40\n"
        "catdog_batch_pictures_sum{} 25\ncatdog_batch_pictures_count{} 5\n"
        "ts_inference_latency_microseconds{} 500000\nRequests5XX{} 5\n",
        time_s=110,
    )
    found = TrafficWindow.between(before, after)
    assert found == TrafficWindow(seconds=10, requests=30, failed=5, mean_s=pytest.approx(0.02))
    assert str(found) == "10 s: 30 requests, 5 failed, 20 ms mean"
    assert str(QUIET) == "5 s: no requests"
