"""What commands lay into the model store for a while, and what of it a killed one has left."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from catdog_serving.errors import NotReadyError
from catdog_serving.torchserve.serving_config import ServingConfig

# No deploy takes so long, though --watch-s may be hours.
ABANDONED_S = 86_400.0


def next_archive(model_store: Path) -> Path:
    """The archive that comes up beside what is served; TorchServe finds it here by its name."""
    return model_store / ".catdog-next.mar"


@contextmanager
def staged_archive(config: ServingConfig) -> Iterator[Path]:
    """A path in the model store, where TorchServe finds archives; gone at the end."""
    path = next_archive(config.model_store)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def checked_folder(model_store: Path) -> Path:
    """Where a deploy keeps the archive that it checks, under its own name."""
    return model_store / ".catdog-deploy"


def remove_staged(model_store: Path, older_than_s: float = 0) -> None:
    """Delete all of it; nobody may be using it.

    Args:
        model_store: Where it lies.
        older_than_s: Leave what changed since: another server of this model store may be using it.

    Raises:
        NotReadyError: If it cannot be deleted.
    """
    latest = time.time() - older_than_s
    try:
        for leftover in (*model_store.glob(".catdog-*.mar"), checked_folder(model_store)):
            if not leftover.exists() or leftover.stat().st_mtime > latest:
                continue
            if leftover.is_dir():
                shutil.rmtree(leftover)
            else:
                leftover.unlink(missing_ok=True)
    except OSError as error:
        raise NotReadyError(f"cannot delete {error.filename}: {error.strerror}") from error
