import threading

import pytest

from catdog.memory_budget import MemoryBudget


def test_reservations_never_exceed_the_total() -> None:
    budget = MemoryBudget(100)
    lock = threading.Lock()
    taken = 0
    highest = 0

    def work(size: int) -> None:
        nonlocal taken, highest
        for _ in range(200):
            with budget.reserve(size):
                with lock:
                    taken += size
                    highest = max(highest, taken)
                with lock:
                    taken -= size

    threads = [threading.Thread(target=work, args=(size,)) for size in (10, 30, 60, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert 60 <= highest <= 100


def test_a_large_reservation_waits_for_the_small_ones() -> None:
    budget = MemoryBudget(100)
    entered = threading.Event()

    def large() -> None:
        with budget.reserve(100):
            entered.set()

    with budget.reserve(1):
        thread = threading.Thread(target=large)
        thread.start()
        assert not entered.wait(0.05)
    assert entered.wait(10)
    thread.join(10)


def test_a_failure_gives_the_memory_back() -> None:
    budget = MemoryBudget(100)
    with pytest.raises(RuntimeError), budget.reserve(100):
        raise RuntimeError
    with budget.reserve(100):
        pass


def test_more_than_the_total_is_a_bug_and_not_a_deadlock() -> None:
    with (
        pytest.raises(ValueError, match="cannot reserve 101 bytes of 100"),
        MemoryBudget(100).reserve(101),
    ):
        pass
