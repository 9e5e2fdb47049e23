"""What processes can still take, of a machine and of the server's control groups."""

import os
from pathlib import Path

import pytest

from catdog_serving.errors import NotReadyError
from catdog_serving.rollout.free_memory import available_bytes, check_memory
from catdog_serving.torchserve.management import ModelStatus, WorkerStatus
from tests.support.control_groups import ControlGroups


def test_the_memory_of_the_servers_group_counts_and_not_the_shells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = ControlGroups(tmp_path, monkeypatch)
    worker = WorkerStatus("9000", "READY", os.getpid(), gpu=False, memory_bytes=0)
    model = ModelStatus("1.0", True, 8, 1, 60, 120, (worker,), 48, 0)
    assert available_bytes() > 3000  # the machine's
    check_memory(model, more=1)
    groups.process("0::/server", pid=os.getpid())
    groups.put("server/memory.max", 3000)
    groups.put("server/memory.current", 2500)
    assert available_bytes(os.getpid()) == 500
    assert available_bytes() > 3000
    with pytest.raises(
        NotReadyError, match="1 more workers would take .* 0.0 GB of memory is free"
    ):
        check_memory(model, more=1)
