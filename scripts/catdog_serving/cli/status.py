"""catdog status: the model and its versions; with --watch the traffic, as a screen or as lines."""

from datetime import datetime
from typing import Annotated

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from catdog_serving.cli.curl import curl
from catdog_serving.cli.options import (
    ConfigOption,
    configured_server,
    console,
    errors,
    print_line,
)
from catdog_serving.config_folder import command_line
from catdog_serving.errors import CatDogError, NotReadyError, ServerError, UsageError
from catdog_serving.monitoring.metrics import Rates
from catdog_serving.monitoring.snapshot import (
    ServerStatus,
    Snapshot,
    nothing_loaded,
    read_status,
    take_snapshots,
)
from catdog_serving.torchserve.loaded_archive import archive_change
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.start_options import changes_since_start

_TOLD = ("Netty", "log4j")  # of Java's libraries; --json has them all


def status(
    config: ConfigOption,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    live: Annotated[
        bool, typer.Option("--watch", help="Rates, times, queue and memory, until Ctrl-C.")
    ] = False,
    interval: Annotated[
        float, typer.Option(min=0.5, metavar="SECONDS", help="Between two snapshots of --watch.")
    ] = 2.0,
) -> None:
    """Show models, versions, workers and queue; exit 0 only when a worker is READY."""
    server = configured_server(config)
    if live:
        if as_json:
            raise UsageError("choose one of --json and --watch")
        _watch(server, interval)
        return
    stranger = server.stranger()
    if stranger:
        print_line(f"note     {stranger}", errors)
    try:
        found = read_status(server)
    except ServerError as error:
        if stranger is None:
            raise
        raise NotReadyError(f"{error}; it is not this configuration's server") from error
    if as_json:
        console.print_json(data=found.to_dict())
    else:
        print_running(server, found)
        if found.run_directory:
            print_line(f"files    {found.run_directory}")
        print_line(f"manage   {curl(server, 'management', '/models/catdog')}")
    if not found.models:
        raise NotReadyError(nothing_loaded(server))
    if not found.is_ready:
        raise NotReadyError(f"no worker is READY{_what_next(server, found)}")


def print_running(server: TorchServe, status: ServerStatus) -> None:
    """What runs, and what was edited since the start and does not run."""
    print_status(status, console)
    served = status.models[0] if status.models else None
    changes = changes_since_start(server.config, server.run, served)
    if status.archive_sha256 and (another := archive_change(server.run, server.config.archive)):
        changes.append(another)
    if changes:
        restart = command_line(server.config.path, "restart")
        print_line(f"changed  {', '.join(changes)}: {restart}")
    if server.run.runs_without_java():
        print_line("server   without Java, one worker; scale, autoscale and deploy need TorchServe")
    if status.archive_sha256:
        gone = "" if server.config.archive.is_file() else f"; {server.config.archive} is gone"
        print_line(f"archive  SHA-256 {status.archive_sha256}{gone}")


def _what_next(server: TorchServe, status: ServerStatus) -> str:
    """The end of a sentence: why no worker is READY, or what will happen, and where to look."""
    log = server.run.logs.workers
    where = f"see {log}" if log.is_file() else ""
    if status.failure:
        return f"; the last one failed: {status.failure}{where and f'; {where}'}"
    if server.run.runs_without_java():
        return where and f"; {where}"
    again = "; TorchServe starts another; look again in some seconds"
    return f"{again}{where and f', or {where}'}"


def print_status(status: ServerStatus, console: Console) -> None:
    """The model and the GPUs, then a row per version."""
    print_line(f"address  {status.url}", console)
    print_line(f"model    {status.model_line}", console)
    for line in _gpu_lines(status):
        print_line(line, console)
    if told := [found.line for found in status.java_libraries if found.name in _TOLD]:
        print_line(f"java     {', '.join(told)}", console)
    if status.agreement and status.facts:
        print_line(f"{status.facts['precision']:<8} {status.agreement}", console)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("version", "workers", "batch", "max delay", "queued", "queue free"):
        table.add_column(column, justify="left" if column == "version" else "right")
    for model in status.models:
        table.add_row(
            Text(f"{model.version}{' (default)' if model.default else ''}"),
            f"{model.ready_workers} of {len(model.workers)} READY",
            str(model.batch_size),
            f"{model.max_batch_delay_ms} ms",
            str(model.pending_requests),
            str(model.queue_free),
        )
    console.print(table)


def _gpu_lines(status: ServerStatus) -> list[str]:
    return [f"gpu {gpu.id:<4} {gpu.line}" for gpu in status.gpus]


def _watch(server: TorchServe, interval_s: float) -> None:
    """Show a snapshot every `interval_s` seconds until Ctrl-C: a screen, or lines for a file."""
    snapshots = take_snapshots(server, interval_s, with_gpus=console.is_terminal)
    try:
        if console.is_terminal:
            with Live(console=console, auto_refresh=False) as live:
                for snapshot in snapshots:
                    live.update(watch_screen(snapshot), refresh=True)
        else:
            for snapshot in snapshots:
                print_line(watch_line(snapshot))
    except KeyboardInterrupt:
        return  # how a watch ends


