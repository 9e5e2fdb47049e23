"""Every hostile input: its own 4xx or the right answer within 2 s, and the worker unmoved."""

import io
import json

import numpy as np
import psutil
import pytest
from PIL import Image, PngImagePlugin

from catdog.classifier import Classifier
from catdog.decode import HTTP_FORMATS
from catdog.results import Prediction
from catdog.structure import detect_format
from catdog_serving.model_archive import open_archive
from catdog_serving.torchserve.server import TorchServe
from tests.support import bombs
from tests.support.archive_cache import BuildArchive
from tests.support.hostile import corpus
from tests.support.images import encode
from tests.support.raw_requests import send_all, send_one

MAX_SECONDS = 2.0
MAX_GROWTH_BYTES = 150e6


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")  # Pillow's remarks
def test_the_corpus(
    served: TorchServe, build: BuildArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Texts that the server leaves unread: plain Pillow would refuse the image for them.
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_CHUNK", 1 << 30)
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_MEMORY", 1 << 30)
    url = served.config.inference_url
    hostile = corpus()
    assert len(hostile) >= 60
    (worker,) = served.versions()[0].workers
    process = psutil.Process(worker.pid)
    before = process.memory_info().rss
    right = refused = 0
    slowest = 0.0
    with open_archive(build("efficientnet_lite0")) as model_dir:
        classifier = Classifier.load(model_dir)
        for name, data in hostile.items():
            answer = send_one(url, data, {"Content-Type": "image/jpeg"})
            slowest = max(slowest, answer.seconds)
            assert answer.seconds < MAX_SECONDS, name
            if answer.status == 200:
                # The right answer is what the plain Pillow reading of the file gives.
                plain = Image.open(io.BytesIO(data)).convert("RGB")
                (expected,) = classifier.classify([encode(plain, "PNG")])
                assert isinstance(expected, Prediction)
                got = json.loads(answer.body)
                np.testing.assert_allclose(
                    (got["cat"], got["dog"]), (expected.cat, expected.dog), atol=1e-5, err_msg=name
                )
                right += 1
            else:
                assert answer.status in (400, 413, 415), (name, answer)
                assert json.loads(answer.body)["type"] == "InvalidImage", name
                refused += 1
        classifier.close()
    growth = process.memory_info().rss - before
    assert served.versions()[0].workers[0].pid == worker.pid
    assert growth < MAX_GROWTH_BYTES
    print(
        f"\n{len(hostile)} inputs: {refused} refused, {right} answered right, slowest "
        f"{slowest:.2f} s, RSS growth {growth / 1e6:.0f} MB"
    )


def test_what_is_more_work_than_its_pixels(served: TorchServe) -> None:
    """Of every format, up to the largest body: a 4xx of its own, or the plain image's answer."""
    url = served.config.inference_url
    image = {"Content-Type": "image/jpeg"}
    read = bombs.read()
    dear = bombs.refused() | bombs.refused_in_folders() | read
    assert len(dear) >= 24 + 40
    cat = json.loads(send_one(url, bombs.cat(), image).body)
    worker = served.versions()[0].workers[0].pid
    slowest, statuses = 0.0, dict.fromkeys((200, 413, 415), 0)
    for name, data in dear.items():
        before, answer, after = send_all(url, [(bombs.cat(), image), (data, image)] * 2, 4)[:3]
        slowest = max(slowest, answer.seconds)
        assert answer.seconds < MAX_SECONDS, name
        for neighbour in (before, after):
            assert neighbour.status == 200, name
            assert json.loads(neighbour.body)["cat"] == pytest.approx(cat["cat"], abs=1e-5), name
        kind = detect_format(data)
        if kind not in HTTP_FORMATS:
            assert answer.status == 415, name
        elif name in read:
            plain = json.loads(send_one(url, bombs.cat(kind), image).body)
            assert json.loads(answer.body)["cat"] == pytest.approx(plain["cat"], abs=1e-5), name
        else:
            assert answer.status == 413, name
            assert "takes too long to decode" in json.loads(answer.body)["message"], name
        statuses[answer.status] += 1
    assert served.versions()[0].workers[0].pid == worker
    print(f"\n{len(dear)} inputs: {statuses}, slowest {slowest:.2f} s")
