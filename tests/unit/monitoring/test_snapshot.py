"""What `catdog status --watch` asks and computes, beside a stand-in for TorchServe's two ports."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from catdog_serving.cli.status import print_status, watch_line, watch_screen
from catdog_serving.errors import CatDogError
from catdog_serving.model_archive import file_sha256
from catdog_serving.monitoring.snapshot import Snapshot, read_status, take_snapshots
from catdog_serving.torchserve.loaded_archive import file_state, record_start
from catdog_serving.torchserve.server import TorchServe
from tests.support.command_line import catdog_here
from tests.support.configs import MakeConfig
from tests.support.fake_server import FACTS, FakeServer, metrics
from tests.support.http_servers import http_server
from tests.support.nvidia_smi import TWO_GPUS, install_nvidia_smi


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    fake = FakeServer()
    with http_server(lambda request, body: fake.answer(request, body)) as fake.url:
        yield fake


@pytest.fixture
def asked(fake: FakeServer, make_config: MakeConfig) -> TorchServe:
    return TorchServe(make_config(None, management_address=fake.url, metrics_address=fake.url))


@pytest.fixture
def watched(asked: TorchServe) -> Iterator[Snapshot | CatDogError]:
    return take_snapshots(asked, 0.01, with_gpus=True)


def test_a_server_that_is_away_is_waited_for(
    fake: FakeServer, watched: Iterator[Snapshot | CatDogError]
) -> None:
    assert isinstance(next(watched), Snapshot)
    fake.down = True
    assert isinstance(next(watched), CatDogError)
    assert isinstance(next(watched), CatDogError)
    fake.down, fake.text = False, metrics(5, 4, 1)
    back = next(watched)
    assert isinstance(back, Snapshot)
    assert back.rates is None  # nothing to compare with
    again = next(watched)
    assert isinstance(again, Snapshot)
    assert again.rates is not None
    assert again.rates.requests_per_s == 0


def test_tokens_that_are_not_written_yet_are_waited_for(
    asked: TorchServe, watched: Iterator[Snapshot | CatDogError]
) -> None:
    """A server that starts again makes its key file anew."""
    assert isinstance(next(watched), Snapshot)
    asked.run.create()
    asked.run.key_file.write_text("{}")
    for _ in range(2):
        told = watch_line(next(watched))
        assert "down: " in told
        assert "holds no tokens" in told
    asked.run.key_file.unlink()
    assert isinstance(next(watched), Snapshot)
    asked.run.remove()


def test_nonsense_at_the_metrics_address_is_named_in_one_line(
    fake: FakeServer, watched: Iterator[Snapshot | CatDogError]
) -> None:
    fake.text = "<html>\nnot found\n</html>"
    told = watch_line(next(watched))
    assert " down: no metrics at " in told
    assert "\n" not in told


def test_facts_are_asked_for_once_per_set_of_workers_and_never_while_requests_wait(
    fake: FakeServer, watched: Iterator[Snapshot | CatDogError]
) -> None:
    fake.pending = 3
    assert [snapshot_facts(next(watched)) for _ in range(2)] == [None, None]
    assert fake.facts_asked == 0
    fake.pending = 0
    assert [snapshot_facts(next(watched)) for _ in range(3)] == [FACTS] * 3
    assert fake.facts_asked == 1
    fake.state = "UNLOADING"
    assert snapshot_facts(next(watched)) is None
    fake.state, fake.pid = "READY", 0
    assert [snapshot_facts(next(watched)) for _ in range(3)] == [FACTS] * 3
    assert fake.facts_asked == 2


def snapshot_facts(snapshot: Snapshot | CatDogError) -> dict[str, object] | None:
    assert isinstance(snapshot, Snapshot)
    return snapshot.status.facts


def test_a_line_and_a_screen_say_what_was_measured(
    fake: FakeServer, watched: Iterator[Snapshot | CatDogError]
) -> None:
    next(watched)
    fake.text = metrics(150, 120, 30)
    snapshot = next(watched)
    values = dict(pair.split("=") for pair in watch_line(snapshot).split()[1:])
    assert (values["model"], values["ready"]) == ("resnet152/IMAGENET1K_V1", "1/1")
    assert (values["batch"], values["mean_ms"], values["wait_ms"]) == ("4.0", "200.0", "100.0")
    assert values["inference_p50_ms"] == "100.0"
    console = Console(width=100)
    with console.capture() as capture:
        console.print(watch_screen(snapshot))
    text = capture.get()
    assert "resnet152 IMAGENET1K_V1, onnxruntime fp32 on cpu" in text
    assert "4.0 of 8 images (50%)" in text
    assert "200.0 ms mean, 100.0 ms of it waiting" in text
    assert "0 queued, 48 free" in text


def test_status_tells_the_archive_that_runs_from_the_file_that_lies_there(
    asked: TorchServe,
) -> None:
    run, archive = asked.run, asked.config.archive
    run.create()
    run.record(psutil.Process())  # as if this process were the server
    archive.write_bytes(b"one")
    one = file_sha256(archive)
    record_start(run, archive, file_state(archive))
    try:
        shown = catdog_here("status", "--config", asked.config.path)
        assert f"\narchive  SHA-256 {one}\n" in shown.stdout
        assert "changed" not in shown.stdout
        archive.write_bytes(b"another")
        shown = catdog_here("status", "--config", asked.config.path)
        change = f"archive {one[:8]} -> {file_sha256(archive)[:8]}"
        restart = f"catdog --config {asked.config.path} restart"
        assert f"\nchanged  {change}: {restart}\n" in shown.stdout
        assert f"\narchive  SHA-256 {one}\n" in shown.stdout
        assert read_status(asked).to_dict()["archive_sha256"] == one
    finally:
        run.remove()


def test_status_says_where_the_files_of_the_server_are(asked: TorchServe) -> None:
    def facts() -> dict[str, object]:
        shown = catdog_here("status", "--json", "--config", asked.config.path).stdout
        found: dict[str, object] = json.loads(shown)
        return found

    assert "files " not in catdog_here("status", "--config", asked.config.path).stdout
    assert facts()["run_directory"] is None
    asked.run.create()
    asked.run.record(psutil.Process())  # as if this process were the server
    try:
        shown = catdog_here("status", "--config", asked.config.path, COLUMNS="40").stdout
        assert f"\nfiles    {asked.run.path}\n" in shown
        assert facts()["run_directory"] == str(asked.run.path)
    finally:
        asked.run.remove()


def test_a_workers_memory_is_its_process_and_null_where_there_is_none(
    fake: FakeServer, asked: TorchServe
) -> None:
    """TorchServe says 0 as long as its own metrics of the system are off."""
    for pid, known in ((os.getpid(), True), (-1, False)):
        fake.pid = pid
        shown = catdog_here("status", "--json", "--config", asked.config.path).stdout
        memory = json.loads(shown)["versions"][0]["workers"][0]["memory_bytes"]
        assert memory > 10_000_000 if known else memory is None


@pytest.mark.parametrize("command", ["status", "serve"])
def test_a_model_that_was_unregistered_is_told_at_once(
    fake: FakeServer, asked: TorchServe, command: str
) -> None:
    fake.unloaded = True
    asked.run.create()
    asked.run.record(psutil.Process())  # as if this process were the server
    try:
        shown = catdog_here(command, "--config", asked.config.path)
        assert shown.returncode == 3
        restart = f"catdog --config {asked.config.path} restart\n"
        assert f"no catdog is loaded (it was unregistered): {restart}" in shown.stderr
        asked.run.logs.console.write_text("2026-11-28T01:02:03,004 E M - Failed to load model: x\n")
        shown = catdog_here(command, "--config", asked.config.path)
        assert f"no catdog is loaded (Failed to load model: x): {restart}" in shown.stderr
    finally:
        asked.run.remove()


def test_without_a_ready_worker_there_is_a_next_step(fake: FakeServer, asked: TorchServe) -> None:
    fake.state = "UNLOADING"
    asked.run.create()
    log = asked.run.logs.workers
    try:
        shown = catdog_here("status", "--config", asked.config.path)
        told = "no worker is READY; TorchServe starts another; look again in some seconds"
        assert shown.returncode == 3
        assert f"{told}\n" in shown.stderr
        log.touch()
        shown = catdog_here("status", "--config", asked.config.path)
        assert f"{told}, or see {log}\n" in shown.stderr
        stamp = "2026-11-28T01:02:03,004"
        lines = ["Backend worker process died.", "Traceback (most recent call last):", "E: why"]
        log.write_text("".join(f"{stamp} {line}\n" for line in lines))
        shown = catdog_here("status", "--config", asked.config.path)
        assert f"no worker is READY; the last one failed: E: why; see {log}\n" in shown.stderr
    finally:
        asked.run.remove()


THREE_WORKERS = {"9000": 1, "9001": 0, "9002": 1}
ON_GPUS = {
    TWO_GPUS: [
        "gpu 0    1 worker, 21.5 of 85.9 GB of memory used, 35 % utilised",
        "gpu 1    2 workers, 1.1 of 85.9 GB of memory used, 0 % utilised",
    ],
    "echo '0, MIG, [N/A], [N/A], [N/A]'": [
        "gpu 0    1 worker",
        "gpu 1    2 workers; nvidia-smi says nothing of it",
    ],
    "exit 9": [
        "gpu 0    1 worker; nvidia-smi says nothing of it",
        "gpu 1    2 workers; nvidia-smi says nothing of it",
    ],
}


@pytest.mark.parametrize("does", ON_GPUS)
def test_each_gpu_has_a_line_with_its_workers_whatever_nvidia_smi_says(
    fake: FakeServer,
    asked: TorchServe,
    watched: Iterator[Snapshot | CatDogError],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    does: str,
) -> None:
    install_nvidia_smi(tmp_path, monkeypatch, does)
    assert read_status(asked).to_dict()["gpus"] == []  # the machine has some; nobody computes there
    fake.gpu_ids = THREE_WORKERS
    snapshot = next(watched)
    assert isinstance(snapshot, Snapshot)
    console = Console(width=100)
    for show in (
        lambda: print_status(read_status(asked), console),
        lambda: console.print(watch_screen(snapshot)),
    ):
        with console.capture() as capture:
            show()
        lines = [line.rstrip() for line in capture.get().splitlines()]
        assert [line for line in lines if line.startswith("gpu ")] == ON_GPUS[does]
    listed = read_status(asked).to_dict()["gpus"]
    assert [(gpu["id"], gpu["workers"]) for gpu in listed] == [
        (0, ("9001",)),
        (1, ("9000", "9002")),
    ]
    if does == TWO_GPUS:
        assert listed[0]["device"]["memory_total_bytes"] == 80 << 30


@pytest.mark.parametrize(
    ("its", "ours", "seen"),
    [
        ({"CATDOG_VISIBLE_DEVICES": "1"}, "0", ["GPU-bbbb"]),
        ({"CATDOG_VISIBLE_DEVICES": "1,0"}, None, ["GPU-bbbb", "GPU-aaaa"]),
        ({}, "1", ["GPU-aaaa", "GPU-bbbb"]),  # it was started without, so it has them all
        (None, "1", ["GPU-bbbb"]),  # it is not ours, so its environment is not known
    ],
)
def test_gpus_are_counted_as_the_server_counts_them_not_as_this_shell_would(
    fake: FakeServer,
    asked: TorchServe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    its: dict[str, str] | None,
    ours: str | None,
    seen: list[str],
) -> None:
    install_nvidia_smi(tmp_path, monkeypatch)
    if ours is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ours)
    fake.gpu_ids = {"9000": 0}
    if its is None:
        gpus = read_status(asked).gpus
    else:
        with subprocess.Popen(["sleep", "60"], env=os.environ | its) as java:
            asked.run.create()
            asked.run.record(psutil.Process(java.pid))
            gpus = read_status(asked).gpus
            java.kill()
        asked.run.remove()
    assert [gpu.device.uuid for gpu in gpus if gpu.device] == seen


@pytest.mark.parametrize(
    ("with_gpus", "does", "times"), [(False, TWO_GPUS, 0), (True, TWO_GPUS, 3), (True, "exit 9", 1)]
)
def test_nvidia_smi_is_asked_for_who_shows_it_and_no_more_after_it_failed(
    fake: FakeServer,
    asked: TorchServe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    with_gpus: bool,
    does: str,
    times: int,
) -> None:
    """One that hangs costs seconds each time, and leaves a process that no kill ends."""
    runs = tmp_path / "runs"
    runs.touch()
    install_nvidia_smi(tmp_path, monkeypatch, f"echo >> {runs}\n{does}")
    fake.gpu_ids = THREE_WORKERS
    snapshots = take_snapshots(asked, 0.01, with_gpus=with_gpus)
    for _ in range(3):
        snapshot = next(snapshots)
        assert isinstance(snapshot, Snapshot)
        assert [len(gpu.workers) for gpu in snapshot.status.gpus] == [1, 2]
    assert runs.read_text().count("\n") == times
