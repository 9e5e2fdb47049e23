"""The classifier: pictures as bytes in, predictions out, in order.

    classifier = Classifier.load(model_dir)
    for result in classifier.classify(pictures):  # Prediction | InvalidImage

The three stages are public, so that a server can time them one by one:
`preprocess` (decode and resize, per picture), `infer` (one forward pass over
those that are valid), `postprocess` (answers in the order of the input).
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from catdog.cores import threads_per_worker
from catdog.memory_budget import MemoryBudget
from catdog.model_info import ModelInfo
from catdog.postprocess import ModelIdentity, Prediction, predict
from catdog.preprocess import (
    HTTP_FORMATS,
    InvalidImage,
    decoding_bytes,
    opened_image,
    preprocess_image,
    scale_large_jpeg,
    upright_rgb,
)
from catdog.runtime import ModelOutput, Runtime, load_runtime
from catdog.settings import SETTINGS_FILE, Settings


class Classifier:
    """A loaded model directory.

    Attributes:
        info: The archive's facts.
        settings: The archive's settings.
        identity: Network, weights and version, as every answer carries them.
        device: Where the network runs.
        threads: CPU threads that decode, and then compute.
    """

    def __init__(
        self,
        model_dir: Path,
        info: ModelInfo,
        settings: Settings,
        runtime: Runtime,
        threads: int,
        formats: Sequence[str],
    ) -> None:
        self.info = info
        self.settings = settings
        self.identity = ModelIdentity(
            info.network, info.weights, info.precision, _read_version(model_dir)
        )
        self.device = runtime.device
        self._model_dir = model_dir
        self._runtime = runtime
        self._formats = formats
        self._memory = MemoryBudget(settings.decode_memory_mb * 1_000_000)
        self.threads = threads
        self._decoders = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    @classmethod
    def load(
        cls,
        model_dir: Path,
        device: str = "cpu",
        formats: Sequence[str] = HTTP_FORMATS,
        workers: int = 1,
    ) -> "Classifier":
        """Load an unpacked archive; the only way to load one.

        Args:
            model_dir: The folder with model.json, model-config.yaml and the model.
            device: "cpu" or "cuda:N"; falls back to the CPU with a logged warning.
            formats: Pillow's names of the picture formats to accept.
            workers: How many processes like this one share the machine's cores.

        Raises:
            ValueError: If the folder's facts or settings are wrong.
            FileNotFoundError: If one of its files is missing.
        """
        info = ModelInfo.read(model_dir)
        settings = Settings.read(model_dir / SETTINGS_FILE)
        threads = threads_per_worker(settings.fixed_threads, workers)
        runtime = load_runtime(model_dir, info, device, threads, settings.compile)
        return cls(model_dir, info, settings, runtime, threads, formats)

    def classify(self, pictures: Sequence[bytes | bytearray]) -> list[Prediction | InvalidImage]:
        """Classify N pictures in one batch: N results, in order."""
        prepared = self.preprocess(pictures)
        return self.postprocess(prepared, self.infer(prepared))

    def preprocess(self, pictures: Sequence[bytes | bytearray]) -> list[np.ndarray | InvalidImage]:
        """Decode and resize in parallel.

        Returns:
            For each picture its pixels, uint8, shape (3, S, S), or why it was refused.
        """
        if len(pictures) == 1:
            return [self._prepare(pictures[0])]
        return list(self._decoders.map(self._prepare, pictures))

    def infer(self, prepared: Sequence[np.ndarray | InvalidImage]) -> ModelOutput | None:
        """One forward pass over the M <= N valid pictures; None if there is none."""
        valid = [pixels for pixels in prepared if isinstance(pixels, np.ndarray)]
        if not valid:
            return None
        return self._runtime.run(np.stack(valid))  # (M, 3, S, S)

    def postprocess(
        self, prepared: Sequence[np.ndarray | InvalidImage], output: ModelOutput | None
    ) -> list[Prediction | InvalidImage]:
        """Give each picture its answer: N results, in the order of `prepared`."""
        predictions = iter(
            predict(
                output.logits,
                self.info.categories,
                self.settings.presence_threshold,
                self.identity,
            )
            if output
            else ()
        )
        return [item if isinstance(item, InvalidImage) else next(predictions) for item in prepared]

    def warm_up(self, batch_size: int) -> None:
        """Classify the golden pictures in batches of each size, so that nothing is first later.

        Args:
            batch_size: The largest batch that will come.
        """
        pictures = [(self._model_dir / golden.file).read_bytes() for golden in self.info.golden]
        for size in self._runtime.batch_sizes(batch_size):
            self.classify(list(islice(cycle(pictures), size)))
        self.classify([b"no picture"])  # has Pillow load the decoders that no golden picture needs

    def close(self) -> None:
        """End the decode threads."""
        self._decoders.shutdown()

    def _prepare(self, picture: bytes | bytearray) -> np.ndarray | InvalidImage:
        try:
            with opened_image(picture, self.settings.limits, self._formats) as image:
                full_size = image.size
                scale_large_jpeg(image, self.info.preprocessing.resize_size)
                with self._memory.reserve(decoding_bytes(image, full_size)):
                    return preprocess_image(upright_rgb(image), self.info.preprocessing)
        except InvalidImage as invalid:
            # A new one: a raised exception keeps the decoder's frames, and the bytes, alive.
            return InvalidImage(invalid.reason, invalid.message)


def _read_version(model_dir: Path) -> str:
    """The model version that the archive's manifest was stamped with."""
    manifest = json.loads((model_dir / "MAR-INF" / "MANIFEST.json").read_text(encoding="utf-8"))
    version: str = manifest["model"]["modelVersion"]
    return version
