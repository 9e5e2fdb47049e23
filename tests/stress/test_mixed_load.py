"""2,000 requests, a tenth of them bad: every good one right, every bad one refused, no 5xx."""

import json
import random
from pathlib import Path

import psutil
import pytest

from catdog_serving.client import CatDogClient
from catdog_serving.torchserve.server import TorchServe
from tests.support.hostile import corpus
from tests.support.paths import SAMPLES
from tests.support.raw_requests import send_all, send_one

REQUESTS = 2000
CONCURRENCY = 32
REFUSED = (400, 413, 415)
OCTETS = {"Content-Type": "application/octet-stream"}


def bad_requests() -> dict[str, tuple[bytes, dict[str, str]]]:
    """More than twelve kinds, by name."""
    hostile = corpus()
    kinds = {
        name: (hostile[name], OCTETS)
        for name in (
            *("0 bytes", "1 byte", "JPEG cut at 30%", "PNG cut at 90%", "GIF cut at 2%"),
            *("PNG, 60,000 x 60,000 claimed", "1 x 60,000", "TIFF", "HTML", "zip", "SVG", "PDF"),
            *("PNG with 20 flipped bits, 1", "JPEG, lossless", "BMP, 2^31 - 1 wide", "zeros"),
        )
    }
    kinds["JSON body"] = (b'{"image": "AAAA"}', {"Content-Type": "application/json"})
    kinds["text body"] = (b"a cat, please", {"Content-Type": "text/plain"})
    kinds["form body"] = (b"image=cat", {"Content-Type": "application/x-www-form-urlencoded"})
    kinds["describe header"] = (b"", OCTETS | {"describe": "True"})
    kinds["explain header"] = (b"x", OCTETS | {"explain": "True"})
    return kinds


def test_mixed_load(served: TorchServe, photos: list[Path]) -> None:
    url = served.config.inference_url
    (worker,) = served.versions()[0].workers
    with CatDogClient(url) as client:
        alone = {
            path: client.classify(path).to_dict() for path in [*photos, SAMPLES / "rocket.jpg"]
        }
    bad = bad_requests()
    assert len(bad) >= 12

    order = random.Random(2)
    plan: list[Path | str] = [
        order.choice(list(bad)) if number % 10 == 0 else order.choice(list(alone))
        for number in range(REQUESTS)
    ]
    order.shuffle(plan)
    contents = {path: path.read_bytes() for path in alone}
    answers = send_all(
        url,
        (bad[item] if isinstance(item, str) else (contents[item], OCTETS) for item in plan),
        CONCURRENCY,
    )

    worst = 0.0
    refused = 0
    for item, answer in zip(plan, answers, strict=True):
        if isinstance(item, str):
            assert answer.status in REFUSED, (item, answer)
            assert json.loads(answer.body)["type"] == "InvalidImage"
            refused += 1
        else:
            assert answer.status == 200, (item, answer)
            got = json.loads(answer.body)
            assert got["label"] == alone[item]["label"]
            worst = max(worst, *(abs(got[k] - alone[item][k]) for k in ("cat", "dog")))
    assert worst <= 1e-5
    assert psutil.pid_exists(worker.pid)
    assert served.versions()[0].workers[0].pid == worker.pid
    seconds = sorted(a.seconds for a in answers)
    print(
        f"\n{REQUESTS} requests, {refused} bad of {len(bad)} kinds, concurrency {CONCURRENCY}: "
        f"no 5xx, masses within {worst:.1e}, p50 {seconds[1000]:.3f} s, p99 {seconds[1980]:.3f} s"
    )


@pytest.mark.parametrize("name", bad_requests())
def test_each_bad_kind_alone(served: TorchServe, name: str) -> None:
    answer = send_one(served.config.inference_url, *bad_requests()[name])
    assert answer.status in REFUSED
    assert (answer.status == 415) == (name == "TIFF")
