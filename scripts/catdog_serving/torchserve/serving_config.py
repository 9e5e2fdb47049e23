"""config.properties: read it, check what goes wrong, write the copy that a server runs on."""

import json
import os
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from catdog.cpu import usable_cores
from catdog.results import MODEL_NAME
from catdog_serving.config_folder import FILE, config_folder, data_folder, is_shipped
from catdog_serving.errors import NotReadyError
from catdog_serving.http_session import is_loopback, socket_path
from catdog_serving.model_archive import archive_runtime, archive_settings, archive_version
from catdog_serving.torchserve.config_keys import (
    KEYS,
    LOG_OPTION,
    check_values,
    java_options,
)
from catdog_serving.torchserve.gpus import Gpu, choose_workers_per_gpu, visible_gpus
from catdog_serving.torchserve.management import VersionSettings
from catdog_serving.torchserve.properties import parse_properties, write_properties

ADDRESSES = ("inference_address", "management_address", "metrics_address")
GRPC = (
    ("grpc_inference_address", "grpc_inference_port"),
    ("grpc_management_address", "grpc_management_port"),
)
ADDRESS_KEYS = (*ADDRESSES, *(key for pair in GRPC for key in pair))
_TORCHSERVE_QUEUE = 100  # its defaults
_TORCHSERVE_REQUEST = 6_553_500
_TORCHSERVE_TIMEOUT_S = 120  # for both time-outs
_TOKEN_MINUTES = 365 * 24 * 60  # TorchServe's own default is 60
_PATHS = ("model_store", "metrics_config")
# TorchServe's ConfigManager puts an environment variable there.
_VARIABLE = re.compile(r"\$\$[^$]+\$\$")


