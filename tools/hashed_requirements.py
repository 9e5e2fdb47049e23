"""Write requirements/: what the image installs, each file with its hashes; `make requirements`.

    python tools/hashed_requirements.py UV TORCH_INDEX

UV is the program that resolves, within requirements.lock. serve-cuda.txt is everything;
serve-cpu.txt is that without CUDA, torch and torchvision, whose CPU wheels torch-cpu.txt names, as
they are on an index of their own. Where that index cannot be reached, torch-cpu.txt has versions
without hashes, and says so.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "requirements"
EXTRAS = ("serve", "embedded", "heic")  # the image's
_TORCH = ("torch", "torchvision")
_CUDA = re.compile(r"(nvidia|cuda)-|triton==")
_NO_HASHES = (
    "# Without hashes: PyTorch's index of CPU wheels could not be reached where this was made.\n"
    "# `make requirements` writes them where it can be; pip checks them from then on.\n"
)


def without_cuda(requirements: str) -> str:
    """Leave out CUDA and torch: each requirement is a line, with its hashes in lines below it."""
    blocks = re.split(r"^(?=\S)", requirements, flags=re.MULTILINE)
    torch = tuple(f"{name}==" for name in _TORCH)
    return "".join(b for b in blocks if not b.startswith(torch) and not _CUDA.match(b))


def compile_hashes(uv: str, *arguments: str, requirements: str = "") -> str:
    """The requirements that uv resolves, with hashes.

    Raises:
        subprocess.CalledProcessError: If it cannot.
    """
    command = (uv, "pip", "compile", "--quiet", "--generate-hashes", "--universal", "--no-header")
    fixed = ("--no-annotate", "--python-version", "3.11", "-c", "requirements.lock")
    return subprocess.run(
        [*command, *fixed, *arguments],
        input=requirements,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


def cpu_torch(uv: str, index: str) -> str:
    """torch-cpu.txt: the lock's versions, with the hashes of that index if it can be reached."""
    lock = (ROOT / "requirements.lock").read_text()
    pinned = "".join(f"{line}\n" for line in lock.splitlines() if line.split("==")[0] in _TORCH)
    try:
        return compile_hashes(uv, "--no-deps", "--default-index", index, "-", requirements=pinned)
    except subprocess.CalledProcessError:
        print(f"NOTICE: no hashes of CPU wheels: {index} cannot be reached", file=sys.stderr)
        return _NO_HASHES + pinned


def main(uv: str, index: str) -> None:
    extras = [argument for extra in EXTRAS for argument in ("--extra", extra)]
    everything = compile_hashes(uv, "pyproject.toml", *extras)
    (FOLDER / "serve-cuda.txt").write_text(everything)
    (FOLDER / "serve-cpu.txt").write_text(without_cuda(everything))
    (FOLDER / "torch-cpu.txt").write_text(cpu_torch(uv, index))


if __name__ == "__main__":
    main(*sys.argv[1:])
