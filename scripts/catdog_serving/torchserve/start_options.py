"""What a server was started with, and what its config.properties says otherwise by now."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from catdog_serving.config_folder import command_line
from catdog_serving.torchserve.config_keys import shown_value
from catdog_serving.torchserve.management import ModelStatus
from catdog_serving.torchserve.properties import parse_properties
from catdog_serving.torchserve.run_directory import RunDirectory
from catdog_serving.torchserve.serving_config import ADDRESS_KEYS, ADDRESSES, GRPC, ServingConfig

HIGHEST_PORT = 65535 - len(ADDRESSES) - len(GRPC) + 1  # of `port`: the others come after it


@dataclass(frozen=True)
class StartOptions:
    """The options of `catdog serve` that are not in config.properties.

    Attributes:
        port: The first of five that follow each other: predictions, management, metrics, gRPC's
            predictions and management; None for those of the file.
        management_socket: Whether the management API listens on a Unix socket in the run
            directory, in place of its TCP port. The directory is this user's alone: no web page
            and no other user reaches it (other users have gRPC's port: SECURITY.md).
        asgi: Whether the server without Java serves the archive, in TorchServe's place.
    """

    port: int | None = None
    management_socket: bool = False
    asgi: bool = False

    def apply(self, config: ServingConfig, run: RunDirectory) -> ServingConfig:
        """A configuration with the addresses that a server with these options has."""
        values = dict(config.values)
        if self.port is not None:
            for port, key in enumerate(ADDRESSES, self.port):
                values[key] = f"{values[key].rpartition(':')[0]}:{port}"
            for port, (_, key) in enumerate(GRPC, self.port + len(ADDRESSES)):
                values[key] = str(port)
        if self.management_socket:
            values["management_address"] = f"unix:{run.path / 'management.sock'}"
        return replace(config, values=values)

    def record(self, config: ServingConfig, run: RunDirectory) -> None:
        """Remember them, and the configuration, in the run directory.

        Raises:
            OSError: If it cannot be written.
        """
        entry = {"options": asdict(self), "values": config.values}
        run.start_options.write_text(json.dumps(entry), encoding="utf-8")

    @classmethod
    def of(cls, run: RunDirectory) -> "StartOptions":
        """Those that a server was started with; the defaults if it does not say."""
        recorded = _recorded(run).get("options", {})  # another catdog's may have more
        return cls(**{f.name: recorded[f.name] for f in fields(cls) if f.name in recorded})

    def command(self, config: Path) -> str:
        """The line that starts a configuration's server with them."""
        words = [command_line(config, "serve")]
        if self.port is not None:
            words.append(f"--port {self.port}")
        if self.asgi:
            words.append("--server asgi")
        if self.management_socket:
            words.append("--management-socket")
        return " ".join(words)


def as_served(config: ServingConfig, run: RunDirectory) -> ServingConfig:
    """The configuration with the addresses that the running server was started with."""
    if not run.config.is_file() or run.process() is None:  # the latter is slow to say so
        return config
    try:
        served = parse_properties(run.config.read_text(encoding="ascii"))
    except OSError:  # it ended just now
        return config
    moved = {key: served[key] for key in ADDRESS_KEYS if key in served}
    return replace(config, values=config.values | moved)


def changes_since_start(
    config: ServingConfig, run: RunDirectory, model: ModelStatus | None
) -> list[str]:
    """What config.properties says otherwise than what runs, such as "batchSize 8 -> 16".

    Args:
        config: As the file has it now.
        run: Where the server runs.
        model: The served version: a deploy changes batches without a restart.
    """
    recorded = _recorded(run).get("values")
    if recorded is None:
        return []
    before, now = _flat(ServingConfig(config.path, recorded)), _flat(config)
    if model:
        before |= {"batchSize": model.batch_size, "maxBatchDelay": model.max_batch_delay_ms}
    return [
        f"{key} {shown_value(key, before.get(key, '-'))} -> {shown_value(key, now.get(key, '-'))}"
        for key in sorted(before | now)
        if before.get(key) != now.get(key)
    ]


def _flat(config: ServingConfig) -> dict[str, Any]:
    """Keys of the file and fields of its `models`."""
    rest = {key: value for key, value in config.values.items() if key != "models"}
    return rest | config.worker_settings


def _recorded(run: RunDirectory) -> Mapping[str, Any]:
    try:
        found: dict[str, Any] = json.loads(run.start_options.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no server, or one of an older catdog
        return {}
    return found
