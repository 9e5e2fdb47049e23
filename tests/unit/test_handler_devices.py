"""Which device a worker computes on, and what it does when a GPU is full or fails."""

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

import catdog.engines.torch
from catdog.classifier import Classifier
from catdog.engines import DeviceLostError, ModelOutput, OutOfDeviceMemoryError
from catdog.engines.placement import Placement
from catdog_handler import EXIT_DEVICE_LOST, CatDogHandler
from tests.support.handlers import RED, context_for, prepared_handler
from tests.support.model_dirs import ColourEngine, model_info, write_model_dir


@pytest.fixture
def loaded_on(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Records the device of each torch engine instead of loading a network."""
    devices: list[str] = []

    def record(path: Path, info: object, placement: Placement, threads: int) -> ColourEngine:
        devices.append(placement.device)
        return ColourEngine()

    monkeypatch.setattr(catdog.engines.torch, "TorchEngine", record)
    return devices


def initialize(tmp_path: Path, gpu: int | None) -> None:
    model_dir = write_model_dir(tmp_path, model_info(runtime="torch"))
    CatDogHandler().initialize(context_for({}, model_dir=model_dir, gpu=gpu))


@pytest.mark.parametrize("gpu", [0, 1, 3])
def test_a_worker_takes_its_own_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loaded_on: list[str], gpu: int
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    initialize(tmp_path, gpu)
    assert loaded_on == [f"cuda:{gpu}"]


@pytest.mark.parametrize("named", ["GPU-aaaa", ""])
@pytest.mark.usefixtures("loaded_on")
def test_cuda_sees_the_gpus_that_the_shell_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    """Java, which cannot read UUIDs, is told nothing of them."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "what is put back after the test")
    monkeypatch.setenv("CATDOG_VISIBLE_DEVICES", named)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    initialize(tmp_path, 0)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == named


def test_without_cuda_a_gpu_worker_takes_the_cpu_and_warns(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    loaded_on: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with caplog.at_level(logging.WARNING):
        initialize(tmp_path, 1)
    assert loaded_on == ["cpu"]
    assert "this worker was given cuda:1" in caplog.text


def test_a_worker_without_a_gpu_takes_the_cpu(tmp_path: Path, loaded_on: list[str]) -> None:
    initialize(tmp_path, None)
    assert loaded_on == ["cpu"]


@pytest.mark.parametrize(("cuda", "device"), [(True, "cuda:0"), (False, "cpu")])
def test_who_names_no_device_gets_the_archives(
    cuda: bool,
    device: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    loaded_on: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    with caplog.at_level(logging.WARNING):
        Classifier.load(write_model_dir(tmp_path, model_info(runtime="torch"))).close()
    assert loaded_on == [device]
    assert caplog.text == ""


class FailingEngine(ColourEngine):
    """An engine on a GPU that has failed."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def run(self, images: Sequence[np.ndarray]) -> ModelOutput:
        raise self.error


def test_without_device_memory_images_get_503_and_the_worker_lives(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    handler, context = prepared_handler(tmp_path, [{"X-Request-Id": "mine"}, {}, {}])
    working = handler.classifier._engine
    handler.classifier._engine = FailingEngine(OutOfDeviceMemoryError("no memory left"))
    rows = [{"body": RED}, {"body": bytearray(b"junk")}, {"body": RED}]
    with caplog.at_level(logging.INFO):
        answers = [json.loads(body) for body in handler.handle(rows, context)]
    assert [answer["code"] for answer in answers] == [503, 400, 503]
    assert context.get_response_status(2) == (503, "Service Unavailable")
    assert context.get_response_headers(0)["X-Client-Request-Id"] == "mine"
    assert caplog.text.count("status=503 result=no_memory") == 2
    handler.classifier._engine = working
    (body,) = handler.handle([{"body": RED}], context)
    assert json.loads(body)["label"] == "cat"


def test_a_lost_gpu_ends_the_worker(tmp_path: Path) -> None:
    """In a process of its own: it would answer every later batch with an error."""
    handler, context = prepared_handler(tmp_path, [{}])
    handler.classifier._engine = FailingEngine(DeviceLostError("cuda:0 failed"))
    child = os.fork()
    if child == 0:
        handler.handle([{"body": RED}], context)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == EXIT_DEVICE_LOST
