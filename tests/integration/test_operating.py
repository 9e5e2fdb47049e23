"""Scale, deploy and roll back a real TorchServe under load."""

import json
import re
import signal
from collections import Counter
from pathlib import Path

from catdog import __version__ as catdog_version
from catdog_serving.client import CatDogClient
from catdog_serving.model_archive import archive_version, file_sha256
from catdog_serving.rollout.scale import scale
from catdog_serving.torchserve.loaded_archive import archive_change, loaded_sha256
from catdog_serving.torchserve.server import TorchServe
from tests.support.archive_cache import BuildArchive
from tests.support.operators import (
    CAT,
    assert_one_version,
    catdog,
    slow_clients,
    started,
    versions_of,
)
from tests.support.processes import wait_until
from tests.support.raw_requests import steady_load

TRAINED = "efficientnet-lite0-57934424"


def test_what_is_deployed_under_load_is_served_after_a_restart_and_until_a_rollback(
    running: TorchServe, build: BuildArchive
) -> None:
    """Nothing is lost, and each answer names its version."""
    untrained = build("efficientnet_lite0", "seeded")
    config = running.config
    config.previous_archive.unlink(missing_ok=True)
    first, first_sha = assert_one_version(running, 1), file_sha256(config.archive)
    too_early = catdog(running, "rollback")
    assert too_early.returncode == 3
    assert (
        "catdog.previous.mar to go back to: no other archive was deployed yet" in too_early.stderr
    )
    # `catdog package` writes over what is served; then that is deployed from its place.
    config.archive.write_bytes(untrained.read_bytes())
    assert archive_change(running.run, config.archive)
    with steady_load(config.inference_url, [CAT], per_s=5) as answers:
        scaled_up = catdog(running, "scale", 2)  # of what is served, not of what lies there now
        assert scaled_up.returncode == 0, scaled_up.stderr
        down = catdog(running, "scale", 1)
        assert down.returncode == 0, down.stderr
        scaled = assert_one_version(running, 1)
        assert re.match(rf"workers  1 READY, before 2; version {scaled}, \d+\.\d s\n", down.stdout)
        # Watched as long as by default: over 2 s, ten slow requests of a busy machine refuse it.
        deployed = catdog(running, "deploy", config.archive, "--untrained")
        assert deployed.returncode == 0, deployed.stderr
        assert f"SHA-256 {file_sha256(untrained)}" in deployed.stdout
        assert re.search(r"watched  1\d s: \d+ requests, 0 failed, \d+ ms mean", deployed.stdout)
        second = assert_one_version(running, 1)
    assert Counter(answer.status for answer in answers) == {200: len(answers)}
    weights = {version: set[str]() for version in (first, scaled, second)}
    for answer in answers:
        body = json.loads(answer.body)
        weights[body["version"]].add(body["weights"])
    assert weights == {first: {TRAINED}, scaled: {TRAINED}, second: {"seeded"}}
    print(f"\n{len(answers)} requests, slowest {max(a.seconds for a in answers):.2f} s")

    assert archive_change(running.run, config.archive) is None
    assert loaded_sha256(running.run) == file_sha256(config.archive)
    assert file_sha256(config.previous_archive) == first_sha
    # TorchServe's own launcher takes the batch settings of that version alone.
    assert archive_version(config.archive) == config.named_version == "1.0"
    shown = catdog(running, "versions").stdout
    untrained_name = "efficientnet_lite0 seeded (untrained: its answers mean nothing)"
    assert re.search(
        rf"^{re.escape(second)} \(default\)  1 of 1 READY +4 +40 ms  60, 120 s +\S+ +catdog."
        rf"mar *\nmodel of {re.escape(second)}: {re.escape(untrained_name)}, onnx",
        shown,
        re.MULTILINE,
    ), shown
    assert (
        f"a restart serves catdog.mar: {untrained_name}, onnx fp32, "
        f"catdog {catdog_version}\n  SHA-256 {file_sha256(untrained)}\n" in shown
    )
    assert "catdog rollback deploys catdog.previous.mar: efficientnet_lite0 efficientnet" in shown

    running.stop()
    running.start()
    assert_one_version(running, 1)
    assert weights_served(running) == "seeded"
    scale(running, 2)
    back = catdog(running, "rollback", "--watch-s", 0)
    assert back.returncode == 0, back.stderr
    assert_one_version(running, 2)  # a deploy keeps the number of workers
    assert file_sha256(config.archive) == first_sha
    assert weights_served(running) == TRAINED
    scale(running, 1)


def weights_served(server: TorchServe) -> str:
    with CatDogClient(server.config.inference_url) as client:
        return client.classify(CAT).model.weights


def test_more_workers_can_be_asked_for_without_waiting_and_batches_are_waited_for(
    running: TorchServe,
) -> None:
    """The queue is empty and both workers compute: what a scale-down by hand loses."""
    asked = catdog(running, "scale", 2, "--no-wait")
    assert asked.stdout.startswith("workers  2 asked for, before 1; version ")
    assert running.versions()[0].ready_workers < 2
    fewer = catdog(running, "scale", 1, "--no-wait")
    assert fewer.returncode == 2
    assert "leave out --no-wait" in fewer.stderr
    assert catdog(running, "scale", 2).returncode == 0
    before = assert_one_version(running, 2)
    with slow_clients(running) as answers:
        wait_until(lambda: bool(answers), "an answer")
        down = catdog(running, "scale", 1)
    assert down.returncode == 0, down.stderr
    assert versions_of(answers) == {before, assert_one_version(running, 1)}


def test_ctrl_c_while_the_new_version_is_watched_loses_nothing(
    running: TorchServe, good: Path
) -> None:
    before = assert_one_version(running, 1)
    with (
        slow_clients(running) as answers,
        started(running, "deploy", good, "--watch-s", 600) as process,
    ):
        wait_until(lambda: len(running.versions()) == 2, "a second version", 60)
        wait_until(lambda: running.versions()[0].version != before, "a new default", 60)
        # All clients ask the new version: one batch is under way, another waits.
        wait_until(lambda: running.versions()[0].pending_requests == 4, "a queue", 60)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "")
    assert f"undone   version {before} serves as before" in output
    assert len(versions_of(answers)) == 2
    assert assert_one_version(running, 1) == before


def test_workers_that_memory_has_no_room_for_are_not_started(running: TorchServe) -> None:
    before = assert_one_version(running, 1)
    result = catdog(running, "scale", 100_000)
    assert result.returncode == 3
    assert re.fullmatch(
        r"catdog: 99999 more workers would take \d+\.\d GB, and .*\n", result.stderr
    )
    assert assert_one_version(running, 1) == before
