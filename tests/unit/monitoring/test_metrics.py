"""TorchServe's metrics text, and what a person is told of two scrapes."""

import math

import pytest

from catdog_serving.monitoring.metrics import Rates, Scrape, quantile
from tests.support.fake_server import metrics

parsed = Scrape.parse


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("up 1", ("up", {}, 1)),
        ('a:b_c{x="1",} 2.5E7', ("a:b_c", {"x": "1"}, 2.5e7)),  # as TorchServe writes it
        (r'a{x="say \"hi\", C:\\new\n}"} 1', ("a", {"x": 'say "hi", C:\\new\n}'}, 1)),
        ('a_bucket{le="+Inf"} +Inf', ("a_bucket", {"le": "+Inf"}, math.inf)),
    ],
)
def test_a_line_is_a_sample_under_the_name_that_the_server_gave_it(
    line: str, expected: tuple[str, dict[str, str], float]
) -> None:
    name = expected[0]
    (sample,) = parsed(f"# HELP {name} something\n# TYPE {name} counter\n\n{line}\n").samples
    assert tuple(sample[:3]) == expected


@pytest.mark.parametrize("line", ["a", "a{x=1} 2", 'a{x="1} 2', "a two", "<html>", "1a 2"])
def test_anything_else_is_an_error(line: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (the parser's own words)
        parsed(f"up 1\n{line}\n")


def test_totals_and_buckets_are_taken_over_the_labels_that_are_not_named() -> None:
    scraped = parsed(
        'r{v="1",k="a"} 2\nr{v="2",k="a"} 3\nr{v="2",k="b"} 4\n'
        'h_bucket{v="1",le="+Inf"} 7\nh_bucket{v="1",le="0.5"} 5\nh_bucket{v="2",le="0.5"} 1\n'
    )
    assert scraped.total("r") == 9
    assert scraped.total("r", k="a") == 5
    assert scraped.total("absent") == 0
    assert scraped.buckets("h") == {0.5: 6, math.inf: 7}
    assert scraped.buckets("h", v="1") == {0.5: 5, math.inf: 7}


def test_rates_are_the_rise_over_the_time() -> None:
    # 5xx have no series before the first one.
    after = metrics(requests=150, answered=120, batches=30) + 'Requests5XX{Level="Host",} 30\n'
    found = Rates.between(parsed(metrics(50, 40, 10)), parsed(after, 4))
    assert (found.requests_per_s, found.answers_per_s) == (25, 20)
    assert (found.invalid_per_s, found.errors_per_s) == (10, 7.5)
    assert (found.request_s, found.queue_s) == pytest.approx((0.2, 0.1))
    assert found.batch_images == 4
    assert found.busy_workers == pytest.approx(20 * (0.02 + 0.1) / 4)
    assert found.stages.keys() == {"inference"}
    assert found.stages["inference"].p50_s == pytest.approx(0.1)
    assert found.stages["inference"].p95_s == pytest.approx(0.1 + 0.15 * 0.9)


def test_a_mean_of_nothing_is_none() -> None:
    text = metrics(50, 40, 10)
    found = Rates.between(parsed(text), parsed(text, 2))
    assert (found.requests_per_s, found.answers_per_s) == (0, 0)
    assert (found.request_s, found.queue_s, found.batch_images) == (None, None, None)
    assert found.stages == {}


def test_a_restarted_server_counts_from_0() -> None:
    found = Rates.between(parsed(metrics(500, 400, 100)), parsed(metrics(30, 20, 10), 2))
    assert (found.requests_per_s, found.answers_per_s, found.batch_images) == (15, 10, 2)


@pytest.mark.parametrize(
    ("q", "expected"),
    [(0.1, 0.5), (0.2, 1), (0.5, 1.75), (0.6, 2), (0.8, 2), (0.99, 2)],
)
def test_quantiles_are_prometheus_own(q: float, expected: float) -> None:
    """Checked by hand: 2 up to 1, 4 more up to 2, none up to 5 and 4 beyond."""
    buckets = {1.0: 2.0, 2.0: 6.0, math.inf: 10.0}
    assert quantile(q, buckets) == pytest.approx(expected)
