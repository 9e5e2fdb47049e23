"""Scale, deploy and roll back a real TorchServe under load."""

import json
import re
import signal
from collections import Counter
from pathlib import Path

from catdog_serving.client import CatDogClient
from catdog_serving.model_archive import archive_version, file_sha256
from catdog_serving.operate.scale import scale
from catdog_serving.operate.server import TorchServe
from tests.support.archives import BuildArchive
from tests.support.configs import MakeConfig
from tests.support.loads import steady_load
from tests.support.operators import (
    BATCHING,
    CAT,
    assert_one_version,
    catdog,
    slow_clients,
    started,
    versions_of,
)
from tests.support.processes import wait_until


def test_under_load_nothing_is_lost_and_each_answer_names_its_version(
    running: TorchServe, build: BuildArchive
) -> None:
    untrained = build("efficientnet_lite0", "seeded", version="7.3")
    config = running.config
    first, first_sha = assert_one_version(running, 1), file_sha256(config.archive)
    with steady_load(config.inference_url, [CAT], per_s=15) as answers:
        assert catdog(running, "scale", 2).returncode == 0
        down = catdog(running, "scale", 1)
        assert down.returncode == 0, down.stderr
        scaled = assert_one_version(running, 1)
        assert re.match(rf"workers  1 READY, before 2; version {scaled}, \d+\.\d s\n", down.stdout)
        assert file_sha256(config.archive) == first_sha

        deployed = catdog(running, "deploy", untrained, "--watch-s", 2)
        assert deployed.returncode == 0, deployed.stderr
        assert f"SHA-256 {file_sha256(untrained)}" in deployed.stdout
        assert re.search(r"watched  2 s: \d\d requests, 0 failed, \d+ ms mean", deployed.stdout)
        second = assert_one_version(running, 1)
        assert not running.archive_is_newer()
        assert file_sha256(config.previous_archive) == first_sha
        # TorchServe's own launcher takes the batch settings of that version alone.
        assert archive_version(config.archive) == config.named_version == "1.0"

        back = catdog(running, "rollback", "--watch-s", 2)
        assert back.returncode == 0, back.stderr
        third = assert_one_version(running, 1)
        assert file_sha256(config.archive) == first_sha
    assert Counter(answer.status for answer in answers) == {200: len(answers)}
    bodies = [json.loads(answer.body) for answer in answers]
    weights = {version: set[str]() for version in (first, scaled, second, third)}
    for body in bodies:
        weights[body["version"]].add(body["weights"])
    trained = {"efficientnet-lite0-57934424"}
    assert weights == {first: trained, scaled: trained, second: {"seeded"}, third: trained}
    print(f"\n{len(answers)} requests, slowest {max(a.seconds for a in answers):.2f} s")


def test_batches_that_take_longer_than_a_moment_are_waited_for(running: TorchServe) -> None:
    """The queue is empty and both workers compute: what a scale-down by hand loses."""
    scale(running, 2)
    (before,) = running.versions()
    with slow_clients(running) as answers:
        wait_until(lambda: bool(answers), "an answer")
        down = catdog(running, "scale", 1)
    assert down.returncode == 0, down.stderr
    assert versions_of(answers) == {before.version, assert_one_version(running, 1)}


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


def test_more_workers_can_be_asked_for_without_waiting_but_not_fewer(running: TorchServe) -> None:
    asked = catdog(running, "scale", 2, "--no-wait")
    assert asked.stdout.startswith("workers  2 asked for, before 1; version ")
    assert running.versions()[0].ready_workers < 2
    fewer = catdog(running, "scale", 1, "--no-wait")
    assert fewer.returncode == 2
    assert "leave out --no-wait" in fewer.stderr
    assert catdog(running, "scale", 2).returncode == 0
    assert_one_version(running, 2)
    scale(running, 1)


def test_a_restart_serves_what_was_deployed_and_a_rollback_what_was_served(
    good: Path, build: BuildArchive, make_config: MakeConfig
) -> None:
    untrained = build("efficientnet_lite0", "seeded")
    server = TorchServe(make_config(good, batching=BATCHING))
    with server:
        url = server.config.inference_url
        too_early = catdog(server, "rollback")
        assert too_early.returncode == 3
        assert "catdog.previous.mar to go back to: nothing was deployed yet" in too_early.stderr
        # `catdog package` writes over what is served; then that is deployed from its place.
        server.config.archive.write_bytes(untrained.read_bytes())
        assert server.archive_is_newer()
        scaled_up = catdog(server, "scale", 2)
        assert scaled_up.returncode == 0
        scale(server, 1)  # of what is served, not of what lies there now
        with CatDogClient(url) as client:
            assert client.classify(CAT).weights == "efficientnet-lite0-57934424"
        done = catdog(server, "deploy", server.config.archive, "--watch-s", 0)
        assert done.returncode == 0, done.stderr
        version = assert_one_version(server, 1)

        shown = catdog(server, "versions")
        assert re.search(
            rf"^{re.escape(version)} \(default\)  1 of 1 READY +4 +40 ms  60, 120 s +\S+ +catdog."
            rf"mar *\nmodel of {re.escape(version)}: efficientnet_lite0 seeded \(UNTRAINED\), onnx",
            shown.stdout,
            re.MULTILINE,
        ), shown.stdout
        assert (
            f"a restart serves catdog.mar: efficientnet_lite0 seeded (UNTRAINED), onnx fp32, "
            f"catdog 0.1.0, SHA-256 {file_sha256(untrained)}\n" in shown.stdout
        )
        assert "catdog rollback deploys catdog.previous.mar: efficientnet_lite0 efficientnet" in (
            shown.stdout
        )
    with server:
        assert_one_version(server, 1)
        with CatDogClient(url) as client:
            assert client.classify(CAT).weights == "seeded"
        scale(server, 2)
        back = catdog(server, "rollback", "--watch-s", 0)
        assert back.returncode == 0, back.stderr
        assert_one_version(server, 2)  # a deploy keeps the number of workers
        with CatDogClient(url) as client:
            assert client.classify(CAT).weights == "efficientnet-lite0-57934424"
