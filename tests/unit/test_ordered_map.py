import threading
import time
from itertools import count

import pytest

from catdog_serving.ordered_map import ordered_map
from tests.support.processes import wait_until


def test_results_come_in_order_whatever_finishes_first() -> None:
    second_done = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert second_done.wait(10)
        if number == 1:
            second_done.set()
        return number * number

    assert list(ordered_map(work, range(50), 4)) == [n * n for n in range(50)]


def test_an_endless_stream_is_taken_as_it_is_needed() -> None:
    taken = []

    def stream():  # type: ignore[no-untyped-def]
        for number in count():
            taken.append(number)
            yield number

    results = ordered_map(lambda n: n, stream(), 3)
    assert [next(results) for _ in range(10)] == list(range(10))
    assert len(taken) <= 10 + 2 * 3
    results.close()


def test_so_many_are_under_way_and_never_more() -> None:
    running, most, lock = 0, 0, threading.Lock()

    def work(number: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.005)  # so that others can begin
        with lock:
            running -= 1

    list(ordered_map(work, range(100), 5))
    assert most == 5


def test_an_error_comes_in_its_place_and_cancels_the_rest() -> None:
    begun = []
    release = threading.Event()

    def work(number: int) -> int:
        begun.append(number)
        if number == 2:
            raise ValueError("two")
        if number > 2:
            release.wait(10)
        return number

    results = ordered_map(work, range(1000), 2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="two"):
        next(results)
    release.set()
    wait_until(lambda: not any("ordered-map" in t.name for t in threading.enumerate()), "the end")
    assert len(begun) <= 6
