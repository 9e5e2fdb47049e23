"""Small files that take a decoder long hold up nobody: not the worker, not their batch."""

import json
import time

import pytest

from catdog.decode import HTTP_FORMATS
from catdog.structure import detect_format
from catdog_serving.client import CatDogClient
from catdog_serving.torchserve.server import TorchServe
from tests.support import bombs
from tests.support.json_bodies import JSON, hostile
from tests.support.raw_requests import Answer, send_all

CAT = bombs.cat()
IMAGE = {"Content-Type": "image/jpeg"}


def among_neighbours(
    server: TorchServe, body: bytes, headers: dict[str, str]
) -> tuple[Answer, list[Answer]]:
    """Send a body while seven good images are on their way, so that they share its batch."""
    good = [(CAT, IMAGE)] * 7
    answers = send_all(server.config.inference_url, [*good[:3], (body, headers), *good[3:]], 8)
    return answers.pop(3), answers


def test_bombs_are_refused_and_their_neighbours_answered(
    server: TorchServe, client: CatDogClient
) -> None:
    expected = client.classify(CAT)
    worker = server.versions()[0].workers[0].pid
    sent = {
        name: data for name, data in bombs.refused().items() if detect_format(data) in HTTP_FORMATS
    }
    assert len(sent) >= 10
    for name, data in sent.items():
        bomb, neighbours = among_neighbours(server, data, IMAGE)
        print(f"{name}: {bomb.status} in {bomb.seconds:.2f} s")
        assert bomb.status == 413, name
        assert "the image takes too long to decode" in json.loads(bomb.body)["message"], name
        for answer in neighbours:
            assert answer.status == 200, name
            assert json.loads(answer.body)["cat"] == pytest.approx(expected.cat, abs=1e-5), name
    assert server.versions()[0].workers[0].pid == worker


def test_what_no_pixel_needs_changes_no_answer(server: TorchServe, client: CatDogClient) -> None:
    for name, data in bombs.read().items():
        if detect_format(data) not in HTTP_FORMATS:
            continue
        start = time.monotonic()
        answer = client.classify(data)
        print(f"{name}: {time.monotonic() - start:.2f} s")
        plain = client.classify(bombs.cat(detect_format(data) or "PNG"))
        assert answer.cat == pytest.approx(plain.cat, abs=1e-5), name


def test_a_strangers_json_costs_what_an_image_of_its_size_does(server: TorchServe) -> None:
    worker = server.versions()[0].workers[0]
    for name, body, said in hostile(CAT):
        bomb, neighbours = among_neighbours(server, body, JSON)
        print(f"{name}, {len(body)} bytes: {bomb.seconds:.2f} s")
        assert (bomb.status, json.loads(bomb.body)["type"]) == (400, "InvalidImage"), name
        assert said in json.loads(bomb.body)["message"], name
        assert [answer.status for answer in neighbours] == [200] * 7, name
        after = server.versions()[0].workers[0]
        assert after.pid == worker.pid, name
        # Parsed, the lists alone would be 700 MB; the body itself is there a few times.
        assert after.memory_bytes
        assert worker.memory_bytes
        assert after.memory_bytes - worker.memory_bytes < 300e6, name
