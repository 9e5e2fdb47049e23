"""Prometheus' text format, and what a person is told of two scrapes."""

import math

import pytest

from catdog_serving.monitoring.metrics_text import Sample, parse_metrics


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("up 1", Sample("up", {}, 1)),
        ("up{} 1", Sample("up", {}, 1)),
        ('a:b_c{x="1",} 2.5E7', Sample("a:b_c", {"x": "1"}, 2.5e7)),  # as TorchServe writes it
        ('a{x="1", y="2"} 3 1395066363000', Sample("a", {"x": "1", "y": "2"}, 3)),
        (' a { x = "1" , y = "" } -3 -12 ', Sample("a", {"x": "1", "y": ""}, -3)),
        (r'a{x="say \"hi\", C:\\new\n"} 1', Sample("a", {"x": 'say "hi", C:\\new\n'}, 1)),
        ('a{x="}{ 5",y="a=\\"b\\","} 1', Sample("a", {"x": "}{ 5", "y": 'a="b",'}, 1)),
        ('a_bucket{le="+Inf"} +Inf', Sample("a_bucket", {"le": "+Inf"}, math.inf)),
    ],
)
def test_a_line_is_a_sample(line: str, expected: Sample) -> None:
    text = f"# HELP a something\n# TYPE a gauge\n\n{line}\n"
    assert parse_metrics(text).samples == (expected,)


def test_not_a_number_is_a_value() -> None:
    (sample,) = parse_metrics("a NaN").samples
    assert math.isnan(sample.value)


@pytest.mark.parametrize(
    "line", ["a", "a{x=1} 2", 'a{x="1} 2', 'a{x="1"y="2"} 2', "a two", "<html>", "a 1 2 3", "1a 2"]
)
def test_anything_else_is_named(line: str) -> None:
    with pytest.raises(ValueError, match="no line of Prometheus|could not convert"):
        parse_metrics(f"up 1\n{line}\n")


def test_totals_and_buckets_are_taken_over_the_labels_that_are_not_named() -> None:
    metrics = parse_metrics(
        'r{v="1",k="a"} 2\nr{v="2",k="a"} 3\nr{v="2",k="b"} 4\n'
        'h_bucket{v="1",le="+Inf"} 7\nh_bucket{v="1",le="0.5"} 5\nh_bucket{v="2",le="0.5"} 1\n'
    )
    assert metrics.total("r") == 9
    assert metrics.total("r", k="a") == 5
    assert metrics.total("absent") == 0
    assert metrics.buckets("h") == {0.5: 6, math.inf: 7}
    assert metrics.buckets("h", v="1") == {0.5: 5, math.inf: 7}
