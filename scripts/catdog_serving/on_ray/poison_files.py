"""Poison files: find the one that kills its reader, whose block Ray would retry for ever."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from catdog_serving.folder.backends import Backend
from catdog_serving.folder.image_result import UNREADABLE, FileInfo, ImageFailure, ImageResult
from catdog_serving.remote_path import AnyPath

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle

# An actor may also be lost for another reason, such as with its node.
_LOSSES_OF_A_BLOCK = 2
_LOSSES_OF_A_FILE = 2


class AttemptCounter:
    """Counts attempts that never ended; an actor of its own, which outlives the others."""

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()

    def begin(self, name: str) -> int:
        """How many attempts at it were begun before, and never ended."""
        self._begun[name] += 1
        return self._begun[name] - 1

    def end(self, name: str) -> None:
        del self._begun[name]


def classify_block(
    backend: Backend, files: list[AnyPath], attempts: "ActorHandle[AttemptCounter]"
) -> Iterator[ImageResult]:
    """Classify a block, which actors may have died on before; one result per file, in order.

    After some losses its files are tried one by one, and one that actors died on again is
    a poison file and given up: an error that `--resume` tries again.
    """
    block = f"block {files[0]}"
    lost = _begun_before(attempts, block)
    if lost < _LOSSES_OF_A_BLOCK:
        yield from backend.classify_files(files)
    else:
        yield from _one_by_one(backend, files, attempts)
    attempts.end.remote(block)


def _one_by_one(
    backend: Backend, files: Iterable[AnyPath], attempts: "ActorHandle[AttemptCounter]"
) -> Iterator[ImageResult]:
    for file in files:
        lost = _begun_before(attempts, str(file))
        if lost < _LOSSES_OF_A_FILE:
            yield from backend.classify_files([file])
            attempts.end.remote(str(file))
        else:
            reason = f"every process that had it died, {_LOSSES_OF_A_BLOCK + lost} in all"
            yield ImageResult(FileInfo(file), ImageFailure(UNREADABLE, reason))


def _begun_before(attempts: "ActorHandle[AttemptCounter]", name: str) -> int:
    import ray
    from ray.exceptions import RayActorError

    times: ObjectRef[int] = attempts.begin.remote(name)
    try:
        return ray.get(times)
    except RayActorError:  # lost with its node: the run goes on without it
        return 0
