"""A tree of control groups as a machine has it, in a folder of a test's own."""

from pathlib import Path

import pytest

from catdog import control_groups


class ControlGroups:
    """Files of control groups by their path below the mount point, and a process's own groups."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.mount = root / "cgroup"
        self._proc = root / "proc"
        self.mount.mkdir()
        self._proc.mkdir()
        monkeypatch.setattr(control_groups, "_MOUNT", self.mount)
        monkeypatch.setattr(control_groups, "_PROC", self._proc)

    def put(self, name: str, content: object) -> None:
        """A file, such as "system.slice/cpu.max"."""
        path = self.mount / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")

    def process(self, *lines: str, pid: int | str = "self") -> None:
        """What /proc/PID/cgroup has."""
        path = self._proc / str(pid) / "cgroup"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines))

    def machine_kills(self, count: int) -> None:
        """What /proc/vmstat has."""
        (self._proc / "vmstat").write_text(f"nr_free_pages 7\noom_kill {count}\n")
