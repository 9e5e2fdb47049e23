"""Interleaved rounds: their order, their measurements, and ratios within a round."""

from functools import partial

from catdog_serving.bench.interleave import Measurement, run_rounds


def test_rounds_are_interleaved_and_every_second_one_runs_backwards() -> None:
    order: list[str] = []

    def run(name: str) -> dict[str, float]:
        order.append(name)
        return {"images_per_s": float(len(order))}

    measurements = run_rounds({name: partial(run, name) for name in "abc"}, 3)
    assert "".join(order) == "abccbaabc"
    assert measurements["a"]["images_per_s"].values == (1, 6, 7)


def test_a_measurement_has_its_median_and_its_ends() -> None:
    measurement = Measurement((3.0, 1.0, 10.0))
    assert measurement.to_dict() == {"median": 3, "low": 1, "high": 10, "values": [3, 1, 10]}


def test_a_ratio_is_taken_within_each_round() -> None:
    # The machine became half as fast in the second round; the ratio did not change.
    fast, slow = Measurement((8.0, 4.0)), Measurement((2.0, 1.0))
    assert fast.over(slow).values == (4, 4)
    assert fast.minus(slow).values == (6, 3)


def test_when_there_was_enough_time_no_third_round_begins() -> None:
    slow = {"slow": lambda: {"images_per_s": 1.0}}
    assert len(run_rounds(slow, 5, enough_s=0)["slow"]["images_per_s"].values) == 2
    assert run_rounds(slow, 0) == {}