def watch_line(snapshot: Snapshot | CatDogError) -> str:
    """One line in the style of the request log: what a program or a log can keep."""
    stamp = datetime.now().isoformat(timespec="seconds")
    if isinstance(snapshot, CatDogError):
        return f"{stamp} down: {' '.join(str(snapshot).split())}"
    workers = [worker for model in snapshot.status.models for worker in model.workers]
    facts = snapshot.status.facts
    pairs: dict[str, object] = {
        "model": f"{facts['network']}/{facts['weights']}" if facts else "-",
        "uptime_s": "-" if snapshot.uptime_s is None else f"{snapshot.uptime_s:.0f}",
        "ready": f"{sum(w.status == 'READY' for w in workers)}/{len(workers)}",
        "waiting": sum(model.pending_requests for model in snapshot.status.models),
        "memory_mb": f"{sum(snapshot.memory_bytes.values()) / 1e6:.0f}",
    }
    if (r := snapshot.rates) is not None:
        inference = r.stages.get("inference")
        pairs |= {
            "requests_per_s": f"{r.requests_per_s:.1f}",
            "answers_per_s": f"{r.answers_per_s:.1f}",
            "invalid_per_s": f"{r.invalid_per_s:.1f}",
            "errors_per_s": f"{r.errors_per_s:.1f}",
            "mean_ms": _ms(r.request_s),
            "wait_ms": _ms(r.queue_s),
            "inference_p50_ms": _ms(inference.p50_s if inference else None),
            "inference_p95_ms": _ms(inference.p95_s if inference else None),
            "batch": "-" if r.batch_images is None else f"{r.batch_images:.1f}",
        }
    return " ".join([stamp, *(f"{key}={value}" for key, value in pairs.items())])


def watch_screen(snapshot: Snapshot | CatDogError) -> Group:
    """What a terminal shows."""
    stamp = f"{datetime.now():%H:%M:%S}  (Ctrl-C ends this)"
    if isinstance(snapshot, CatDogError):
        return Group(Text(f"{stamp}\n\n{snapshot}", style="red"))
    status = snapshot.status
    up = "" if snapshot.uptime_s is None else f", up {_duration(snapshot.uptime_s)}"
    model = status.model_line
    if status.is_ready and status.facts is None:
        model = "not asked for while requests wait"
    facts = [f"address  {status.url}{up}", f"model    {model}", *_gpu_lines(status)]
    head = Text("\n".join([stamp, *facts, ""]))
    if not status.is_ready:
        why = f"; the last one failed: {status.failure}" if status.failure else ""
        head.append(f"no worker is READY{why}\n", style="red")
    if snapshot.rates is None:
        return Group(head, Text("measuring ..."), _workers(snapshot))
    return Group(
        head, _numbers(snapshot, snapshot.rates), _stages(snapshot.rates), _workers(snapshot)
    )


def _numbers(snapshot: Snapshot, r: Rates) -> Table:
    models = snapshot.status.models
    queued = sum(model.pending_requests for model in models)
    free = sum(model.queue_free for model in models)
    batch = "-"
    if r.batch_images is not None and models:
        size = models[0].batch_size
        batch = f"{r.batch_images:.1f} of {size} images ({r.batch_images / size:.0%})"
    table = Table.grid(padding=(0, 2))
    table.add_row("requests", f"{r.requests_per_s:.1f} /s, {r.answers_per_s:.1f} /s answered")
    table.add_row(
        "refused", f"{r.invalid_per_s:.1f} /s images (4xx), {r.errors_per_s:.1f} /s errors (5xx)"
    )
    table.add_row("time", f"{_ms(r.request_s)} ms mean, {_ms(r.queue_s)} ms of it waiting")
    table.add_row("queue", f"{queued} queued, {free} free")
    table.add_row("batch", batch)
    return table


def _stages(r: Rates) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("\nstage, per batch")
    for column in ("\np50 ms", "\np95 ms"):
        table.add_column(column, justify="right")
    for stage, times in r.stages.items():
        table.add_row(stage, _ms(times.p50_s), _ms(times.p95_s))
    return table


def _workers(snapshot: Snapshot) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("\nversion", "\nworker", "\nstate", "\npid", "\nmemory"):
        table.add_column(column, justify="right" if column in ("\npid", "\nmemory") else "left")
    for model in snapshot.status.models:
        for worker in model.workers:
            memory = snapshot.memory_bytes.get(worker.id)
            table.add_row(
                f"{model.version}{' (default)' if model.default else ''}",
                worker.id,
                Text(worker.status, style="green" if worker.status == "READY" else "yellow"),
                str(worker.pid),
                "-" if memory is None else f"{memory / 1e6:.0f} MB",
            )
    return table


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.1f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
