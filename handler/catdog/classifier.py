"""The classifier: pictures as bytes in, predictions out, in order.

    classifier = Classifier.load(model_dir)
    for result in classifier.classify(pictures):  # Prediction | InvalidImage
    for result in classifier.explain(pictures):  # Explanation | InvalidImage

The three stages are public, so that a server can time them one by one:
`preprocess` (decode and resize, per picture), `infer` (one forward pass over
those that are valid, and one more for each that is to be explained),
`postprocess` (answers in the order of the input).
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple, TypeAlias, cast

import numpy as np
from PIL import Image

from catdog.cores import threads_per_worker
from catdog.explain import Explanation, activation_maps, explained_group, locate
from catdog.geometry import Box, View
from catdog.heat_map import HeatMap
from catdog.memory_budget import MemoryBudget
from catdog.model_info import ModelInfo
from catdog.postprocess import ModelIdentity, Prediction, predict
from catdog.prepared import Prepared, Wanted, prepare
from catdog.preprocess import (
    HTTP_FORMATS,
    InvalidImage,
    decoding_bytes,
    opened_image,
    scale_large_jpeg,
    upright_rgb,
    upright_size,
)
from catdog.runtime import ModelOutput, Runtime, load_last_layer, load_runtime
from catdog.settings import SETTINGS_FILE, Settings

Result: TypeAlias = Prediction | Explanation | InvalidImage


class Passes(NamedTuple):
    """What the forward passes over one batch gave.

    Attributes:
        squares: Of the M valid pictures' middle squares, in one pass; None if M is 0.
        wholes: Of each picture that is to be explained, in a pass of its own.
    """

    squares: ModelOutput | None
    wholes: tuple[ModelOutput, ...]


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
        last_layer: np.ndarray,
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
        self._last_layer = last_layer
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
        threads: int | None = None,
    ) -> "Classifier":
        """Load an unpacked archive; the only way to load one.

        Args:
            model_dir: The folder with model.json, model-config.yaml and the model.
            device: "cpu" or "cuda:N"; falls back to the CPU with a logged warning.
            formats: Pillow's names of the picture formats to accept.
            workers: How many processes like this one share the machine's cores.
            threads: CPU threads, where the caller shares out the cores; None: the setting, or
                this worker's share.

        Raises:
            ValueError: If the folder's facts or settings are wrong.
            FileNotFoundError: If one of its files is missing.
        """
        info = ModelInfo.read(model_dir)
        settings = Settings.read(model_dir / SETTINGS_FILE)
        threads = threads or threads_per_worker(settings.fixed_threads, workers)
        runtime = load_runtime(model_dir, info, device, threads, settings.compile)
        last_layer = load_last_layer(model_dir)
        return cls(model_dir, info, settings, runtime, last_layer, threads, formats)

    def classify(self, pictures: Sequence[bytes | bytearray]) -> list[Prediction | InvalidImage]:
        """Classify N pictures in one batch: N results, in order."""
        return self.classify_prepared(self.preprocess(pictures))

    def classify_prepared(
        self, prepared: Sequence[Prepared | InvalidImage]
    ) -> list[Prediction | InvalidImage]:
        """Classify what `preprocess` gave for predictions: N results, in order."""
        results = self.postprocess(prepared, self.infer(prepared))
        return cast("list[Prediction | InvalidImage]", results)

    def explain(self, pictures: Sequence[bytes | bytearray]) -> list[Explanation | InvalidImage]:
        """Classify N pictures and say where their animals are: N results, in order."""
        prepared = self.preprocess(pictures, [Wanted.EXPLANATION] * len(pictures))
        results = self.postprocess(prepared, self.infer(prepared))
        return cast("list[Explanation | InvalidImage]", results)

    def preprocess(
        self, pictures: Sequence[bytes | bytearray], wanted: Sequence[Wanted] | None = None
    ) -> list[Prepared | InvalidImage]:
        """Decode and resize in parallel.

        Args:
            pictures: N pictures.
            wanted: What is wanted of each; None for predictions.

        Returns:
            For each picture what the passes need, or why it was refused.
        """
        wanted = wanted or [Wanted.PREDICTION] * len(pictures)
        if len(pictures) == 1:
            return [self._prepare(pictures[0], wanted[0])]
        return list(self._decoders.map(self._prepare, pictures, wanted))

    def infer(self, prepared: Sequence[Prepared | InvalidImage]) -> Passes:
        """One forward pass over the M <= N valid pictures, and one for each whole picture."""
        valid = [item for item in prepared if isinstance(item, Prepared)]
        if not valid:
            return Passes(None, ())
        squares = self._runtime.run(np.stack([item.pixels for item in valid]))  # (M, 3, S, S)
        wholes = [item.whole for item in valid if item.whole is not None]
        return Passes(squares, tuple(self._runtime.run(whole[np.newaxis]) for whole in wholes))

    def postprocess(
        self, prepared: Sequence[Prepared | InvalidImage], passes: Passes
    ) -> list[Result]:
        """Give each picture its answer: N results, in the order of `prepared`."""
        valid = [item for item in prepared if isinstance(item, Prepared)]
        predictions = iter(self._predict(valid, passes.squares) if passes.squares else ())
        wholes = iter(passes.wholes)
        results: list[Result] = []
        for item in prepared:
            if isinstance(item, InvalidImage):
                results.append(item)
            elif item.whole is None:
                results.append(next(predictions))
            else:
                results.append(self._explain(next(predictions), item.whole_view, next(wholes)))
        return results

    def warm_up(self, batch_size: int) -> None:
        """Classify the golden pictures in batches of each size, so that nothing is first later.

        Args:
            batch_size: The largest batch that will come.
        """
        pictures = [(self._model_dir / golden.file).read_bytes() for golden in self.info.golden]
        for size in self._runtime.batch_sizes(batch_size):
            self.classify(list(islice(cycle(pictures), size)))
        self.explain(pictures[:1])
        Image.init()  # Pillow's decoders that no golden picture needs

    def close(self) -> None:
        """End the decode threads."""
        self._decoders.shutdown()

    def _prepare(self, picture: bytes | bytearray, wanted: Wanted) -> Prepared | InvalidImage:
        preprocessing = self.info.preprocessing
        try:
            with opened_image(picture, self.settings.limits, self._formats) as image:
                full_size = image.size
                scale_large_jpeg(image, preprocessing.resize_size)
                with self._memory.reserve(decoding_bytes(image, full_size)):
                    upright = upright_rgb(image)
                    return prepare(upright, upright_size(image, full_size), preprocessing, wanted)
        except InvalidImage as invalid:
            # A new one: a raised exception keeps the decoder's frames, and the bytes, alive.
            return InvalidImage(invalid.reason, invalid.message)

    def _predict(self, valid: Sequence[Prepared], output: ModelOutput) -> list[Prediction]:
        predictions = predict(
            output.logits, self.info.categories, self.settings.presence_threshold, self.identity
        )
        views = [item.view for item in valid]
        located = self._locate(predictions, views, output)
        return [
            replace(prediction, box=box, map=heat_map)
            for prediction, (box, heat_map) in zip(predictions, located, strict=True)
        ]

    def _explain(self, prediction: Prediction, view: View, output: ModelOutput) -> Explanation:
        ((box, heat_map),) = self._locate([prediction], [view], output)
        return Explanation(prediction, box, heat_map)

    def _locate(
        self, predictions: Sequence[Prediction], views: Sequence[View], output: ModelOutput
    ) -> list[tuple[Box | None, HeatMap]]:
        """Box and map of each picture of a pass."""
        groups = [explained_group(prediction) for prediction in predictions]
        maps = activation_maps(output.logits, output.features, self._last_layer, groups)
        threshold = self.settings.box_threshold
        return [
            (
                None if prediction.label == "neither" else locate(activation, view, threshold),
                HeatMap.of(activation, view),
            )
            for prediction, view, activation in zip(predictions, views, maps, strict=True)
        ]


def _read_version(model_dir: Path) -> str:
    """The model version that the archive's manifest was stamped with."""
    manifest = json.loads((model_dir / "MAR-INF" / "MANIFEST.json").read_text(encoding="utf-8"))
    version: str = manifest["model"]["modelVersion"]
    return version
