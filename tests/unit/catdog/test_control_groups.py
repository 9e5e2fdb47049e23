"""Limits of nested control groups, of both versions, as systemd, Docker and Kubernetes set them."""

from pathlib import Path

import pytest

from catdog.control_groups import cpu_quota, memory_left, oom_kills, read_oom_kills
from tests.support.control_groups import ControlGroups


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ControlGroups:
    return ControlGroups(tmp_path, monkeypatch)


SERVICE = "system.slice/catdog.service"
V1 = ("4:memory:/a/b", "3:cpu,cpuacct:/a/b", "1:name=systemd:/x", "0::/x")

CPU = {
    "none": ([], {}, None),
    "systemd's CPUQuota": (["0::/" + SERVICE], {f"{SERVICE}/cpu.max": "150000 100000"}, 1.5),
    "of the slice above": (
        ["0::/" + SERVICE],
        {f"{SERVICE}/cpu.max": "max 100000", "system.slice/cpu.max": "50000 100000"},
        0.5,
    ),
    "the lowest of all": (
        ["0::/" + SERVICE],
        {f"{SERVICE}/cpu.max": "400000 100000", "system.slice/cpu.max": "200000 100000"},
        2,
    ),
    "a container's own, at the top": (["0::/"], {"cpu.max": "200000 100000"}, 2),
    "a container without a namespace": (
        ["0::/docker/0123"],
        {"cpu.max": "300000 100000"},
        3,
    ),
    "from outside of the namespace": (["0::/../x"], {"cpu.max": "300000 100000"}, 3),
    "version 1": (
        [*V1],
        {"cpu,cpuacct/a/cpu.cfs_quota_us": "150000", "cpu,cpuacct/a/cpu.cfs_period_us": "100000"},
        1.5,
    ),
    "version 1, mounted by one name": (
        [*V1],
        {
            "cpu/a/b/cpu.cfs_quota_us": "-1",
            "cpu/a/b/cpu.cfs_period_us": "100000",
            "cpu/cpu.cfs_quota_us": "250000",
            "cpu/cpu.cfs_period_us": "100000",
        },
        2.5,
    ),
    "hybrid": ([*V1], {"unified/x/cpu.max": "120000 100000"}, 1.2),
    "no quota in any": (["0::/" + SERVICE], {f"{SERVICE}/cpu.max": "max 100000"}, None),
    "nonsense": (["0::/x", "", "1"], {"x/cpu.max": "much"}, None),
}


@pytest.mark.parametrize("name", CPU)
def test_the_lowest_quota_of_all_groups_counts(groups: ControlGroups, name: str) -> None:
    lines, files, expected = CPU[name]
    groups.process(*lines)
    for path, content in files.items():
        groups.put(path, content)
    assert cpu_quota() == expected


def test_a_process_that_is_gone_has_the_groups_at_the_top(groups: ControlGroups) -> None:
    groups.put("cpu.max", "200000 100000")
    assert cpu_quota(pid=4711) == 2


def test_the_least_memory_of_all_groups_counts(groups: ControlGroups) -> None:
    groups.process("0::/" + SERVICE, pid=7)
    assert memory_left(7) is None
    groups.put(f"{SERVICE}/memory.max", "max")
    groups.put(f"{SERVICE}/memory.current", 1000)
    assert memory_left(7) is None
    groups.put("system.slice/memory.max", 3000)
    groups.put("system.slice/memory.current", 2500)
    assert memory_left(7) == 500
    groups.put("system.slice/memory.stat", "anon 2000\ninactive_file 400")
    assert memory_left(7) == 900
    groups.put("system.slice/memory.current", 3500)
    assert memory_left(7) == 0
    assert memory_left("self") is None  # of another group than the server's


def test_version_1_has_other_names(groups: ControlGroups) -> None:
    groups.process(*V1)
    groups.put("memory/a/b/memory.limit_in_bytes", 2**63 - 4096)  # none
    groups.put("memory/a/b/memory.usage_in_bytes", 10)
    groups.put("memory/a/memory.limit_in_bytes", 3000)
    groups.put("memory/a/memory.usage_in_bytes", 2500)
    groups.put("memory/a/memory.stat", "inactive_file 1\ntotal_inactive_file 400")
    assert memory_left() == 900


@pytest.mark.parametrize(
    ("lines", "file"),
    [
        (["0::/" + SERVICE], f"{SERVICE}/memory.events"),
        (["0::/" + SERVICE], "memory.events"),
        ([*V1], "memory/a/b/memory.oom_control"),
    ],
)
def test_kills_for_memory_are_counted_in_the_nearest_group(
    groups: ControlGroups, lines: list[str], file: str
) -> None:
    assert oom_kills() is None
    groups.process(*lines)
    groups.machine_kills(7)
    found = oom_kills()
    assert found is not None
    assert (found[0].name, found[1]) == ("vmstat", 7)
    groups.put(file, "low 0\noom 9\noom_kill 2\noom_group_kill 0")
    assert oom_kills() == (groups.mount / file, 2)
    groups.put(file, "oom_kill 3")
    assert read_oom_kills(groups.mount / file) == 3
    (groups.mount / file).unlink()
    assert read_oom_kills(groups.mount / file) is None
