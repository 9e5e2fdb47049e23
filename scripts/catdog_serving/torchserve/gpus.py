"""The GPUs that a server may use, and how many workers each of them gets."""

import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields

MOST_WORKERS_PER_GPU = 8
# About what one worker takes of a GPU: weights, CUDA's own, and the graphs of its batches. An
# H200 showed 1.4 GB for fp16 with batches up to 64, and fp32 with 128 reserved 4.1.
WORKER_GPU_BYTES = 4_000_000_000
# A worker decodes on its own threads while the GPU computes for another one. On 16 cores and an
# H200, 8 workers served 1.2 times as much as 4 (docs/performance.md).
_CORES_PER_WORKER = 2
_VERSIONS = 2  # in memory during a deploy or a scale-down

_TIMEOUT_S = 10.0
_QUERY = "index,uuid,memory.total,memory.used,utilization.gpu"


@dataclass(frozen=True)
class Gpu:
    """One GPU as nvidia-smi has it; None for what it does not say, as of a part of a GPU (MIG).

    Attributes:
        index: nvidia-smi's number; the name under which CUDA sees a part of a GPU.
        uuid: Its name on every machine.
        memory_total_bytes: All of its memory.
        memory_used_bytes: By every process.
        utilisation_percent: Of the last moments in which anything computed.
    """

    index: str
    uuid: str
    memory_total_bytes: int | None = None
    memory_used_bytes: int | None = None
    utilisation_percent: int | None = None


def visible_gpus(named: str | None, timeout_s: float = _TIMEOUT_S) -> list[Gpu] | None:
    """In CUDA's order, cuda:0 first; None if there is an nvidia-smi, and it fails or hangs.

    Args:
        named: CUDA_VISIBLE_DEVICES of who uses them, None if it is not set. It is read as CUDA
            does (CUDA C Programming Guide, "CUDA Environment Variables"): numbers or UUIDs, which
            may be cut short; what comes after one that does not exist, such as -1, is not
            visible; one device twice makes none visible.
        timeout_s: How long nvidia-smi may take.
    """
    if named in ("", "-1"):  # how one hides them all
        return []
    listed = _listed(timeout_s)
    if named is None or listed is None:
        return listed
    found: list[Gpu] = []
    for name in (part.strip() for part in named.split(",")):
        if name.startswith("MIG-") and listed:  # a part of a GPU; CUDA uses one of them
            return found or [Gpu(name, name)]
        at = [
            gpu
            for gpu in listed
            if name == gpu.index or (name.startswith("GPU-") and gpu.uuid.startswith(name))
        ]
        if len(at) != 1:
            break
        if at[0] in found:
            return []
        found += at
    return found


def choose_workers_per_gpu(gpus: Sequence[Gpu], cores: int) -> int:
    """One worker for every 2 cores of a GPU's share, as far as its memory reaches; 1 to 8.

    Args:
        gpus: To be used.
        cores: That all their workers share.
    """
    by_cores = cores // max(1, len(gpus)) // _CORES_PER_WORKER
    return max(1, min(by_cores, most_workers_per_gpu(gpus)))


def most_workers_per_gpu(gpus: Sequence[Gpu]) -> int:
    """As many as fit into the smallest GPU, 1 to 8; 1 where its memory is not known."""
    smallest = min((gpu.memory_total_bytes or 0 for gpu in gpus), default=0)
    return max(1, min(smallest // (_VERSIONS * WORKER_GPU_BYTES), MOST_WORKERS_PER_GPU))


def _listed(timeout_s: float) -> list[Gpu] | None:
    """Every GPU of the machine; None if it is not known."""
    program = shutil.which("nvidia-smi")
    said = _ask(program, timeout_s) if program else ""
    if said is None:
        return None
    cells = [[cell.strip() for cell in line.split(",")] for line in said.splitlines()]
    return [_gpu(*row) for row in cells if row[0].isdecimal() and len(row) == len(fields(Gpu))]


def _ask(program: str, timeout_s: float) -> str | None:
    """What nvidia-smi says of all GPUs; None if it fails or takes too long."""
    command = [program, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"]
    try:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
    except OSError:
        return None
    try:
        said, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        if process.stdout:
            process.stdout.close()
        with suppress(subprocess.TimeoutExpired):  # stuck in the driver, it outlives the kill
            process.wait(1)
        return None
    return said if process.returncode == 0 else None


def _gpu(index: str, uuid: str, total_mib: str, used_mib: str, utilisation: str) -> Gpu:
    def number(cell: str) -> int | None:
        return int(cell) if cell.isdecimal() else None  # else "[N/A]" and the like

    total, used = (None if (n := number(c)) is None else n << 20 for c in (total_mib, used_mib))
    return Gpu(index, uuid, total, used, number(utilisation))
