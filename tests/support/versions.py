"""Another archive beside what a running server serves: a broken one needs no server of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from catdog_serving.archive_copies import copy_archive
from catdog_serving.torchserve.server import TorchServe

VERSION = "90.0"


@contextmanager
def loaded_beside(server: TorchServe, archive: Path, workers: int = 1) -> Iterator[str]:
    """Load an archive as another version, whose workers may be READY later or never.

    Gives the version; it is gone in the end, and what was the default still is.
    """
    copy = server.config.model_store / "beside.mar"
    copy_archive(archive, copy, VERSION)
    try:
        with server.management() as management:
            management.register(copy.name, server.config.version_settings(copy, workers))
            try:
                yield VERSION
            finally:
                management.unregister(VERSION)
    finally:
        copy.unlink()


@contextmanager
def as_default(server: TorchServe, version: str, workers: int = 1) -> Iterator[None]:
    """Let a version answer, once its workers are READY; in the end it is again the one before."""
    before = server.versions()[0].version
    server.wait_ready(workers, version=version, timeout_s=120)
    with server.management() as management:
        management.set_default(version)
        try:
            yield
        finally:
            management.set_default(before)
