"""GPUs are counted as CUDA would see them, on a machine whose nvidia-smi is a stand-in."""

import time
from pathlib import Path

import pytest

from catdog_serving.torchserve import gpus as module
from catdog_serving.torchserve.gpus import visible_gpus
from catdog_serving.torchserve.java import _environment
from catdog_serving.torchserve.run_directory import RunDirectory

TWO = "printf '0, GPU-aaaa-1\\n1, GPU-aabb-2\\n'"


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    script = tmp_path / "nvidia-smi"
    script.write_text(f"#!/bin/sh\n{TWO}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return script


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
def test_what_cuda_would_not_see_is_not_counted(
    monkeypatch: pytest.MonkeyPatch, named: str | None, count: int
) -> None:
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert visible_gpus() == count


@pytest.mark.parametrize(
    "does", ["exec sleep 60", "echo no driver; exit 9", "echo 'No devices were found'", None]
)
def test_without_an_answer_there_is_none(
    nvidia_smi: Path, monkeypatch: pytest.MonkeyPatch, does: str | None
) -> None:
    monkeypatch.setattr(module, "_TIMEOUT_S", 0.5)
    nvidia_smi.unlink() if does is None else nvidia_smi.write_text(f"#!/bin/sh\n{does}\n")
    start = time.monotonic()
    assert visible_gpus() == 0
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("named", ["GPU-aaaa-1", "", "1"])
def test_java_never_sees_the_names_that_it_cannot_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    given = _environment(RunDirectory(tmp_path))
    assert "CUDA_VISIBLE_DEVICES" not in given
    assert given["CATDOG_VISIBLE_DEVICES"] == named
