"""GPU settings as far as a machine without one can show them: a stand-in for nvidia-smi."""

from pathlib import Path

import pytest

from catdog.cpu import usable_cores
from catdog_serving.client import CatDogClient
from catdog_serving.monitoring.snapshot import read_status
from catdog_serving.torchserve.server import TorchServe
from tests.support.archive_cache import BuildArchive
from tests.support.configs import MakeConfig
from tests.support.paths import SAMPLES
from tests.support.versions import as_default, loaded_beside

# The two questions that TorchServe asks, and catdog's own, for a machine with two GPUs.
NVIDIA_SMI = """#!/bin/sh
case "$*" in
*--query-gpu=index,uuid*) printf '0, GPU-aaaa\\n1, GPU-bbbb\\n' ;;
*--query-gpu=index*) printf 'index\\n0\\n1\\n' ;;
*) echo 'utilization.gpu [%], utilization.memory [%], memory.used [MiB]'
   echo '1 %, 1 %, 10 MiB' ;;
esac
"""


@pytest.fixture
def _two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "bin" / "nvidia-smi"
    script.parent.mkdir()
    script.write_text(NVIDIA_SMI)
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:/usr/bin:/bin")


@pytest.mark.usefixtures("_two_gpus")
def test_four_workers_are_spread_over_two_gpus_and_onnx_says_that_it_uses_none(
    build: BuildArchive, archive: Path, make_config: MakeConfig
) -> None:
    config = make_config(
        build("efficientnet_lite0", None, "torch"),
        worker_settings={"minWorkers": 4, "maxWorkers": 4},
    )
    with TorchServe(config) as server:
        server.wait_ready(4)
        log = server.run.logs.workers.read_text()
        (model,) = server.versions()
        assert [worker.gpu for worker in model.workers] == [True] * 4
        # torch sees no CUDA on this machine, and each worker says which GPU it was given.
        given = sorted(
            line.split("was given ")[1].split(",")[0]
            for line in log.splitlines()
            if "torch sees no CUDA device" in line
        )
        assert given == ["cuda:0", "cuda:0", "cuda:1", "cuda:1"]
        facts = read_status(server).to_dict()["model"]
        assert facts["device"] == "cpu"
        assert facts["threads"] == max(1, usable_cores() // 4)
        with CatDogClient(config.inference_url) as client:
            assert client.classify(SAMPLES / "chelsea.png").label == "cat"

        with loaded_beside(server, archive) as version, as_default(server, version):
            told = "package with --runtime torch to use the GPU"
            assert told in server.run.logs.workers.read_text()
            status = read_status(server)
            assert status.facts is not None
            assert status.facts["device"] == "cpu"
            assert status.models[0].version == version
            assert status.models[0].workers[0].gpu
            assert "a GPU was given" in status.model_line


@pytest.mark.usefixtures("_two_gpus")
def test_without_settings_a_torch_archive_gets_a_worker_a_gpu_and_an_onnx_archive_none(
    build: BuildArchive, archive: Path, make_config: MakeConfig
) -> None:
    with_torch = make_config(build("efficientnet_lite0", None, "torch"))
    assert (with_torch.gpus, with_torch.served_worker_settings["minWorkers"]) == (2, 2)
    assert with_torch.default_jobs == 2 * 2 * 8
    with_onnx = make_config(archive)
    assert (with_onnx.gpus, with_onnx.served_worker_settings["minWorkers"]) == (0, 1)
