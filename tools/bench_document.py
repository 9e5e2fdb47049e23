"""The speed figures of the README and docs/performance.md, made from the JSON of a bench run.

    python -m tools.bench_document docs/performance/bench.json README.md ...

So that no figure there is older than the run, or typed by hand. A document shows what its
markers name: `figures` is everything, `summary` a few lines for the README, `capacity` what
to plan servers with.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from catdog_serving.atomic_write import atomic_write
from catdog_serving.errors import UsageError

_START_COLUMNS = {
    "ready_s": "READY after s",
    "worker_gb_when_ready": "worker's RSS then, GB",
    "worker_gb_after_work": "after work, GB",
    "java_gb_after_work": "Java's RSS, GB",
}
PLANNED_PERCENT = 80  # of capacity: at 95 % the waiting times are many batches long


def figures(report: dict[str, Any]) -> str:
    """Machine, figures, ratios and starts; `report` is from `bench_report.to_dict`."""
    parts = (_conditions(report), _figures(report), _comparisons(report), _starts(report))
    return "\n\n".join(filter(None, parts))


def summary(report: dict[str, Any]) -> str:
    """Rates beside the reference loop, and how much of it they are."""
    machine, rates = report["machine"], report["figures"]
    network, cpu = report["settings"]["network"], f"{machine['cores']} cores of {machine['cpu']}"
    rows = [
        f"| {network}, {cpu}, no GPU | images/s | over the loop |",
        "|---|---|---|",
        f"| the script's loop | {rates['reference']['images_per_s']['median']:g} | 1 |",
    ]
    for precision in report["settings"]["precisions"]:
        for name, what in (
            (f"inprocess_{precision}_b8", f"{precision}, in batches of 8 in process"),
            (f"served_{precision}_c16", f"{precision}, served, 16 requests at a time"),
        ):
            rate, over = rates[name]["images_per_s"]["median"], report["ratios"]
            rows.append(f"| {what} | {rate:g} | {over[f'{name}_over_reference']:g} |")
    return "\n".join(rows)


def capacity(report: dict[str, Any]) -> str:
    """What one server bears: the rate to plan with, its waiting time, and its memory.

    Raises:
        UsageError: If the run had no starts of servers, as with `--quick`.
    """
    if not _starts(report):
        raise UsageError("the run was a quick one, without starts of servers; run: catdog bench")
    load = PLANNED_PERCENT
    heading = f"one server | capacity, images/s | {load} % of it | p99 there, ms | memory, GB"
    rows = [f"| {heading} | while a version takes over, GB |", "|---|---|---|---|---|---|"]
    found = report["figures"]
    for precision in report["settings"]["precisions"]:
        most = found[f"served_{precision}_c16"]["images_per_s"]["median"]
        p99_ms = found[f"open_{precision}_{load}"]["p99_ms"]["median"]
        start = found[f"start_{precision}"]
        worker_gb = start["worker_gb_after_work"]["high"]
        java_gb = start["java_gb_after_work"]["high"]
        memory = f"{worker_gb + java_gb:.2g} | {2 * worker_gb + java_gb:.2g}"
        rows.append(f"| {precision} | {most:g} | {most * load / 100:.3g} | {p99_ms:g} | {memory} |")
    return "\n".join(rows)


PARTS = {"figures": figures, "summary": summary, "capacity": capacity}


def markers(part: str) -> tuple[str, str]:
    """The lines before and after a part of a document."""
    return f"<!-- bench {part}: begin, made by `make bench` -->", f"<!-- bench {part}: end -->"


def replace_parts(document: str, report: dict[str, Any]) -> str:
    """Put each part between its markers.

    Raises:
        UsageError: If the document has no markers.
    """
    changed = document
    for part, write in PARTS.items():
        begin, end = markers(part)
        before, found, rest = changed.partition(begin)
        _, ended, after = rest.partition(end)
        if found and ended:
            changed = f"{before}{begin}\n\n{write(report)}\n\n{end}{after}"
    if not any(markers(part)[1] in changed for part in PARTS):
        raise UsageError(f"the document has no lines like {' and '.join(markers('figures'))}")
    return changed


def _conditions(report: dict[str, Any]) -> str:
    machine, settings, plan = report["machine"], report["settings"], report["settings"]["plan"]
    packages = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    entry = settings["batching"]
    rounds = len(report["figures"]["reference"]["images_per_s"]["values"])
    return "\n".join(
        (
            f"- Run on {report['date'][:10]}: {rounds} interleaved rounds, at least "
            f"{plan['seconds']:g} s each; {plan['open_rounds']} of the open loops, "
            f"{plan['open_seconds']:g} s each.",
            f"- Machine: {machine['cores']} cores of {machine['cpu']} "
            f"({', '.join(machine['instructions'])}), {machine['memory_gb']:g} GB, "
            f"{machine['system']}; load average before the run {machine['load_before']:g}.",
            f"- Versions: {packages}.",
            f"- {settings['network']} ({settings['weights']}), "
            f"{report['multiply_adds'] / 1e9:.2f} G multiply-adds an image; "
            f"{settings['images']} images ({report['images_from']}) of "
            f"{settings['image_bytes'] / 1000:.0f} kB on average; {entry['maxWorkers']} "
            f"worker(s), batchSize {entry['batchSize']}, "
            f"maxBatchDelay {entry['maxBatchDelay']} ms.",
        )
    )


def _figures(report: dict[str, Any]) -> str:
    rows = ["| what | images/s | p50 ms | p99 ms |", "|---|---|---|---|"]
    for name, quantities in report["figures"].items():
        if "images_per_s" in quantities:
            cells = (_cell(quantities.get(key)) for key in ("images_per_s", "p50_ms", "p99_ms"))
            rows.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(rows)


def _comparisons(report: dict[str, Any]) -> str:
    rows = ["| compared within a round | median | lowest | highest |", "|---|---|---|---|"]
    for group, unit in (("ratios", ""), ("overheads_ms", " ms")):
        for name, median in report[group].items():
            low, high = report["spreads"][name]
            rows.append(f"| `{name}` | {median:g}{unit} | {low:g}{unit} | {high:g}{unit} |")
    rows.append(f"| answers that were not 200 | {report['not_200']} | | |")
    return "\n".join(rows)


def _starts(report: dict[str, Any]) -> str:
    """Start-up and memory; empty for a run that left them out."""
    starts = {name: found for name, found in report["figures"].items() if "ready_s" in found}
    if not starts:
        return ""
    rows = [
        f"| start of a server | {' | '.join(_START_COLUMNS.values())} |",
        "|---|---|---|---|---|",
    ]
    for name, quantities in starts.items():
        cells = (_cell(quantities[key]) for key in _START_COLUMNS)
        rows.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(rows)


def _cell(figure: dict[str, Any] | None) -> str:
    if figure is None:
        return ""
    return f"{figure['median']:g} ({figure['low']:g} to {figure['high']:g})"


def main() -> None:
    """Rewrite the parts of documents."""
    parser = argparse.ArgumentParser(description="put a bench run's figures into documents")
    parser.add_argument("report", type=Path)
    parser.add_argument("documents", type=Path, nargs="+")
    args = parser.parse_args()
    report = json.loads(args.report.read_text())
    for document in args.documents:
        changed = replace_parts(document.read_text(encoding="utf-8"), report)
        atomic_write(document, [changed.encode()])


if __name__ == "__main__":
    main()
