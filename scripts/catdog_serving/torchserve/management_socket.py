"""The management API on a Unix socket: `catdog serve --management-socket`.

It lies in the run directory, which is this user's alone: no web page and no other user reaches
it (other users have gRPC's port: SECURITY.md). config.properties does not have it; commands find it
in what the running server runs on.
"""

import re
from dataclasses import replace

from catdog_serving.http_session import socket_path
from catdog_serving.torchserve.properties import parse_properties
from catdog_serving.torchserve.run_directory import RunDirectory
from catdog_serving.torchserve.serving_config import ADDRESSES, GRPC, ServingConfig

# What Java says of a Unix socket without Netty's native library, and with use_native_io=false.
_REFUSED = re.compile("Invalid configuration: (null|unix domain socket)")


def as_served(config: ServingConfig, run: RunDirectory) -> ServingConfig:
    """The configuration with the addresses that the running server was started with."""
    if not run.config.is_file() or run.process() is None:  # the latter is slow to say so
        return config
    try:
        served = parse_properties(run.config.read_text(encoding="ascii"))
    except OSError:  # it ended just now
        return config
    keys = {*ADDRESSES, *(key for pair in GRPC for key in pair)} & set(served)
    return replace(config, values=config.values | {key: served[key] for key in keys})


def why_no_socket(config: ServingConfig, log: str) -> str:
    """The end of a sentence on a start that failed, if it was for the socket; else empty."""
    if not socket_path(config.management_url) or not _REFUSED.search(log):
        return ""
    return (
        ": Java cannot listen on a Unix socket here, which takes use_native_io=true, glibc, and a "
        "run directory on a disk from which programs may run (not noexec); or start the server "
        "without --management-socket"
    )