@dataclass(frozen=True)
class ServingConfig:
    """The values of one config.properties.

    Attributes:
        path: The file.
        values: Its keys and values as written.
    """

    path: Path
    values: dict[str, str]

    @classmethod
    def read(cls, path: Path, *, checked: bool = True) -> "ServingConfig":
        """Read a file of Java properties.

        Args:
            path: The file.
            checked: Whether to `check` it; not for what must work whatever it says.

        Raises:
            NotReadyError: If it is missing or no properties, or fails its check.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise NotReadyError(
                f"there is no configuration {path}; name a config.properties with --config or "
                "CATDOG_CONFIG, or write one with: catdog init"
            ) from None
        except OSError as error:
            raise NotReadyError(f"cannot read {path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise NotReadyError(f"{path} is not UTF-8: save it as that ({error.reason})") from error
        config = cls(path.resolve(), parse_properties(text))
        if is_shipped(path):
            config.values["model_store"] = str(data_folder() / config.values["model_store"])
        if checked:
            config.check()
        return config

    def check(self) -> None:
        """Make sure that all keys are known, those that catdog needs are there, and values fit.

        Raises:
            NotReadyError: If not; one line that names file, key, value and choices.
        """
        required = {*ADDRESS_KEYS, "model_store", "models"}
        missing = sorted(required - set(self.values))
        if missing:
            raise NotReadyError(f"{self.path}: the keys {', '.join(missing)} are missing")
        if socket_path(self.management_url):  # whatever lies there, TorchServe deletes it first
            raise NotReadyError(
                f"{self.path}: management_address={self.management_url}: a socket is made in the "
                "server's private folder alone; set http://127.0.0.1:8081, and start the server "
                "with: catdog serve --management-socket"
            )
        try:
            check_values(self.values)
        except ValueError as error:
            raise NotReadyError(f"{self.path}: {error}") from error

    @property
    def root(self) -> Path:
        """The folder that relative paths count from: the one that holds config/."""
        return self.path.parent.parent

    def _found(self, name: str) -> Path:
        """A path that a key names; for a file that was copied alone, beside it before all.

        Else below `root`, else what the default one has.
        """
        own = self.root / name
        roots = [config_folder().parent]
        if is_shipped(config_folder() / FILE):
            roots.append(data_folder())
        places = [self.path.parent / name, own, *(root / name for root in roots)]
        return next((path for path in places if path.exists()), own)

    @property
    def model_settings(self) -> Path:
        """The model-config.yaml to pack: beside the file, else beside the default one."""
        own = self.path.with_name("model-config.yaml")
        return own if own.is_file() else config_folder() / own.name

    @property
    def inference_url(self) -> str:
        return self.values["inference_address"]

    @property
    def management_url(self) -> str:
        return self.values["management_address"]

    @property
    def metrics_url(self) -> str:
        return self.values["metrics_address"]

    @property
    def model_store(self) -> Path:
        return self._found(self.values["model_store"])

    @property
    def archive(self) -> Path:
        """The archive that is served."""
        return self.model_store / f"{MODEL_NAME}.mar"

    @property
    def previous_archive(self) -> Path:
        """What `archive` was before the last deploy; for `catdog rollback`."""
        return self.model_store / f"{MODEL_NAME}.previous.mar"

    @property
    def named_version(self) -> str:
        """The version under `models=`. TorchServe's own launcher ignores the entry for others."""
        return next(iter(self._versions))

    @property
    def worker_settings(self) -> dict[str, Any]:
        """catdog's entry under `models=`: workers, batch size, batch delay."""
        return self._versions[self.named_version]

    @property
    def _versions(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = json.loads(self.values["models"])[MODEL_NAME]
        return found

    @cached_property
    def visible_gpus(self) -> list[Gpu] | None:
        """nvidia-smi's answer: a start needs it several times, and it may take a second."""
        return visible_gpus(os.environ.get("CUDA_VISIBLE_DEVICES"))

    @cached_property
    def computes_on_gpus(self) -> bool:
        """Whether the archive can use GPUs; it is opened and checked for that, and once is enough.

        A start, and whatever else asks, has a configuration of its own.
        """
        return self.archive.is_file() and archive_runtime(self.archive) == "torch"

    @property
    def gpus(self) -> list[Gpu]:
        """Those to use: as many as number_of_gpu says, or all if the archive can use them."""
        configured = self.values.get("number_of_gpu")
        if configured is None:
            return (self.visible_gpus or []) if self.computes_on_gpus else []
        return (self.visible_gpus or [])[: int(configured)] if int(configured) else []

    @property
    def workers_per_gpu(self) -> int:
        """Workers that each GPU gets at least: the key's number, or one that fits the machine."""
        if (fixed := self.values.get("workers_per_gpu", "auto")) != "auto":
            return int(fixed)
        if self.computes_on_gpus:
            return choose_workers_per_gpu(self.gpus, usable_cores())
        return 1

    @property
    def served_worker_settings(self) -> dict[str, Any]:
        """`worker_settings`, with `workers_per_gpu` for every GPU at least."""
        entry, least = self.worker_settings, len(self.gpus) * self.workers_per_gpu
        workers = {key: max(entry[key], least) for key in ("minWorkers", "maxWorkers")}
        return entry | workers

    def version_settings(self, archive: Path, workers: int) -> VersionSettings:
        """What to register an archive with: `worker_settings`, and the archive's own time-outs.

        Those that its model-config.yaml names win in TorchServe over whatever it is told.
        """
        entry, own = self.worker_settings, archive_settings(archive)

        def timeout_s(key: str) -> int:
            return int(own.get(key, entry.get(key, _TORCHSERVE_TIMEOUT_S)))

        return VersionSettings(
            workers=workers,
            batch_size=entry["batchSize"],
            max_batch_delay_ms=entry["maxBatchDelay"],
            response_timeout_s=timeout_s("responseTimeout"),
            startup_timeout_s=timeout_s("startupTimeout"),
        )

    @property
    def job_queue_size(self) -> int:
        """Requests that may wait; what comes on top is answered 503."""
        return int(self.values.get("job_queue_size", _TORCHSERVE_QUEUE))

    @property
    def max_request_size(self) -> int:
        """The largest body that the server takes, in bytes."""
        return int(self.values.get("max_request_size", _TORCHSERVE_REQUEST))

    @property
    def token_expiration_min(self) -> float:
        """Minutes that a token is good for, where the server wants tokens."""
        return float(self.values.get("token_expiration_min", _TOKEN_MINUTES))

    @property
    def default_jobs(self) -> int:
        """Requests to keep under way so that every worker's next batch is full."""
        entry = self.served_worker_settings
        return 2 * int(entry["maxWorkers"]) * int(entry["batchSize"])

    def endpoints(self) -> dict[str, tuple[str, int]]:
        """The five addresses that the server listens on: name -> (host, port).

        Without that of the management API where it is a Unix socket.
        """
        found = {}
        for key in ADDRESSES:
            if socket_path(self.values[key]):
                continue
            parts = urlsplit(self.values[key])
            found[key] = (str(parts.hostname), int(parts.port or 0))
        for host_key, port_key in GRPC:
            found[port_key] = (self.values[host_key], int(self.values[port_key]))
        return found

    def is_loopback_only(self) -> bool:
        """Whether nobody outside this machine can reach any of the five addresses."""
        return all(is_loopback(host) for host, _ in self.endpoints().values())

    def values_for_server(self) -> dict[str, str]:
        """What the server really runs on.

        Paths become absolute, the `models` entry names the version that the archive
        really has (TorchServe ignores it otherwise) and the workers of every GPU, and the
        tokens are turned off only while every address is loopback; else they last a year.

        Raises:
            NotReadyError: If TorchServe would read one otherwise.
        """
        values = self.with_absolute_paths()
        version = archive_version(self.archive)
        values["models"] = json.dumps({MODEL_NAME: {version: self.served_worker_settings}})
        values["number_of_gpu"] = str(len(self.gpus))
        for key in ("vmargs", *(key for key in KEYS if KEYS[key].ours)):
            values.pop(key, None)  # read by TorchServe's launcher, or by us; see java.py
        values["disable_token_authorization"] = str(self.is_loopback_only()).lower()
        values.setdefault("token_expiration_min", str(_TOKEN_MINUTES))
        for key, value in values.items():
            if _VARIABLE.search(value):
                raise NotReadyError(
                    f"{key} would be {value}, and TorchServe takes $$...$$ for a variable; "
                    "rename that folder"
                )
        return values

    def write_for_server(self, target: Path) -> None:
        """Write `values_for_server`."""
        write_properties(target, self.values_for_server())

    def files(self) -> dict[str, Path]:
        """The files that keys name: key -> path."""
        named = {}
        if metrics := self.values.get("metrics_config"):
            named["metrics_config"] = self._found(metrics)
        for option in self.java_options():
            if option.startswith(LOG_OPTION):
                named["vmargs"] = Path(option.removeprefix(LOG_OPTION))
        return named

    def with_absolute_paths(self) -> dict[str, str]:
        """The values, for a file that lies elsewhere."""
        values = dict(self.values)
        for key in _PATHS:
            if key in values:
                values[key] = str(self._found(values[key]))
        if "vmargs" in values:
            values["vmargs"] = shlex.join(self.java_options())
        return values

    def java_options(self, shown: Callable[[Path], str] = str) -> list[str]:
        """The options of `vmargs`, with the absolute path of the log configuration.

        Args:
            shown: How a path is written; Java itself wants a URI.
        """
        return [
            f"{LOG_OPTION}{shown(self._found(option.removeprefix(LOG_OPTION)))}"
            if option.startswith(LOG_OPTION)
            else option
            for option in java_options(self.values.get("vmargs", ""))
        ]
