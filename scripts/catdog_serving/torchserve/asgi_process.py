"""Start the server without Java in the run directory of a configuration, in place of TorchServe."""

import importlib.util
import subprocess
import sys
from pathlib import Path

from catdog_serving.asgi.settings import AsgiSettings
from catdog_serving.errors import NotReadyError
from catdog_serving.extras import install_hint
from catdog_serving.model_archive import archive_runtime, unpack
from catdog_serving.torchserve.java import server_environment
from catdog_serving.torchserve.run_directory import ASGI_MODULE, RunDirectory
from catdog_serving.torchserve.serving_config import ServingConfig

_RUNTIMES = {"onnx": "onnxruntime", "torch": "torch"}


def check_packages(archive: Path) -> None:
    """Raises NotReadyError if a package that it needs is not installed."""
    for name in ("starlette", "uvicorn", _RUNTIMES[archive_runtime(archive) or "onnx"]):
        if importlib.util.find_spec(name) is None:
            raise NotReadyError(f"--server asgi needs {name}; run: {install_hint('asgi')}")


def start_asgi(config: ServingConfig, run: RunDirectory) -> subprocess.Popen[bytes]:
    """Unpack the archive and start the server on it, in a session of its own."""
    model_dir = run.temporary / "model"
    unpack(config.archive, model_dir)
    _settings(config, run).write(run.asgi_settings)
    with run.logs.console.open("wb") as console:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", ASGI_MODULE, str(run.asgi_settings)],
            cwd=run.path,
            # The archive's code comes first, as in TorchServe's workers.
            env=server_environment(run) | {"PYTHONPATH": str(model_dir)},
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _settings(config: ServingConfig, run: RunDirectory) -> AsgiSettings:
    served = config.version_settings(config.archive, workers=1)
    values = config.with_absolute_paths()
    return AsgiSettings(
        model_dir=str(run.temporary / "model"),
        model_url=config.archive.name,
        inference_address=config.inference_url,
        management_address=config.management_url,
        metrics_address=config.metrics_url,
        metrics_config=values["metrics_config"],
        log_folder=str(run.logs.folder),
        key_file=None if config.is_loopback_only() else str(run.key_file),
        token_expiration_min=config.token_expiration_min,
        batch_size=served.batch_size,
        max_batch_delay_ms=served.max_batch_delay_ms,
        job_queue_size=config.job_queue_size,
        max_request_size=config.max_request_size,
        response_timeout_s=served.response_timeout_s,
        startup_timeout_s=served.startup_timeout_s,
        gpu_id=0 if config.gpus else None,
    )
