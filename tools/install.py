"""Install catdog into the environment that runs this, a line a step: `make install`.

    .venv/bin/python tools/install.py EXTRAS --torch auto --torch-index URL

EXTRAS are pyproject.toml's, as in serve,embedded. torch comes first, in a step of its own: where
there is no NVIDIA GPU from the index of CPU wheels alone, and nothing else from there, as ordinary
wheels bring gigabytes of CUDA. Standard library only: nothing else is installed yet.
"""

import argparse
import re
import subprocess
import sys
import sysconfig
import time
from collections import deque
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).parents[1]
_TORCH = ("torch", "torchvision")
_SHOWN_MB = 30.0  # a wheel of that size is worth a line
_BAR = 30  # characters
# What pip prints of each package, and when it begins to fetch and to unpack.
_FOUND = re.compile(r"(?:Collecting|Processing) ")
_FETCHED = re.compile(r"\s*Downloading (\S+\.(?:whl|tar\.gz)) \(([\d.]+) (MB|GB)\)")
_UNPACKED = re.compile(r"Installing collected packages: (.+)")


class PipFailed(Exception):
    """Says what pip said last."""


def has_nvidia_gpu() -> bool:
    """Whether the driver's own program lists one; without a driver none can be used."""
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--list-gpus"],  # noqa: S607 (where it lies differs)
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listed.returncode == 0 and "GPU" in listed.stdout


def installed_torch() -> str | None:
    """The version that is here, such as "2.14.1+cpu"."""
    try:
        return version("torch")
    except PackageNotFoundError:
        return None


def install_torch(wanted: str, index: str) -> None:
    """Install torch and torchvision for CPUs, if those are the ones to have.

    Ordinary ones come with all the rest, unless CPU wheels are in their place.

    Args:
        wanted: "cpu", "cuda", or "auto": the kind that is installed, else what the machine has.
        index: Where CPU wheels are.

    Raises:
        PipFailed: If pip cannot install what was asked for by name.
    """
    there = installed_torch()
    is_for_cpus = there is not None and there.endswith("+cpu")
    asked = wanted != "auto"
    if not asked:
        for_cuda = not is_for_cpus if there else has_nvidia_gpu()
        wanted = "cuda" if for_cuda else "cpu"
    again = ("--force-reinstall",) if there and is_for_cpus != (wanted == "cpu") else ()
    if wanted == "cuda":
        if again:
            pip_install("torch for CUDA", "--no-deps", *again, *_TORCH)
        return
    one_index = ("--index-url", index, "--retries", "1", "--timeout", "20")
    try:
        pip_install(f"torch for CPUs, from {index}", "--no-deps", *one_index, *again, *_TORCH)
    except PipFailed:
        if asked:
            raise
        say(
            f"NOTICE: PyTorch's CPU wheels cannot be had from {index}\n"
            "  (`make install TORCH=cpu` shows why). Going on with the ordinary ones, which bring\n"
            "  gigabytes of CUDA that this machine has no use for; it works the same."
        )


def pip_install(what: str, *arguments: str) -> None:
    """One step: a line that says what it is, and lines or a bar that say how far it is.

    Raises:
        PipFailed: If pip fails.
    """
    say(f"installing {what} ...")
    command = ("install", "--progress-bar", "off", "-c", str(ROOT / "requirements.lock"))
    tail: deque[str] = deque(maxlen=15)
    found = 0
    with subprocess.Popen(
        [sys.executable, "-m", "pip", *command, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for line in process.stdout or ():
            tail.append(line)
            if _FOUND.match(line):
                found += 1
                show(f"  {found} packages")
            elif fetched := _FETCHED.match(line):
                _say_large(*fetched.groups())
            elif unpacked := _UNPACKED.match(line):
                _show_unpacking(process, unpacked[1].count(",") + 1)
    show("")
    if process.returncode:
        raise PipFailed("".join(tail).rstrip())


def _say_large(url: str, size: str, unit: str) -> None:
    if float(size) * (1000 if unit == "GB" else 1) >= _SHOWN_MB:
        name, number = unquote(url.rsplit("/", 1)[-1]).split("-")[:2]
        say(f"  downloading {name} {number}, {size} {unit}")


def _show_unpacking(process: "subprocess.Popen[str]", packages: int) -> None:
    """Until pip ends, by the packages that are there: of this it says nothing itself."""
    say(f"  unpacking {packages} {'package' if packages == 1 else 'packages'}")
    site = Path(sysconfig.get_path("purelib"))
    before = len(list(site.glob("*.dist-info")))
    while process.poll() is None:
        done = min(max(0, len(list(site.glob("*.dist-info"))) - before), packages)
        filled = _BAR * done // packages
        show(f"  [{'#' * filled}{'.' * (_BAR - filled)}] {done} of {packages}")
        time.sleep(0.2)


def say(line: str) -> None:
    show("")
    print(line, file=sys.stderr, flush=True)


def show(line: str) -> None:
    """In place of what was shown before, on a terminal alone."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("extras", help="of pyproject.toml, as in serve,embedded")
    parser.add_argument("--torch", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--torch-index", metavar="URL", required=True)
    chosen = parser.parse_args()
    try:
        if "serve" in chosen.extras.split(","):
            install_torch(chosen.torch, chosen.torch_index)
        pip_install(f"catdog with {chosen.extras}", "-e", f".[{chosen.extras}]")
    except PipFailed as error:
        sys.exit(f"{error}\n\nnothing more was installed: pip's reason is above")


if __name__ == "__main__":
    main()
