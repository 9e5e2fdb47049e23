"""The GPUs that a server of this shell may use: what nvidia-smi lists and CUDA may see."""

import os
import shutil
import subprocess

_TIMEOUT_S = 10


def visible_gpus() -> int:
    """How many there are; 0 without nvidia-smi, or if it has no driver or does not answer.

    CUDA_VISIBLE_DEVICES is read as CUDA does (CUDA C Programming Guide, "CUDA Environment
    Variables"): numbers or UUIDs, which may be cut short; what comes after one that does not
    exist, such as -1, is not visible; one device twice makes none visible.
    """
    listed = _listed()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return len(listed)
    found: list[str] = []
    for name in (part.strip() for part in named.split(",")):
        if name.startswith("MIG-"):  # a part of a GPU; CUDA uses one of them
            return max(1, len(found)) if listed else 0
        at = [
            index
            for index, uuid in listed
            if name == index or (name.startswith("GPU-") and uuid.startswith(name))
        ]
        if len(at) != 1:
            break
        if at[0] in found:
            return 0
        found += at
    return len(found)


def _listed() -> list[tuple[str, str]]:
    """Index and UUID of every GPU of the machine."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        result = subprocess.run(
            [program, "--query-gpu=index,uuid", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):  # no driver, or one that hangs
        return []
    rows = (line.partition(",") for line in result.stdout.splitlines())
    return [(index.strip(), uuid.strip()) for index, _, uuid in rows if index.strip().isdecimal()]
