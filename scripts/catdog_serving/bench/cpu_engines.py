"""The engines for CPUs against each other: the same network, pixels to logits and maps."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from rich.table import Table

from catdog.cpu import usable_cores
from catdog.engines import Engine, load_engine
from catdog.engines.placement import fastest_engine, has_openvino
from catdog.model_info import ENGINES, ModelInfo
from catdog_serving.bench.interleave import Benchmark, Measurement, run_rounds, timed_calls

BATCHES = (1, 8)

_ROUNDS = 5
_SECONDS = 0.5
# Another engine than `auto`'s is worth a setting only above that.
_WORTH = 1.03


def cpu_engines(model_dir: Path) -> dict[str, Engine]:
    """Load an archive's network by each engine for CPUs that this machine has.

    Those that do not compute in the archive's precision are left out, and of one for GPUs all.
    """
    info = ModelInfo.read(model_dir)
    names = [name for name, runtime in ENGINES.items() if runtime == "onnx" == info.runtime]
    if not has_openvino():
        names = [name for name in names if name != "openvino"]
    loaded = {name: load_engine(model_dir, info, "cpu", usable_cores(), name) for name in names}
    return {name: one for name, one in loaded.items() if one.precision == info.precision}


def engine_benchmarks(engines: Mapping[str, Engine], seconds: float) -> dict[str, Benchmark]:
    """A benchmark for each engine and each of `BATCHES`, by names such as openvino_b8."""
    generator = np.random.default_rng(0)
    images = list(generator.integers(0, 256, (max(BATCHES), 3, 224, 224), dtype=np.uint8))
    return {
        f"{name}_b{batch}": partial(timed_calls, engine.run, images, batch, seconds)
        for batch in BATCHES
        for name, engine in engines.items()
    }


def auto_over_best(rates: Mapping[str, Measurement], auto: str) -> Measurement | None:
    """What `auto` reaches of the best engine, for the batch size where that is least.

    Args:
        rates: Images per second by names such as openvino_b8.
        auto: The engine that it takes.

    Returns:
        None if there is no other engine.
    """
    found = []
    for batch in BATCHES:
        others = {name: rate for name, rate in rates.items() if name.endswith(f"_b{batch}")}
        if len(others) > 1:
            best = max(others.values(), key=lambda rate: rate.median)
            found.append(others[f"{auto}_b{batch}"].over(best))
    return min(found, key=lambda ratio: ratio.median, default=None)


@dataclass(frozen=True)
class EngineChoice:
    """What was measured of an archive's engines.

    Attributes:
        precision: What all of them computed in.
        rates: Images per second by names such as openvino_b8.
        auto: The engine that `engine: auto` takes.
        chosen: The fastest in batches, or `auto` where nothing is faster by more than 3 %.
    """

    precision: str
    rates: dict[str, float]
    auto: str
    chosen: str

    @property
    def line(self) -> str:
        """What to do about it."""
        if self.chosen == self.auto:
            return f"engine: {self.auto}, as auto takes; nothing is more than 3 % faster"
        gain = self.rates[f"{self.chosen}_b8"] / self.rates[f"{self.auto}_b8"]
        return (
            f"engine: {self.chosen} is {gain:.2f} times as fast as {self.auto}, which auto takes: "
            f"serve with CATDOG_ENGINE={self.chosen}, or set engine: {self.chosen} in "
            "model-config.yaml and package again; what follows is measured with it"
        )

    def table(self) -> Table:
        """A row for each engine."""
        shown = Table(box=None, caption="images/s, without decoding", caption_justify="left")
        for heading in ("engine", "precision", *(f"batch {batch}" for batch in BATCHES), ""):
            shown.add_column(heading, no_wrap=True)
        for name in dict.fromkeys(name.partition("_")[0] for name in self.rates):
            marks = {"auto": name == self.auto, "chosen": name == self.chosen}
            rates = (f"{self.rates[f'{name}_b{batch}']:.2f}" for batch in BATCHES)
            mark = ", ".join(mark for mark, holds in marks.items() if holds)
            shown.add_row(name, self.precision, *rates, mark)
        return shown


def choose_engine(model_dir: Path) -> EngineChoice | None:
    """Measure an archive's engines on this machine; None if there is no choice."""
    engines = cpu_engines(model_dir)
    if len(engines) < 2:
        return None
    info = ModelInfo.read(model_dir)
    found = run_rounds(engine_benchmarks(engines, _SECONDS), _ROUNDS)
    rates = {name: quantities["images_per_s"].median for name, quantities in found.items()}
    auto = fastest_engine(info)
    best = max(engines, key=lambda name: rates[f"{name}_b8"])
    chosen = best if rates[f"{best}_b8"] > _WORTH * rates[f"{auto}_b8"] else auto
    return EngineChoice(info.precision, rates, auto, chosen)
