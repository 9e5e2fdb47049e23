"""How much memory is left, in a container as well."""

from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")


def available_bytes() -> int:
    """What processes of this machine, or of this container, can still take.

    A container's limit is found with control groups version 2 (Linux, cgroup-v2.rst, "memory.max").
    Cached files count as available, as the kernel gives them up first.
    """
    available: int = psutil.virtual_memory().available
    try:
        limit = int((_CGROUP / "memory.max").read_text())
        used = int((_CGROUP / "memory.current").read_text())
        statistics = (_CGROUP / "memory.stat").read_text().splitlines()
        cached = int(dict(line.split() for line in statistics)["inactive_file"])
    except (OSError, ValueError, KeyError):  # no such control group, or "max"
        return available
    return max(0, min(available, limit - used + cached))
