"""The bench as an image: images per second, and waiting times at three loads."""

import io
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from catdog_serving.atomic_write import atomic_write
from catdog_serving.errors import NotReadyError
from catdog_serving.extras import install_hint

_COLOURS = {"fp32": "#4c78a8", "int8": "#f58518"}
_OTHER = "#8c8c8c"


def check_matplotlib() -> None:
    """Raises NotReadyError if matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        raise NotReadyError(f"the chart needs matplotlib; run: {install_hint('report')}")


def write_chart(report: dict[str, Any], path: Path) -> None:
    """Draw a report of `bench_report.to_dict`.

    Args:
        report: The report.
        path: The PNG to write.

    Raises:
        NotReadyError: If the file cannot be written.
    """
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(11, 6), layout="constrained")
    rates, waits = drawing.subplots(1, 2, width_ratios=(3, 2))
    _draw_rates(rates, report["figures"])
    _draw_waits(waits, report["figures"])
    machine, settings = report["machine"], report["settings"]
    cpu = f"{machine['cores']} cores of {machine['cpu']}"
    drawing.suptitle(f"{settings['network']}, {cpu}, {report['date'][:10]}")
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png", dpi=110)
    atomic_write(path, [buffer.getvalue()])


def _draw_rates(axes: Any, figures: dict[str, Any]) -> None:
    """Bars with the lowest and highest round."""
    names = [name for name in figures if name.startswith(("reference", "inprocess_", "served_"))]
    for place, name in enumerate(reversed(names)):
        rate = figures[name]["images_per_s"]
        spread = [[rate["median"] - rate["low"]], [rate["high"] - rate["median"]]]
        axes.barh(place, rate["median"], xerr=spread, color=_colour(name), capsize=3)
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


def _colour(name: str) -> str:
    return next((colour for key, colour in _COLOURS.items() if f"_{key}_" in name), _OTHER)
