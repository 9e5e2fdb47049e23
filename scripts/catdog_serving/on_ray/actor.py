"""What runs in an actor of Ray Data: a whole archive, which answers for files."""

import pickle
from typing import TYPE_CHECKING

import numpy as np

import catdog
from catdog_serving.atomic_write import scratch_folder
from catdog_serving.errors import NotReadyError
from catdog_serving.folder.local_backend import LocalBackend
from catdog_serving.on_ray.poison_files import AttemptCounter, classify_block

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle


class FolderActor:
    """Classify blocks of files as `--backend local` does, which it is within.

    Args:
        archive: The .mar's bytes, uint8, in Ray's object store.
        version: The driver's catdog; results of two versions are not mixed.
        device: Where the network runs; see `Classifier.load`.
        threads: CPU threads.
        with_maps: Whether predictions bring their maps.
        attempts: The counter that is told of each block; see `classify_block`.

    Raises:
        NotReadyError: If this node lacks something that it needs.
    """

    def __init__(
        self,
        archive: "ObjectRef[np.ndarray]",
        version: str,
        device: str,
        threads: int,
        with_maps: bool,
        attempts: "ActorHandle[AttemptCounter]",
    ) -> None:
        import ray

        self._attempts = attempts
        if version != catdog.__version__:
            raise NotReadyError(
                f"a node of the cluster has catdog {catdog.__version__}, and this machine "
                f"{version}; install the same on both"
            )
        with scratch_folder() as folder:
            copy = folder / "catdog.mar"
            copy.write_bytes(ray.get(archive).data)
            self._backend = LocalBackend(copy, with_maps, device, threads)

    def __call__(self, block: dict[str, np.ndarray]) -> dict[str, list[bytes]]:
        """One result per file, in order.

        Args:
            block: "file": pickled paths.

        Returns:
            "result": pickled `ImageResult`s; a file that fails is one too.
        """
        files = [pickle.loads(file) for file in block["file"]]  # noqa: S301 (our own)
        results = classify_block(self._backend, files, self._attempts)
        return {"result": [pickle.dumps(one) for one in results]}
