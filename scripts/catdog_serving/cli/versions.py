"""catdog versions."""

from typing import Any

from rich.table import Table
from rich.text import Text

from catdog.results import ModelId
from catdog_serving.cli.options import ConfigOption, configured_server, console, print_line
from catdog_serving.errors import ServerUnavailableError
from catdog_serving.rollout.versions import LoadedVersion, loaded_versions, stored_archives


def versions(config: ConfigOption) -> None:
    """Show what is loaded, and what a restart or a rollback would load."""
    server = configured_server(config)
    stored = stored_archives(server)
    try:
        _print_loaded(loaded_versions(server))
    except ServerUnavailableError:
        if server.is_running():
            raise
        print_line("no server runs; to start one: catdog serve")
    for archive in stored:
        print_line(
            f"{archive.use} {archive.path.name}: {_model(archive.facts)}, "
            f"catdog {archive.facts['catdog_version']}"
        )
        print_line(f"  SHA-256 {archive.sha256}")
    if not stored:
        print_line(f"{server.config.model_store} holds no archive; to build one: catdog package")


def _print_loaded(loaded: list[LoadedVersion]) -> None:
    console.print(_table(loaded))
    for each in loaded:
        model = _model(each.facts) if each.facts else "unknown until a worker is READY"
        print_line(f"model of {each.status.version}: {model}")


def _table(loaded: list[LoadedVersion]) -> Table:
    """A row per version."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("version", "workers", "batch", "max delay", "time-outs", "catdog", "file"):
        table.add_column(column, justify="right" if column in ("batch", "max delay") else "left")
    for each in loaded:
        status = each.status
        table.add_row(
            Text(f"{status.version}{' (default)' if status.default else ''}"),
            f"{status.ready_workers} of {len(status.workers)} READY",
            str(status.batch_size),
            f"{status.max_batch_delay_ms} ms",
            f"{status.response_timeout_s}, {status.startup_timeout_s} s",
            each.facts["catdog_version"] if each.facts else "-",
            each.archive or "-",
        )
    return table


def _model(facts: dict[str, Any]) -> str:
    return f"{ModelId.from_dict(facts).name}, {facts['runtime']} {facts['precision']}"
