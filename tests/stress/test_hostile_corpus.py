"""Every hostile input: its own 4xx or the right answer within 2 s, and the worker unmoved."""

import io
import json

import numpy as np
import psutil
import pytest
from PIL import Image, PngImagePlugin

from catdog.classifier import Classifier
from catdog.results import Prediction
from catdog_serving.model_archive import open_archive
from catdog_serving.torchserve.server import TorchServe
from tests.support.archive_cache import BuildArchive
from tests.support.hostile import corpus
from tests.support.images import encode
from tests.support.raw_requests import send_one

MAX_SECONDS = 2.0
MAX_GROWTH_BYTES = 150e6


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")  # Pillow's remarks
def test_the_corpus(
    server: TorchServe, build: BuildArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Texts that the server leaves unread: plain Pillow would refuse the image for them.
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_CHUNK", 1 << 30)
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_MEMORY", 1 << 30)
    url = server.config.inference_url
    hostile = corpus()
    assert len(hostile) >= 60
    (worker,) = server.versions()[0].workers
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
                assert answer.status in (400, 413), (name, answer)
                assert json.loads(answer.body)["type"] == "InvalidImage", name
                refused += 1
        classifier.close()
    growth = process.memory_info().rss - before
    assert server.versions()[0].workers[0].pid == worker.pid
    assert growth < MAX_GROWTH_BYTES
    print(
        f"\n{len(hostile)} inputs: {refused} refused, {right} answered right, slowest "
        f"{slowest:.2f} s, RSS growth {growth / 1e6:.0f} MB"
    )
