import os
from pathlib import Path

import pytest

from catdog import cpu
from catdog.cpu import threads_per_worker, usable_cores
from tests.support.control_groups import ControlGroups


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Make this look like another machine: CPUs, hardware threads per core, a quota."""

    def make(cpus: int, threads_per_core: int = 1, quota: str = "max 100000") -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cpus)))
        for number in range(cpus):
            first = number - number % threads_per_core
            path = tmp_path / f"cpu{number}" / "topology" / "thread_siblings_list"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(",".join(str(first + n) for n in range(threads_per_core)))
        monkeypatch.setattr(cpu, "_TOPOLOGY", tmp_path)
        groups = ControlGroups(tmp_path, monkeypatch)
        groups.process("0::/system.slice/catdog.service")
        groups.put("system.slice/cpu.max", quota)

    return make


@pytest.mark.parametrize("count", [1, 2, 4, 16, 64])
@pytest.mark.parametrize("workers", [1, 2, 3, 4, 8, 64])
def test_workers_together_never_have_more_threads_than_cores(machine, count, workers) -> None:  # type: ignore[no-untyped-def]
    machine(count)
    threads = threads_per_worker(None, workers)
    assert threads >= 1
    assert threads * workers <= max(count, workers)
    if workers == 1:
        assert threads == count


def test_hardware_threads_of_one_core_count_once(machine) -> None:  # type: ignore[no-untyped-def]
    machine(64, threads_per_core=2)
    assert usable_cores() == 32


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("200000 100000", 2), ("150000 100000", 1), ("50000 100000", 1), ("max 100000", 64)],
)
def test_a_containers_quota_counts(machine, quota: str, expected: int) -> None:  # type: ignore[no-untyped-def]
    machine(64, quota=quota)
    assert usable_cores() == expected


def test_without_topology_and_control_groups_the_affinity_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5})
    monkeypatch.setattr(cpu, "_TOPOLOGY", tmp_path)
    ControlGroups(tmp_path, monkeypatch)
    assert usable_cores() == 3


def test_a_number_in_the_settings_wins() -> None:
    assert threads_per_worker(5, workers=8) == 5
