"""A stand-in for nvidia-smi: two GPUs of 80 GiB, for machines that have none."""

from pathlib import Path

import pytest

# catdog's own question, and the two that TorchServe asks.
TWO_GPUS = """
case "$*" in
*--query-gpu=index,uuid*) printf '0, GPU-aaaa, 81920, 20480, 35\\n1, GPU-bbbb, 81920, 1024, 0\\n' ;;
*--query-gpu=index*) printf 'index\\n0\\n1\\n' ;;
*) echo 'utilization.gpu [%], utilization.memory [%], memory.used [MiB]'
   echo '1 %, 1 %, 10 MiB' ;;
esac
"""


def install_nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, does: str = TWO_GPUS) -> Path:
    """Put it on PATH, and take CUDA's own variable away; gives the script."""
    script = folder / "bin" / "nvidia-smi"
    script.parent.mkdir()
    script.write_text(f"#!/bin/sh\n{does}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return script
