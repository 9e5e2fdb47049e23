"""Which GPUs this machine has, as TorchServe itself finds them."""

import shutil
import subprocess

_TIMEOUT_S = 10


def gpu_count() -> int:
    """How many GPUs nvidia-smi lists; 0 without it, or if it finds no driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return 0
    result = subprocess.run(
        [program, "--query-gpu=index", "--format=csv"],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if result.returncode != 0:
        return 0
    return sum(line.strip().isdecimal() for line in result.stdout.splitlines())
