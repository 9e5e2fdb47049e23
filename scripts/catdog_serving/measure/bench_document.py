"""The speed section of docs/performance.md, made from the JSON of a bench run.

    python -m catdog_serving.measure.bench_document docs/performance/bench.json docs/performance.md

So that no figure there is older than the run, or typed by hand.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from catdog_serving.errors import UsageError
from catdog_serving.whole_file import write_whole

BEGIN, END = "<!-- bench: begin, made by `make bench` -->", "<!-- bench: end -->"


def section(report: dict[str, Any]) -> str:
    """Markdown: machine, figures, ratios; `report` is from `bench_report.to_dict`."""
    return "\n\n".join((_conditions(report), _figures(report), _comparisons(report)))


def replace_section(document: str, report: dict[str, Any]) -> str:
    """Put the section between its markers.

    Raises:
        UsageError: If the document has no markers.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise UsageError(f"the document has no lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{section(report)}\n\n{END}{after}"


def _conditions(report: dict[str, Any]) -> str:
    machine, settings, plan = report["machine"], report["settings"], report["settings"]["plan"]
    packages = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    batching = settings["batching"]
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
            f"{report['multiply_adds'] / 1e9:.2f} G multiply-adds a picture; "
            f"{settings['pictures']} pictures ({report['pictures_from']}) of "
            f"{settings['picture_bytes'] / 1000:.0f} kB on average; {batching['maxWorkers']} "
            f"worker(s), batchSize {batching['batchSize']}, "
            f"maxBatchDelay {batching['maxBatchDelay']} ms.",
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


def _cell(figure: dict[str, Any] | None) -> str:
    if figure is None:
        return ""
    return f"{figure['median']:g} ({figure['low']:g} to {figure['high']:g})"


def main() -> None:
    """Rewrite the section of a document."""
    parser = argparse.ArgumentParser(description="put a bench run's figures into a document")
    parser.add_argument("report", type=Path)
    parser.add_argument("document", type=Path)
    args = parser.parse_args()
    report = json.loads(args.report.read_text())
    changed = replace_section(args.document.read_text(encoding="utf-8"), report)
    write_whole(args.document, [changed.encode()])


if __name__ == "__main__":
    main()
