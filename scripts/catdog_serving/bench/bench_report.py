"""What `catdog bench` found: ratios, the JSON, the table, the chart."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

import catdog
from catdog_serving.bench.cpu_engines import auto_over_best
from catdog_serving.bench.interleave import Measurement, RoundResults
from catdog_serving.folder.own_outputs import write_own

# Quantities that the table shows, with their heading; the JSON has all.
_COLUMNS = {"images_per_s": "images/s", "p50_ms": "p50 ms", "p99_ms": "p99 ms"}
_COLOURS = {"fp32": "#4c78a8", "bf16": "#54a24b", "int8": "#f58518"}
_OTHER = "#8c8c8c"


@dataclass(frozen=True)
class BenchResult:
    """What a run saw.

    Attributes:
        conditions: Machine, versions, date, settings: all but the measurements.
        measurements: By benchmark and quantity.
        multiply_adds: Of the network, for one image.
    """

    conditions: dict[str, Any]
    measurements: RoundResults
    multiply_adds: int

    @property
    def precisions(self) -> tuple[str, ...]:
        return tuple(self.conditions["settings"]["precisions"])


# ---- what is compared ----


def ratios(result: BenchResult) -> dict[str, Measurement]:
    """What is compared, round by round: each ratio's name says what is over what."""
    measurements = result.measurements
    rate = {name: found.get("images_per_s") for name, found in measurements.items()}
    found: dict[str, Measurement] = {}
    for precision in result.precisions:
        in_process, served = f"inprocess_{precision}_b8", f"served_{precision}_c16"
        folder = f"folder_local_{precision}"
        for name, above, below in (
            (f"{in_process}_over_reference", in_process, "reference"),
            (f"{served}_over_inprocess", served, in_process),
            (f"{served}_over_reference", served, "reference"),
            (f"{folder}_over_reference", folder, "folder_reference"),
        ):
            above_rate, below_rate = rate.get(above), rate.get(below)
            if above_rate and below_rate:
                found[name] = above_rate.over(below_rate)
        # The share of float32's matrix-product peak that is reached, decoding included.
        needed = measurements[in_process]["images_per_s"].times(2 * result.multiply_adds / 1e9)
        found[f"{in_process}_over_matmul_peak"] = needed.over(measurements["matmul"]["gflop_per_s"])
        # p99 at 80 % of capacity, counted in the time of one full batch in process.
        batch_ms = measurements[in_process]["p50_ms"].median
        p99_ms = measurements[f"open_{precision}_80"]["p99_ms"]
        found[f"open_{precision}_80_p99_over_full_batch"] = p99_ms.times(1 / batch_ms)
    least = min(_auto_over_best(result), key=lambda ratio: ratio.median, default=None)
    return found | ({"auto_over_best_engine": least} if least else {})


def _auto_over_best(result: BenchResult) -> Iterator[Measurement]:
    """For each precision, what the engine that `auto` takes reaches of the best one."""
    for precision in result.precisions:
        prefix = f"engine_{precision}_"
        rates = {
            name.removeprefix(prefix): found["images_per_s"]
            for name, found in result.measurements.items()
            if name.startswith(prefix)
        }
        ratio = auto_over_best(rates, result.conditions["settings"]["engines"][precision])
        if ratio:
            yield ratio


def not_measured(result: BenchResult) -> dict[str, str]:
    """Ratios that this machine cannot have, and why."""
    reasons = {}
    if "bf16" not in result.precisions:
        for name in ("inprocess_bf16_b8_over_reference", "served_bf16_c16_over_inprocess"):
            reasons[name] = "no engine computes bf16 on this machine's processor"
    if "auto_over_best_engine" not in ratios(result):
        reasons["auto_over_best_engine"] = "there is one engine on this machine"
    return reasons


def overheads_ms(result: BenchResult) -> dict[str, Measurement]:
    """What a server adds to a lone image: p50 of one request at a time - p50 in process."""
    found = result.measurements
    return {
        f"served_{precision}_c1_p50_over_inprocess": found[f"served_{precision}_c1"][
            "p50_ms"
        ].minus(found[f"inprocess_{precision}_b1"]["p50_ms"])
        for precision in result.precisions
    }


def to_dict(result: BenchResult) -> dict[str, Any]:
    """Everything, for JSON. `ratios` and `overheads_ms` are medians; `spreads` has their ends."""
    figures = {
        name: {quantity: measurement.to_dict() for quantity, measurement in found.items()}
        for name, found in result.measurements.items()
    }
    compared = {name: measurement.to_dict() for name, measurement in ratios(result).items()}
    overheads = {name: measurement.to_dict() for name, measurement in overheads_ms(result).items()}
    return {
        **result.conditions,
        "multiply_adds": result.multiply_adds,
        "figures": figures,
        "ratios": {name: figure["median"] for name, figure in compared.items()},
        "not_measured": not_measured(result),
        "overheads_ms": {name: figure["median"] for name, figure in overheads.items()},
        "spreads": {
            name: [figure["low"], figure["high"]] for name, figure in (compared | overheads).items()
        },
        "answered_503": _total(result, "answered_503"),
        "not_200": _total(result, "not_200"),
    }


