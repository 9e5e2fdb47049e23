"""What the control groups of a process leave it: CPU time, memory; and who was killed for memory.

A limit may stand in the process's own group or in any above it, such as systemd's MemoryMax of
a slice or a pod's limit. Version 2 is read as Linux' cgroup-v2.rst describes it, version 1 as
cgroup-v1/memory.rst and scheduler/sched-bwc.rst do. In a container the groups of the host are not
to be seen: what is left then is the container's own at the top.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_MOUNT = Path("/sys/fs/cgroup")
_PROC = Path("/proc")
_MEMORY_FILES = (  # of version 2 and 1: the limit, what is used, and of that what caches files
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
_NO_LIMIT = 2**62  # version 1 says so with a number that no machine has


def cpu_quota(pid: int | str = "self") -> float | None:
    """The lowest CPU quota in cores; None if there is none."""
    found = []
    for folder in _folders("cpu", pid):
        quota, period = _numbers(folder / "cpu.max", 2) or (
            _number(folder / "cpu.cfs_quota_us"),
            _number(folder / "cpu.cfs_period_us"),
        )
        if quota and period and quota > 0:
            found.append(quota / period)
    return min(found, default=None)


def memory_left(pid: int | str = "self") -> int | None:
    """Bytes that the groups of a process can still take; None if nothing limits them.

    Cached files count as free, as the kernel gives them up first.
    """
    found = []
    for folder in _folders("memory", pid):
        for most, now, files in _MEMORY_FILES:
            limit, used = _number(folder / most), _number(folder / now)
            if limit is not None and used is not None and limit < _NO_LIMIT:
                cached = _entry(folder / "memory.stat", files) or 0
                found.append(max(0, limit - used + cached))
    return min(found, default=None)


def oom_kills(pid: int | str = "self") -> tuple[Path, int] | None:
    """The file that counts processes of a group that the kernel killed for memory, and its count.

    That of the process's own group, or of the next above; of the whole machine where there
    is none. None if the kernel does not count them.
    """
    for folder in _folders("memory", pid):
        for name in ("memory.events", "memory.oom_control"):
            if (count := read_oom_kills(folder / name)) is not None:
                return folder / name, count
    machine = _PROC / "vmstat"
    count = read_oom_kills(machine)
    return None if count is None else (machine, count)


def read_oom_kills(counter: Path) -> int | None:
    """The count in a file that `oom_kills` gave; None if it is gone, with its group."""
    return _entry(counter, "oom_kill")


def _folders(controller: str, pid: int | str) -> Iterator[Path]:
    """The groups of a process that can be seen here, its own first (cgroups(7))."""
    try:
        lines = (_PROC / str(pid) / "cgroup").read_text().splitlines()
    except OSError:
        lines = ["0::/", f"1:{controller}:/"]  # a process that just ended
    for line in lines:
        _, _, rest = line.partition(":")
        names, _, place = rest.partition(":")
        if names and controller not in names.split(","):
            continue
        bases = (names, controller) if names else ("", "unified")
        for base in dict.fromkeys(bases):
            inside = [part for part in PurePosixPath(place).parts[1:] if part != ".."]
            for length in range(len(inside), -1, -1):
                folder = Path(_MOUNT, base, *inside[:length])
                if folder.is_dir():
                    yield folder


def _number(path: Path) -> int | None:
    found = _numbers(path, 1)
    return found[0] if found else None


def _numbers(path: Path, count: int) -> list[int] | None:
    """The numbers in a file; None if it is not there, or says "max"."""
    try:
        found = [int(word) for word in path.read_text().split()]
    except (OSError, ValueError):
        return None
    return found if len(found) == count else None


def _entry(path: Path, name: str) -> int | None:
    """A number behind its name, a line each."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
        return next((int(line[1]) for line in lines if line[:1] == [name]), None)
    except (OSError, ValueError, IndexError):
        return None
