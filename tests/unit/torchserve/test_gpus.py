"""GPUs are counted as CUDA would see them, on a machine whose nvidia-smi is a stand-in."""

import time
from pathlib import Path

import pytest

from catdog_serving.torchserve.gpus import Gpu, choose_workers_per_gpu, visible_gpus
from catdog_serving.torchserve.java import server_environment
from catdog_serving.torchserve.run_directory import RunDirectory
from tests.support.nvidia_smi import install_nvidia_smi

TWO = "printf '0, GPU-aaaa-1, 81559, 1, 0\\n1, GPU-aabb-2, [N/A], 20000, [N/A]\\n'"


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return install_nvidia_smi(tmp_path, monkeypatch, TWO)


@pytest.mark.usefixtures("nvidia_smi")
@pytest.mark.parametrize(
    ("named", "count"),
    [
        *((None, 2), ("0", 1), ("1,0", 2), (" 0 , 1 ", 2)),
        *(("", 0), ("-1", 0), ("0,-1,1", 1), ("7", 0), ("0,7,1", 1), ("0,0", 0), ("none", 0)),
        *(("GPU-aaaa-1", 1), ("GPU-aaaa", 1), ("GPU-aa", 0), ("GPU-cc", 0), ("GPU-aabb,0", 2)),
        *(("MIG-0123", 1), ("MIG-GPU-aaaa-1/1/0", 1)),
    ],
)
def test_what_cuda_would_not_see_is_not_counted(named: str | None, count: int) -> None:
    assert len(visible_gpus(named) or []) == count


@pytest.mark.usefixtures("nvidia_smi")
def test_they_come_in_cudas_order_with_what_is_known_of_them() -> None:
    assert visible_gpus("1,0") == [
        Gpu("1", "GPU-aabb-2", None, 20000 << 20, None),
        Gpu("0", "GPU-aaaa-1", 81559 << 20, 1 << 20, 0),
    ]


@pytest.mark.parametrize(
    ("gib", "cores", "workers"),
    [
        ([80], 16, 8),
        ([80], 3, 1),  # a worker needs threads to decode on
        *(([80], 200, 8), ([80] * 8, 100, 6), ([80] * 8, 16, 1)),  # all of them share the cores
        *(([24], 64, 3), ([80, 24], 64, 3), ([8], 64, 1), ([4], 64, 1)),  # two versions fit
        *(([None], 64, 1), ([80, None], 64, 1)),
        ([], 64, 1),
    ],
)
def test_workers_follow_cores_and_memory(gib: list[int | None], cores: int, workers: int) -> None:
    gpus = [Gpu("0", "GPU-0", None if size is None else size << 30) for size in gib]
    assert choose_workers_per_gpu(gpus, cores) == workers


@pytest.mark.parametrize(
    ("does", "answer"),
    [
        ("exec sleep 60", None),
        ("echo no driver; exit 9", None),
        ("echo 'No devices were found'", []),
        (None, []),
    ],
)
def test_no_gpu_and_no_answer_are_two_things(
    nvidia_smi: Path, does: str | None, answer: list[Gpu] | None
) -> None:
    nvidia_smi.unlink() if does is None else nvidia_smi.write_text(f"#!/bin/sh\n{does}\n")
    start = time.monotonic()
    assert visible_gpus(None, 0.5) == answer
    assert visible_gpus("0", 0.5) == answer
    assert visible_gpus("-1", 0.5) == []
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("named", ["GPU-aaaa-1", "", "1"])
def test_java_never_sees_the_names_that_it_cannot_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    given = server_environment(RunDirectory(tmp_path))
    assert "CUDA_VISIBLE_DEVICES" not in given
    assert given["CATDOG_VISIBLE_DEVICES"] == named
    assert given["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"  # nvidia-smi's, in which we count