def _total(result: BenchResult, quantity: str) -> int:
    found = (measured.get(quantity) for measured in result.measurements.values())
    return sum(round(sum(one.values)) for one in found if one)


def to_json_line(report: dict[str, Any]) -> str:
    return json.dumps(report, separators=(",", ":"), allow_nan=False)


# ---- for people ----


def table(report: dict[str, Any]) -> Table:
    """Medians with their lowest and highest round; `report` is from `to_dict`."""
    shown = Table(
        title=f"{report['settings']['network']} on {_cores(report)}",
        title_justify="left",
        box=None,
        caption="median, lowest-highest round",
        caption_justify="left",
    )
    shown.add_column("what", no_wrap=True)
    for heading in _COLUMNS.values():
        shown.add_column(heading, justify="right", no_wrap=True)
    for name, quantities in report["figures"].items():
        if "images_per_s" in quantities:
            shown.add_row(name, *(_cell(quantities.get(quantity)) for quantity in _COLUMNS))
    return shown


def _cores(report: dict[str, Any]) -> str:
    return f"{report['machine']['cores']} cores of {report['machine']['cpu']}"


def _cell(figure: dict[str, Any] | None) -> str:
    if figure is None:
        return ""
    return f"{_short(figure['median'])} [dim]{_short(figure['low'])}-{_short(figure['high'])}[/]"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def summary_lines(report: dict[str, Any]) -> list[str]:
    """The ratios and overheads, one a line, with their spread; then the starts."""
    units = dict.fromkeys(report["ratios"], "") | dict.fromkeys(report["overheads_ms"], " ms")
    lines = []
    for name, median in (report["ratios"] | report["overheads_ms"]).items():
        low, high = report["spreads"][name]
        lines.append(f"{name}  {median:g}{units[name]}  ({low:g} to {high:g})")
    for name, found in report["figures"].items():
        if "ready_s" in found:
            ready_s, gb = found["ready_s"]["median"], found["worker_gb_after_work"]["median"]
            lines.append(f"{name}  READY after {ready_s:g} s, {gb:g} GB in the worker after work")
    lines += [
        f"{name}  not measured: {why}" for name, why in report.get("not_measured", {}).items()
    ]
    return [*lines, f"answers that were not 200: {report['not_200']}"]


def write_chart(report: dict[str, Any], path: Path) -> None:
    """Draw images per second, and waiting times over the load; needs matplotlib.

    Args:
        report: From `to_dict`.
        path: The PNG to write.

    Raises:
        NotReadyError: If the file cannot be written.
    """
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(11, 6), layout="constrained")
    rates, waits = drawing.subplots(1, 2, width_ratios=(3, 2))
    _draw_rates(rates, report["figures"])
    _draw_waits(waits, report["figures"])
    network, date = report["settings"]["network"], report["date"][:10]
    drawing.suptitle(f"{network}, {_cores(report)}, {date}")
    buffer = io.BytesIO()
    made_by = {"Software": f"catdog {catdog.__version__}"}
    drawing.savefig(buffer, format="png", dpi=110, metadata=made_by)
    write_own(path, [buffer.getvalue()])


def _draw_rates(axes: Any, figures: dict[str, Any]) -> None:
    """Bars with the lowest and highest round."""
    names = [name for name in figures if name.startswith(("reference", "inprocess_", "served_"))]
    for place, name in enumerate(reversed(names)):
        rate = figures[name]["images_per_s"]
        spread = [[rate["median"] - rate["low"]], [rate["high"] - rate["median"]]]
        colour = next((colour for key, colour in _COLOURS.items() if f"_{key}_" in name), _OTHER)
        axes.barh(place, rate["median"], xerr=spread, color=colour, capsize=3)
    axes.set_yticks(range(len(names)), list(reversed(names)))
    axes.set_xlabel("images per second, decoding included (median; lowest and highest round)")
    axes.grid(axis="x", alpha=0.3)


def _draw_waits(axes: Any, figures: dict[str, Any]) -> None:
    """p50 and p99 over the load, one pair of lines for each precision."""
    precisions = [precision for precision in _COLOURS if f"open_{precision}_80" in figures]
    for precision in precisions:
        prefix = f"open_{precision}_"
        loads = sorted(int(name.removeprefix(prefix)) for name in figures if prefix in name)
        for quantity, style in (("p50_ms", "-"), ("p99_ms", "--")):
            waits = [figures[f"{prefix}{load}"][quantity]["median"] for load in loads]
            label = f"{precision} {quantity.removesuffix('_ms')}"
            axes.plot(loads, waits, style, marker="o", color=_COLOURS[precision], label=label)
    axes.set_xlabel("load in % of capacity (Poisson arrivals)")
    axes.set_ylabel("ms from due to answered")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
