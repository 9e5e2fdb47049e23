"""Scale, deploy and roll back a real TorchServe; what fails leaves all as it was.

The archive that is served first can be told to be slow, and the broken ones are its copies.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from catdog_serving.client import CatDogClient
from catdog_serving.model_archive import archive_version, file_sha256
from catdog_serving.operate.scale import scale
from catdog_serving.operate.server import TorchServe
from tests.archives import repack, with_handler
from tests.conftest import SAMPLES, BuildArchive, MakeConfig
from tests.loads import Answer, send_all, send_one, steady_load
from tests.processes import processes_of, wait_until

CAT = (SAMPLES / "chelsea.png").read_bytes()
BATCHING: dict[str, object] = {"batchSize": 4, "maxBatchDelay": 7}  # not TorchServe's defaults
CLOCK = "        clock = StageClock()\n"  # the first line of `handle` for a batch of pictures
TELEMETRY = "        self.telemetry.started()\n"  # in `initialize`
SLOW = """
        if context.get_request_header(0, "X-Slow"):
            import time
            time.sleep(4)
"""


@pytest.fixture(scope="module")
def good(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """efficientnet_lite0, whose batch takes 4 s longer if its first request says X-Slow."""
    target = tmp_path_factory.mktemp("good") / "good.mar"
    return with_handler(archive, target, CLOCK, SLOW + CLOCK)


@pytest.fixture(scope="module")
def running(good: Path, make_config: MakeConfig) -> Iterator[TorchServe]:
    with TorchServe(make_config(good, batching=BATCHING)) as server:
        yield server


def start(server: TorchServe, *arguments: object) -> subprocess.Popen[str]:
    """A command of an operator, as a shell in the foreground would start it."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "catdog_serving", *map(str, arguments)),
            *("--config", str(server.config.path)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "COLUMNS"} | {"COLUMNS": "200"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def catdog(server: TorchServe, *arguments: object) -> subprocess.CompletedProcess[str]:
    process = start(server, *arguments)
    try:
        output, errors = process.communicate(timeout=240)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def assert_one_version(server: TorchServe, workers: int) -> str:
    """One version is loaded, with config.properties' settings, and nothing lies about."""
    (model,) = server.versions()
    assert model.default
    assert (model.ready_workers, len(model.workers)) == (workers, workers)
    assert (model.batch_size, model.max_batch_delay_ms) == (4, 7)
    assert (model.response_timeout_s, model.startup_timeout_s) == (60, 120)
    wait_until(lambda: len(processes_of(server)) == 1 + workers, "no other worker")
    assert len(list((server.run.temporary / "models").iterdir())) == 1
    files = {path.name for path in server.config.model_store.iterdir()}
    assert files <= {"catdog.mar", "catdog.previous.mar"}
    assert not (server.run.path / "rollover.json").exists()
    return model.version


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
    """The queue is empty, both workers compute for 4 s: what a scale-down by hand loses."""
    scale(running, 2)
    url = running.config.inference_url
    slow = {"X-Slow": "yes"}
    with steady_load(url, [CAT], per_s=1):
        process = start(running, "scale", 1)
        wait_until(lambda: len(running.versions()) == 2, "a second version")
        wait_until(lambda: running.versions()[1].ready_workers == 1, "its worker")
        answers: list[Answer] = send_all(url, [(CAT, slow)] * 8, 8)  # two full batches
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, (output, errors)
    assert [answer.status for answer in answers] == [200] * 8
    assert_one_version(running, 1)


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("wrong weights", r"chelsea.png got cat 0\.\d+, dog 0\.\d+; model.json says cat 0\.92"),
        ("no network", r"\.mar: InvalidProtobuf: "),
        ("junk", r"is not a model archive"),
        ("changed code", r"its code is not the code that model.json names"),
        ("raises", r"0 of 1 workers of version \d+\.0 are READY, .*ZeroDivisionError"),
        ("never ready", r"0 of 1 workers of version .* worker \d+ is not: not within 6 s"),
        ("other answers", r"chelsea.png got cat 0\.5000, dog .*; model.json says cat 0\.92"),
        ("fails clients", r"version \d+\.0 as the default: .* requests, \d+ failed"),
        # Whichever is seen first: the worker is gone, or its request has failed.
        ("dies", r"(worker \d+ of version \d+\.0 died: |requests, \d+ failed)"),
        ("another user's", r"belongs to user 12345; an archive is code"),
    ],
)
def test_a_broken_archive_leaves_the_old_version_serving(
    kind: str,
    complaint: str,
    running: TorchServe,
    good: Path,
    build: BuildArchive,
    tmp_path: Path,
) -> None:
    if kind == "another user's" and os.getuid() != 0:
        pytest.skip("only root can make a file of another user")
    before = assert_one_version(running, 1)
    sha = file_sha256(running.config.archive)
    broken = make_broken(kind, good, build, tmp_path / "broken.mar")
    # Broken code that lets the golden pictures pass fails on anything else than PNG.
    body = (SAMPLES / "rocket.jpg").read_bytes() if kind in ("fails clients", "dies") else CAT
    with steady_load(running.config.inference_url, [body], per_s=5) as answers:
        began = time.monotonic()
        result = catdog(running, "deploy", broken, "--timeout-s", 6, "--watch-s", 5)
        seconds = time.monotonic() - began
    assert result.returncode == 4, (result.stdout, result.stderr)
    assert re.match(rf"catdog: .*{complaint}.*\n\Z", result.stderr), result.stderr
    assert seconds < 45
    assert assert_one_version(running, 1) == before
    assert file_sha256(running.config.archive) == sha
    answer = send_one(running.config.inference_url, CAT)
    assert (answer.status, json.loads(answer.body)["version"]) == (200, before)
    if kind not in ("fails clients", "dies"):
        assert {answer.status for answer in answers} == {200}


