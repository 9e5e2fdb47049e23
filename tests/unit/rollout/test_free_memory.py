"""What processes can still take, of a machine and of a container."""

from pathlib import Path

import pytest

from catdog_serving.rollout import free_memory as module
from catdog_serving.rollout.free_memory import available_bytes


def test_a_containers_memory_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CGROUP", tmp_path)
    assert available_bytes() > 3000  # the machine's
    (tmp_path / "memory.max").write_text("3000\n")
    (tmp_path / "memory.stat").write_text("anon 2000\ninactive_file 400\n")
    for current, expected in ((2500, 900), (3500, 0)):
        (tmp_path / "memory.current").write_text(f"{current}\n")
        assert available_bytes() == expected
    (tmp_path / "memory.max").write_text("max\n")
    assert available_bytes() > 3000
