"""A deploy that fails, is interrupted or killed leaves all as it was."""

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from catdog_serving.model_archive import file_sha256
from catdog_serving.torchserve.server import TorchServe
from tests.support.archive_cache import BuildArchive
from tests.support.operators import CAT, assert_one_version, catdog, make_broken, started
from tests.support.paths import SAMPLES
from tests.support.processes import wait_until
from tests.support.raw_requests import send_one, steady_load


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("wrong weights", r"chelsea.png got cat 0\.\d+, dog 0\.\d+; model.json says cat 0\.92"),
        ("no network", r"\.mar: InvalidProtobuf: "),
        ("junk", r"is not a model archive"),
        (
            "does not know a dog",
            r"chelsea.png shows a dog, and is called cat: .*--insist",
        ),
        ("changed code", r"its code is not the code that model.json names"),
        ("raises", r"0 of 1 workers of version \d+\.0 are READY, .*ZeroDivisionError"),
        ("never ready", r"0 of 1 workers of version .* worker \d+ is not: not within 6 s"),
        ("other answers", r"chelsea.png got cat 0\.5000, dog .*; model.json says cat 0\.92"),
        ("fails clients", r"version \d+\.0 as the default: .* requests, \d+ failed"),
        ("dies", r"worker \d+ of version \d+\.0 died: "),
        ("another user's", r"belongs to user 12345; an archive is code"),
    ],
)
def test_a_broken_archive_leaves_the_old_version_serving(
    kind: str,
    complaint: str,
    running: TorchServe,
    good: Path,
    tmp_path: Path,
) -> None:
    if kind == "another user's" and os.getuid() != 0:
        pytest.skip("only root can make a file of another user")
    before = assert_one_version(running, 1)
    sha = file_sha256(running.config.archive)
    broken = make_broken(kind, good, tmp_path / "broken.mar")
    # Broken code that lets the golden images pass fails on anything else than PNG.
    body = (SAMPLES / "rocket.jpg").read_bytes() if kind in ("fails clients", "dies") else CAT
    with steady_load(running.config.inference_url, [body], per_s=5) as answers:
        began = time.monotonic()
        patience_s = 6 if kind == "never ready" else 40
        result = catdog(running, "deploy", broken, "--timeout-s", patience_s, "--watch-s", 5)
        seconds = time.monotonic() - began
        wait_until(lambda: bool(answers), "an answer")  # what is refused at once takes no time
    assert result.returncode == 4, (result.stdout, result.stderr)
    assert re.match(rf"catdog: .*{complaint}.*\n\Z", result.stderr), result.stderr
    assert seconds < 90  # TorchServe itself would try for five minutes
    assert assert_one_version(running, 1) == before
    assert file_sha256(running.config.archive) == sha
    answer = send_one(running.config.inference_url, CAT)
    assert (answer.status, json.loads(answer.body)["version"]) == (200, before)
    if kind not in ("fails clients", "dies"):
        assert {answer.status for answer in answers} == {200}


def test_seeded_weights_take_no_trained_ones_place_by_accident(
    running: TorchServe, build: BuildArchive
) -> None:
    before = assert_one_version(running, 1)
    sha = file_sha256(running.config.archive)
    result = catdog(running, "deploy", build("efficientnet_lite0", "seeded", "torch"))
    assert result.returncode == 4
    assert re.fullmatch(r"catdog: .*seeded .*untrained.* with --untrained\n", result.stderr)
    assert (assert_one_version(running, 1), file_sha256(running.config.archive)) == (before, sha)


def test_ctrl_c_undoes_a_deploy_and_nobody_else_changes_the_server_meanwhile(
    running: TorchServe, good: Path, tmp_path: Path
) -> None:
    before = assert_one_version(running, 1)
    endless = make_broken("never ready", good, tmp_path / "endless.mar")
    with started(running, "deploy", endless) as process:
        wait_until(lambda: len(running.versions()) == 2, "a second version")
        for other in (["scale", 2], ["deploy", good], ["rollback"]):
            result = catdog(running, *other)
            assert result.returncode == 3
            assert re.fullmatch(
                rf"catdog: catdog deploy \(process {process.pid}\) is changing this server; .*\n",
                result.stderr,
            )
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "")
    assert f"undone   version {before} serves as before" in output
    assert assert_one_version(running, 1) == before


def test_what_a_killed_deploy_left_goes_with_the_next_command(
    running: TorchServe, good: Path, tmp_path: Path
) -> None:
    before = assert_one_version(running, 1)
    endless = make_broken("never ready", good, tmp_path / "endless.mar")
    with started(running, "deploy", endless) as process:
        wait_until(lambda: len(running.versions()) == 2, "a second version")
        process.kill()
    assert catdog(running, "scale", 1).returncode == 0
    assert assert_one_version(running, 1) == before