def make_broken(kind: str, good: Path, build: BuildArchive, target: Path) -> Path:
    match kind:
        case "wrong weights":
            with zipfile.ZipFile(build("efficientnet_lite0", "seeded")) as other:
                return repack(good, target, model_onnx=other.read("model.onnx"))
        case "no network":
            return repack(good, target, model_onnx=b"this is no network")
        case "junk":
            target.write_bytes(b"junk")
            return target
        case "changed code":
            return repack(good, target, catdog_handler_py=b"class CatDogHandler: pass\n")
        case "raises":
            return with_handler(good, target, TELEMETRY, TELEMETRY + "        1 / 0\n")
        case "never ready":
            sleep = "        import time\n        time.sleep(1000)\n"
            return with_handler(good, target, TELEMETRY, TELEMETRY + sleep)
        case "other answers":
            found = "            return _to_json(result.to_dict())\n"
            return with_handler(good, target, found, found.replace(")\n", ' | {"cat": 0.5})\n', 1))
        case "fails clients" | "dies":
            harm = "raise RuntimeError" if kind == "fails clients" else "os._exit(1)"
            condition = 'data and bytes(data[0].get("body", b""))[:2] == b"\\xff\\xd8"'
            return with_handler(
                good, target, CLOCK, f"        if {condition}:\n            {harm}\n" + CLOCK
            )
        case "another user's":
            target.write_bytes(good.read_bytes())
            os.chown(target, 12345, 12345)
            return target
        case _:
            raise AssertionError(kind)


def test_ctrl_c_undoes_a_deploy_and_nobody_else_changes_the_server_meanwhile(
    running: TorchServe, good: Path, tmp_path: Path
) -> None:
    before = assert_one_version(running, 1)
    endless = make_broken("never ready", good, None, tmp_path / "endless.mar")  # type: ignore[arg-type]
    process = start(running, "deploy", endless)
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
    endless = make_broken("never ready", good, None, tmp_path / "endless.mar")  # type: ignore[arg-type]
    process = start(running, "deploy", endless)
    wait_until(lambda: len(running.versions()) == 2, "a second version")
    process.kill()
    process.communicate()
    assert catdog(running, "scale", 1).returncode == 0
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
            rf"^{re.escape(version)} \(default\)  1 of 1 READY +4 +7 ms  60, 120 s +\S+ +catdog.mar"
            rf" *\nmodel of {re.escape(version)}: efficientnet_lite0 seeded \(UNTRAINED\), onnx",
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
