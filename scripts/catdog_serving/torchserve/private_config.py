"""A configuration of one's own: the same settings on free ports, with another archive.

Measurements and tests start servers beside the one in production, and must never
meet it: not its ports, not its model store, not its run directory.
"""

import json
import os
import shutil
import socket
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from catdog.results import MODEL_NAME
from catdog_serving.torchserve.properties import write_properties
from catdog_serving.torchserve.serving_config import ADDRESSES, GRPC, ServingConfig

_held: deque[int] = deque()  # file descriptors
_MOST_HELD = 200  # of the 1,024 files that a process may open where nobody raised it


def private_config(
    source: ServingConfig,
    root: Path,
    archive: Path | None,
    worker_settings: Mapping[str, object] | None = None,
    values: Mapping[str, str] | None = None,
) -> ServingConfig:
    """Write ROOT/config/config.properties and ROOT/model-store.

    Args:
        source: Where all other values come from; its files are used where they are.
        root: A folder of the caller's own, which need not exist.
        archive: Copied into the model store; None leaves it empty.
        worker_settings: Changes to catdog's entry under `models=`, such as {"batchSize": 4}.
        values: Other keys to set, as they stand in the file; they win over everything.
    """
    path = root / "config" / "config.properties"
    path.parent.mkdir(parents=True, exist_ok=True)
    store = root / "model-store"
    store.mkdir(exist_ok=True)
    if archive is not None:
        shutil.copy(archive, store / f"{MODEL_NAME}.mar")
    properties = source.with_absolute_paths() | {"model_store": store.name}
    ports = free_ports(len(ADDRESSES) + len(GRPC))
    for key in ADDRESSES:
        properties[key] = f"http://127.0.0.1:{ports.pop()}"
    for host_key, port_key in GRPC:
        properties |= {host_key: "127.0.0.1", port_key: str(ports.pop())}
    if worker_settings:
        entry = source.worker_settings | dict(worker_settings)
        properties["models"] = json.dumps({MODEL_NAME: {source.named_version: entry}})
    properties |= values or {}
    write_properties(path, properties)
    return ServingConfig.read(path)


def free_ports(count: int) -> list[int]:
    """Ports that are free on every IPv4 address, and given to nobody else for a while.

    A socket that is bound and does not listen holds each of them: a server that sets SO_REUSEADDR,
    as all of ours do, may listen there, while the system picks the port for no other server and no
    outgoing connection (socket(7), ip(7)). The last 200 are held, until this process ends.
    """
    ports = []
    for _ in range(count):
        holder = socket.socket()
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("0.0.0.0", 0))  # noqa: S104 - it never listens
        ports.append(holder.getsockname()[1])
        _held.append(holder.detach())
    while len(_held) > _MOST_HELD:
        os.close(_held.popleft())
    return ports
