"""What `catdog tune` found, for people."""

from rich.table import Table

from catdog_serving.bench.tune import Tuned, describe
from catdog_serving.bench.tune_settings import SAME_WITHIN, Goal


def tune_table(tuned: Tuned) -> Table:
    """All settings that were measured, the best first."""
    table = Table(box=None)
    for heading in ("workers", "batchSize", "max delay", "images/s", "p50 ms", "p99 ms"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("runs", "not 200"):
        table.add_column(heading, justify="right", style="dim", no_wrap=True)
    table.add_column("", no_wrap=True)
    for trial in tuned.trials:
        worker_settings = trial.worker_settings
        marks = [
            *(["current"] if worker_settings == tuned.current else []),
            *(["chosen"] if trial == tuned.chosen else []),
        ]
        table.add_row(
            str(worker_settings.workers),
            str(worker_settings.batch_size),
            f"{worker_settings.max_batch_delay_ms} ms",
            f"{trial.images_per_s:.2f}",
            f"{trial.p50_ms:.0f}",
            f"{trial.p99_ms:.0f}",
            str(trial.runs),
            str(trial.not_200),
            ", ".join(marks),
        )
    table.caption = "images/s: as fast as it goes; p50, p99: Poisson arrivals at 80 % of that"
    table.caption_justify = "left"
    return table


def verdict(tuned: Tuned, goal: Goal) -> str:
    """One line: what was chosen and why, or that nothing meets the goal."""
    untried = f" ({len(tuned.untried)} settings have no figures)" if tuned.untried else ""
    if tuned.chosen is None:
        nearest = tuned.trials[0]
        wanted = "answers with 200 alone"
        if goal.p99_ms is not None:
            wanted += f" and a p99 of at most {goal.p99_ms:g} ms"
        return (
            f"no setting has {wanted}; the nearest is {describe(nearest.worker_settings)} with "
            f"{nearest.p99_ms:.0f} ms and {nearest.not_200} other answers; nothing was "
            f"changed{untried}"
        )
    chosen = describe(tuned.chosen.worker_settings)
    if tuned.chosen.worker_settings == tuned.current:
        margin = f"nothing is more than {SAME_WITHIN:.0%} faster"
        return f"the current settings stay: {chosen}; {margin}{untried}"
    return f"chosen: {chosen}{untried}"
