"""Three minutes of plain clients while an operator scales, deploys and rolls back."""

import json
import time
from collections import Counter
from pathlib import Path

import numpy as np

from catdog_serving.rollout.deploy import DeployTimes, Trust, deploy
from catdog_serving.rollout.rollback import rollback
from catdog_serving.rollout.scale import scale
from catdog_serving.torchserve.server import TorchServe
from tests.support.archive_cache import BuildArchive
from tests.support.configs import MakeConfig
from tests.support.processes import wait_until
from tests.support.raw_requests import steady_load

PER_S = 15
SECONDS = 180


def test_three_minutes_of_operating_lose_no_request(
    archive: Path, build: BuildArchive, make_config: MakeConfig, photos: list[Path]
) -> None:
    untrained = build("efficientnet_lite0", "seeded")
    bodies = [path.read_bytes() for path in photos]
    trained = "efficientnet-lite0-57934424"
    weights = {"1.0": trained, "2.0": trained, "3.0": "seeded", "4.0": trained}
    times: list[str] = []

    with TorchServe(make_config(archive)) as server:
        start = time.monotonic()

        def note(what: str) -> None:
            (model,) = server.versions()
            times.append(f"{what}, version {model.version}, at {time.monotonic() - start:.0f} s")

        def until(seconds: float) -> None:
            wait_until(lambda: time.monotonic() - start >= seconds, f"{seconds} s", SECONDS)

        with steady_load(server.config.inference_url, bodies, PER_S) as answers:
            until(15)
            scale(server, 2)
            note("2 workers")
            until(45)
            scale(server, 1)
            note("1 worker")
            until(75)
            deploy(server, untrained, trust=Trust(untrained=True))
            note("deployed")
            until(120)
            rollback(server, DeployTimes())
            note("rolled back")
            until(SECONDS)

    statuses = Counter(answer.status for answer in answers)
    bodies_back = [json.loads(answer.body) for answer in answers if answer.status == 200]
    by_version = Counter(body["version"] for body in bodies_back)
    p50, p99 = np.percentile([answer.seconds for answer in answers], [50, 99]) * 1000
    slowest = max(answer.seconds for answer in answers) * 1000
    print(
        f"\n{len(answers)} requests in {SECONDS} s, statuses {dict(statuses)}, by version "
        f"{dict(by_version)}; p50 {p50:.0f} ms, p99 {p99:.0f} ms, slowest {slowest:.0f} ms\n"
        + ", ".join(times)
    )
    assert statuses == {200: len(answers)}
    assert len(answers) > 0.9 * PER_S * SECONDS
    assert set(by_version) == set(weights)
    for body in bodies_back:
        assert body["weights"] == weights[body["version"]]
