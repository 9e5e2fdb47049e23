"""What `catdog bench` found: ratios, the table, the JSON."""

import json
from typing import Any

from rich.table import Table

from catdog_serving.bench.bench import BenchResult
from catdog_serving.bench.rounds import Measurement, difference, ratio

# Quantities that the table shows, with their heading; the JSON has all.
_COLUMNS = {"images_per_s": "images/s", "p50_ms": "p50 ms", "p99_ms": "p99 ms"}


def ratios(result: BenchResult) -> dict[str, Measurement]:
    """What is compared, round by round: each ratio's name says what is over what."""
    measurements = result.measurements
    rate = {name: found.get("images_per_s") for name, found in measurements.items()}
    found: dict[str, Measurement] = {}

    def add(name: str, above: str, below: str) -> None:
        above_rate, below_rate = rate.get(above), rate.get(below)
        if above_rate and below_rate:
            found[name] = ratio(above_rate, below_rate)

    for precision in result.precisions:
        in_process, served = f"inprocess_{precision}_b8", f"served_{precision}_c16"
        add(f"{in_process}_over_reference", in_process, "reference")
        add(f"{served}_over_inprocess", served, in_process)
        add(f"{served}_over_reference", served, "reference")
        add(
            f"folder_local_{precision}_over_reference",
            f"folder_local_{precision}",
            "folder_reference",
        )
        found[f"{in_process}_over_matmul_peak"] = _fraction_of_peak(result, in_process)
        found[f"open_{precision}_80_p99_over_full_batch"] = _waits_in_batches(result, precision)
    return found


def overheads_ms(result: BenchResult) -> dict[str, Measurement]:
    """What a server adds to a lone image: p50 of one request at a time - p50 in process."""
    return {
        f"served_{precision}_c1_p50_over_inprocess": difference(
            result.measurements[f"served_{precision}_c1"]["p50_ms"],
            result.measurements[f"inprocess_{precision}_b1"]["p50_ms"],
        )
        for precision in result.precisions
    }


def to_dict(result: BenchResult) -> dict[str, Any]:
    """Everything, for JSON. `ratios` and `overheads_ms` are medians; `spreads` has their ends."""
    compared, overheads = ratios(result), overheads_ms(result)
    return {
        **result.conditions,
        "multiply_adds": result.multiply_adds,
        "figures": {
            name: {quantity: measurement.to_dict() for quantity, measurement in found.items()}
            for name, found in result.measurements.items()
        },
        "ratios": {name: measurement.to_dict()["median"] for name, measurement in compared.items()},
        "overheads_ms": {
            name: measurement.to_dict()["median"] for name, measurement in overheads.items()
        },
        "spreads": {
            name: [measurement.to_dict()["low"], measurement.to_dict()["high"]]
            for name, measurement in (compared | overheads).items()
        },
        "answered_503": _total(result, "answered_503"),
        "not_200": _total(result, "not_200"),
    }


def to_json_line(report: dict[str, Any]) -> str:
    return json.dumps(report, separators=(",", ":"), allow_nan=False)


def table(report: dict[str, Any]) -> Table:
    """Medians with their lowest and highest round; `report` is from `to_dict`."""
    machine, settings = report["machine"], report["settings"]
    shown = Table(
        title=f"{settings['network']} on {machine['cores']} cores of {machine['cpu']}",
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
    return [*lines, f"answers that were not 200: {report['not_200']}"]


def _cell(figure: dict[str, Any] | None) -> str:
    if figure is None:
        return ""
    return f"{_short(figure['median'])} [dim]{_short(figure['low'])}-{_short(figure['high'])}[/]"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _fraction_of_peak(result: BenchResult, name: str) -> Measurement:
    """The share of float32's matrix-product peak that the network reaches, decoding included."""
    rate = result.measurements[name]["images_per_s"]
    needed = Measurement(tuple(2 * result.multiply_adds * value / 1e9 for value in rate.values))
    return ratio(needed, result.measurements["matmul"]["gflop_per_s"])


def _waits_in_batches(result: BenchResult, precision: str) -> Measurement:
    """p99 at 80 % of capacity, counted in the time of one full batch in process."""
    batch_ms = result.measurements[f"inprocess_{precision}_b8"]["p50_ms"].median
    p99 = result.measurements[f"open_{precision}_80"]["p99_ms"]
    return Measurement(tuple(value / batch_ms for value in p99.values))


def _total(result: BenchResult, quantity: str) -> int:
    return sum(
        round(sum(found[quantity].values))
        for found in result.measurements.values()
        if quantity in found
    )
