"""`--backend ray`: the files of a folder, spread over actors of Ray Data.

A window of paths becomes a dataset, its blocks go to actors that hold the archive, and the
results come back in order to this process, which alone writes the run's state; `--resume` and
all outputs are those of the other backends. The actors open the files themselves: Ray's
`read_binary_files` ends the run when a file is gone or may not be read, holds a file of any
size in memory, and does not tell the time of the last change. Here each of these is a row.
"""

import pickle
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from math import ceil
from pathlib import Path

import numpy as np

import catdog
from catdog.engines.placement import computed_precision, fastest_engine
from catdog.model_info import ModelInfo
from catdog.results import Explanation
from catdog_serving.errors import CatDogError, NotReadyError, RefusedError, UsageError
from catdog_serving.folder.backends import Backend
from catdog_serving.folder.image_result import ImageFailure, ImageResult
from catdog_serving.local import wrong_version
from catdog_serving.model_archive import archive_facts, check_owner
from catdog_serving.on_ray.actor_plan import plan_actors
from catdog_serving.on_ray.poison_files import AttemptCounter
from catdog_serving.on_ray.session import running_ray
from catdog_serving.remote_path import AnyPath

# A window's paths are in memory here, and its actors load the archive anew.
_WINDOW_PER_ACTOR = 10_000
_MAX_WINDOW = 200_000
# A lost actor costs at most this many files that are classified again.
_MIN_BLOCK, _MAX_BLOCK = 8, 64


class RayBackend(Backend):
    """Classify on Ray; see `running_ray` for where that is."""

    jobs = 1

    def __init__(
        self, archive: Path, address: str | None, actors: int | None, with_maps: bool = False
    ) -> None:
        """Bring the archive to Ray.

        Args:
            archive: The .mar.
            address: Of a cluster; None for a Ray of our own.
            actors: How many processes classify; None: one per CPU, or per GPU.
            with_maps: Whether predictions bring their maps.

        Raises:
            UsageError: If Ray Data does not run through the address.
            NotReadyError: If there is no archive, no Ray, or no cluster.
            RefusedError: If the archive is another user's, or of another catdog.
        """
        super().__init__()
        check_owner(archive)
        try:
            info = ModelInfo.from_dict(archive_facts(archive))
        except ValueError as error:
            raise wrong_version(archive, error) from error
        self.enter_context(running_ray(address, archive.stat().st_size))
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        self._plan = plan_actors(nodes, actors, on_gpus=info.runtime == "torch")
        device = "cuda:0" if self._plan.gpus else "cpu"  # Ray shows each actor only its own
        # As this machine's CPU would compute it; the answers say what their node's did.
        precision = computed_precision(info.precision, device, fastest_engine(info))
        self.model = replace(info.model, precision=precision)
        content = ray.put(np.frombuffer(archive.read_bytes(), np.uint8))
        attempts = ray.remote(num_cpus=0)(AttemptCounter).remote()
        version, threads = catdog.__version__, self._plan.cpus
        self._arguments = (content, version, device, threads, with_maps, attempts)

    def classify_files(self, paths: Iterable[AnyPath]) -> Iterator[ImageResult]:
        files = iter(paths)
        size = min(_WINDOW_PER_ACTOR * self._plan.actors, _MAX_WINDOW)
        while window := list(islice(files, size)):
            yield from self._classify(window)

    def explain(self, content: bytes) -> Explanation | ImageFailure:
        raise UsageError("--backend ray explains nothing; use --backend http or local")

    def _classify(self, paths: Sequence[AnyPath]) -> Iterator[ImageResult]:
        """The results of one window."""
        import ray
        from ray.data import ActorPoolStrategy
        from ray.exceptions import RayError

        from catdog_serving.on_ray.actor import FolderActor

        per_actor = ceil(len(paths) / self._plan.actors / 4)
        blocks = ceil(len(paths) / min(max(per_actor, _MIN_BLOCK), _MAX_BLOCK))
        dataset = ray.data.from_items(
            [{"file": pickle.dumps(_absolute(path))} for path in paths],
            override_num_blocks=blocks,
        ).map_batches(
            FolderActor,
            fn_constructor_args=self._arguments,
            compute=ActorPoolStrategy(size=min(self._plan.actors, blocks)),
            batch_size=None,  # a whole block
            num_cpus=self._plan.cpus,
            num_gpus=self._plan.gpus,
        )
        try:
            pickled = (
                one for batch in dataset.iter_batches(batch_size=None) for one in batch["result"]
            )
            for path, one in zip(paths, pickled, strict=True):
                result: ImageResult = pickle.loads(one)  # noqa: S301 (our own)
                yield replace(result, file=replace(result.file, path=path))
        except RayError as error:
            raise _in_one_line(error) from error


def _in_one_line(error: Exception) -> CatDogError:
    """What an actor raised, which comes as text with its traceback, or what Ray itself says."""
    last_line = str(error).strip().splitlines()[-1]
    kind, _, message = last_line.partition("Error: ")
    if kind.endswith("catdog_serving.errors.Refused"):
        return RefusedError(message)
    return NotReadyError(f"Ray gave up: {message or last_line}")


def _absolute(path: AnyPath) -> AnyPath:
    """Where an actor finds it: it works in another folder."""
    return path.absolute() if isinstance(path, Path) else path
