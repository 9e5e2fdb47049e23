"""`catdog autoscale` beside a real server: a restart, a dry run, the end."""

import signal

from catdog_serving.torchserve.server import TorchServe
from tests.support.autoscalers import following
from tests.support.paths import SAMPLES
from tests.support.processes import wait_until
from tests.support.raw_requests import send_one

CAT = (SAMPLES / "chelsea.png").read_bytes()


def test_it_waits_for_a_server_that_is_started_again(own: TorchServe) -> None:
    # A minimum that the server does not have shows that it acts again.
    with following(own.config.path, "--min", "1", "--max", "2", "--interval", "0.5") as scaler:
        scaler.wait_for("1 worker: ")
        own.stop()
        scaler.wait_for("the server is away, waiting for it: no management API at ")
        own.start()
        scaler.wait_for("the server is back")
        assert scaler.text.count("is away") == 1
        assert scaler.end(signal.SIGINT) == 130
        assert "Traceback" not in scaler.text


def test_a_dry_run_changes_nothing(own: TorchServe) -> None:
    with following(own.config.path, "--min", "2", "--max", "2", "--dry-run") as scaler:
        scaler.wait_for("would scale 1 -> 2: --min is 2 and --max is 2")
        assert scaler.end(signal.SIGTERM) == 0
    assert len(own.versions()[0].workers) == 1


def test_the_end_in_the_middle_of_a_scale_down_leaves_one_version(own: TorchServe) -> None:
    with following(own.config.path, "--min", "2", "--max", "2", "--interval", "0.5") as scaler:
        scaler.wait_for("2 workers READY after ")
        assert scaler.end(signal.SIGTERM) == 0
    with following(own.config.path, "--min", "1", "--max", "1", "--interval", "0.5") as scaler:
        scaler.wait_for("scale 2 -> 1: --min is 1 and --max is 1")
        wait_until(lambda: len(own.versions()) == 2, "the second version")
        assert scaler.end(signal.SIGTERM) == 0
    (model,) = own.versions()
    assert model.ready_workers in (1, 2)  # finished, or undone
    assert send_one(own.config.inference_url, CAT).status == 200
