"""GPU settings as far as a machine without one can show them: a stand-in for nvidia-smi."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from catdog.cpu import usable_cores
from catdog_serving.client import CatDogClient
from catdog_serving.monitoring.snapshot import read_status
from catdog_serving.rollout.deploy import DeployTimes, deploy
from catdog_serving.rollout.scale import scale
from catdog_serving.torchserve.server import TorchServe
from tests.support.archive_cache import BuildArchive
from tests.support.configs import MakeConfig
from tests.support.nvidia_smi import install_nvidia_smi
from tests.support.paths import SAMPLES
from tests.support.versions import as_default, loaded_beside


@pytest.fixture(scope="module")
def nvidia_smi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """It says that there are two GPUs."""
    with pytest.MonkeyPatch.context() as patch:
        yield install_nvidia_smi(tmp_path_factory.mktemp("nvidia"), patch)


@pytest.fixture(scope="module")
def on_gpus(nvidia_smi: Path, build: BuildArchive, make_config: MakeConfig) -> Iterator[TorchServe]:
    """Two workers for each."""
    packed = build("efficientnet_lite0", None, "torch")
    with TorchServe(make_config(packed, workers_per_gpu="2")) as server:
        server.wait_ready(4)
        yield server


def spread(server: TorchServe) -> list[int]:
    """How many workers of the default version each GPU has, as `catdog status` tells."""
    status = read_status(server)
    given = Counter(worker.gpu_id for worker in status.models[0].workers)
    assert [gpu.id for gpu in status.gpus] == [0, 1]
    assert sum(len(gpu.workers) for gpu in status.gpus) == sum(
        len(model.workers) for model in status.models
    )
    return [given[0], given[1]]


def test_workers_are_spread_over_two_gpus_and_share_the_cores(on_gpus: TorchServe) -> None:
    assert spread(on_gpus) == [2, 2]
    # torch sees no CUDA on this machine, and each worker says which GPU it was given.
    given = sorted(
        line.split("was given ")[1].split(",")[0]
        for line in on_gpus.run.logs.workers.read_text().splitlines()
        if "torch sees no CUDA device" in line
    )
    assert given == ["cuda:0", "cuda:0", "cuda:1", "cuda:1"]
    facts = read_status(on_gpus).to_dict()["model"]
    assert facts["device"] == "cpu"
    assert facts["threads"] == max(1, usable_cores() // 4)
    with CatDogClient(on_gpus.config.inference_url) as client:
        assert client.classify(SAMPLES / "chelsea.png").label == "cat"


def test_onnx_says_that_it_does_not_use_the_gpu(on_gpus: TorchServe, archive: Path) -> None:
    with loaded_beside(on_gpus, archive) as version, as_default(on_gpus, version):
        told = "package with --runtime torch to use the GPU"
        assert told in on_gpus.run.logs.workers.read_text()
        status = read_status(on_gpus)
        assert status.facts is not None
        assert status.facts["device"] == "cpu"
        assert status.models[0].version == version
        assert status.models[0].workers[0].gpu
        assert "a GPU was given" in status.model_line


def test_an_nvidia_smi_that_hangs_neither_hangs_torchserve_nor_us(
    on_gpus: TorchServe, nvidia_smi: Path
) -> None:
    says = nvidia_smi.read_text()
    nvidia_smi.write_text("#!/bin/sh\nexec sleep 600\n")
    try:
        status = read_status(on_gpus)
    finally:
        nvidia_smi.write_text(says)
    assert status.is_ready
    assert [(len(gpu.workers), gpu.device) for gpu in status.gpus] == [(2, None), (2, None)]


def test_scale_and_deploy_keep_the_spread(on_gpus: TorchServe) -> None:
    """A number that is no multiple of the GPUs is spread as evenly as it can be."""
    scale(on_gpus, 3)
    assert sorted(spread(on_gpus)) == [1, 2]
    deploy(on_gpus, on_gpus.config.archive, DeployTimes(watch=1))
    assert sorted(spread(on_gpus)) == [1, 2]
    scale(on_gpus, 4)
    assert spread(on_gpus) == [2, 2]


@pytest.mark.usefixtures("nvidia_smi")
def test_without_settings_a_torch_archive_gets_its_workers_on_each_gpu_and_onnx_none(
    build: BuildArchive, archive: Path, make_config: MakeConfig
) -> None:
    with_torch = make_config(build("efficientnet_lite0", None, "torch"))
    workers = 2 * with_torch.workers_per_gpu
    assert (len(with_torch.gpus), with_torch.served_worker_settings["minWorkers"]) == (2, workers)
    assert with_torch.default_jobs == 2 * workers * 8
    with_onnx = make_config(archive)
    assert (with_onnx.gpus, with_onnx.served_worker_settings["minWorkers"]) == ([], 1)
