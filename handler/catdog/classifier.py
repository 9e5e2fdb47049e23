"""The classifier: images as bytes in, predictions out, in order.

    classifier = Classifier.load(model_dir)
    for result in classifier.classify(images):  # Prediction | InvalidImage
    for result in classifier.explain(images):  # Explanation | InvalidImage

The three stages are public, so that a server can time them one by one:
`preprocess` (decode and resize, per image), `infer` (one forward pass over
those that are valid, and one to three more for each that is to be explained),
`postprocess` (answers in the order of the input).
"""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeAlias, cast

import numpy as np
from PIL import Image

from catdog.activation_map import explained_group, locate, scale_to_peak, to_activation_maps
from catdog.animals import find_animals
from catdog.cpu import threads_per_worker
from catdog.decode import Decoder, Limits
from catdog.engines import Engine, ModelOutput, load_engine
from catdog.engines.placement import best_device
from catdog.invalid_image import InvalidImage, map_valid
from catdog.memory_budget import MemoryBudget
from catdog.model_info import ModelInfo
from catdog.postprocess import class_probabilities, predict
from catdog.read_settings import SETTINGS_FILE, Settings
from catdog.results import ActivationMap, Animal, Box, Explanation, Prediction
from catdog.transforms import ModelInput, Task, View, read_model_input, region_input

Answer: TypeAlias = Prediction | Explanation | InvalidImage


class BatchOutput(NamedTuple):
    """What the forward passes over one batch gave.

    Attributes:
        crops: Of the M valid images' crops, in one pass; None if M is 0.
        full_images: Of each image that is to be explained, in a pass of its own.
        animals: The animals of each of these; None of one that was not asked for them.
    """

    crops: ModelOutput | None
    full_images: tuple[ModelOutput, ...] = ()
    animals: tuple[tuple[Animal, ...] | None, ...] = ()


class Classifier:
    """A loaded model directory.

    Attributes:
        info: The archive's facts.
        settings: The archive's settings.
        version: The model version that the archive is stamped with.
        device: Where the network runs.
        engine: What computes it, a name in `catdog.model_info.ENGINES`.
        model: What answers say about the model; its precision is the one that computes.
        threads: CPU threads that decode, and then compute.
    """

    def __init__(
        self,
        model_dir: Path,
        info: ModelInfo,
        settings: Settings,
        engine: Engine,
        threads: int,
        decoder: Decoder,
    ) -> None:
        self.info = info
        self.settings = settings
        self.version = _read_version(model_dir)
        self.device = engine.device
        self.engine = engine.name
        self.model = replace(info.model, precision=engine.precision)
        self.threads = threads
        self._model_dir = model_dir
        self._engine = engine
        self._decoder = decoder
        self._decoding = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    @classmethod
    def load(
        cls,
        model_dir: Path,
        device: str | None = None,
        decoder_of: Callable[[Limits], Decoder] | None = None,
        workers: int = 1,
        threads: int | None = None,
        engine: str | None = None,
    ) -> "Classifier":
        """Load an unpacked archive; the only way to load one.

        Args:
            model_dir: The folder with model.json, model-config.yaml and the model.
            device: "cpu" or "cuda:N"; falls back to the CPU with a logged warning. None: a GPU, if
                the archive is packed for one and it is there.
            decoder_of: Makes the decoder for the archive's limits, where other parts of the
                process decode too; None: one of its own, with the formats of HTTP.
            workers: How many processes like this one share the machine's cores.
            threads: CPU threads, where the caller shares out the cores; None: the setting, or
                this worker's share.
            engine: What computes, instead of the setting; falls back with a logged warning.

        Raises:
            ValueError: If the folder's facts or settings are wrong, or there is no such engine.
            FileNotFoundError: If one of its files is missing.
        """
        info = ModelInfo.read(model_dir)
        settings = Settings.read(model_dir / SETTINGS_FILE)
        threads = threads or threads_per_worker(settings.fixed_threads, workers)
        device = device or best_device(info.runtime)
        loaded = load_engine(model_dir, info, device, threads, engine or settings.engine)
        if decoder_of is None:
            memory = MemoryBudget(settings.decode_memory_mb * 1_000_000)
            decoder = Decoder(settings.limits, memory=memory)
        else:
            decoder = decoder_of(settings.limits)
        return cls(model_dir, info, settings, loaded, threads, decoder)

    def classify(self, images: Sequence[bytes | bytearray]) -> list[Prediction | InvalidImage]:
        """Classify N images in one batch: N results, in order."""
        return self.classify_inputs(self.preprocess(images))

    def classify_inputs(
        self, inputs: Sequence[ModelInput | InvalidImage]
    ) -> list[Prediction | InvalidImage]:
        """Classify what `preprocess` gave for predictions: N results, in order."""
        return cast("list[Prediction | InvalidImage]", self.postprocess(inputs, self.infer(inputs)))

    def explain(
        self,
        images: Sequence[bytes | bytearray | InvalidImage],
        task: Task = Task.EXPLANATION,
    ) -> list[Explanation | InvalidImage]:
        """Classify N images and say where their animals are: N results, in order."""
        return self.explain_inputs(self.preprocess(images, [task] * len(images)))

    def explain_inputs(
        self, inputs: Sequence[ModelInput | InvalidImage]
    ) -> list[Explanation | InvalidImage]:
        """Explain what `preprocess` gave for explanations: N results, in order."""
        return cast(
            "list[Explanation | InvalidImage]", self.postprocess(inputs, self.infer(inputs))
        )

    def preprocess(
        self,
        images: Sequence[bytes | bytearray | InvalidImage],
        tasks: Sequence[Task] | None = None,
        counts: Sequence[int] | None = None,
    ) -> list[ModelInput | InvalidImage]:
        """Decode and transform in parallel.

        Args:
            images: N images; one that was refused already stays what it is.
            tasks: What each is for; None for predictions.
            counts: Of how many images of one request each is one; None: of one.

        Returns:
            For each image what the passes need, or why it was refused.
        """
        tasks = tasks or [Task.PREDICTION] * len(images)
        if len(tasks) != len(images):
            raise ValueError(f"expected {len(images)} tasks, got {len(tasks)}")
        counts = counts or [1] * len(images)
        if len(images) == 1:
            return [self._preprocess_one(images[0], tasks[0], counts[0])]
        return list(self._decoding.map(self._preprocess_one, images, tasks, counts))

    def infer(self, inputs: Sequence[ModelInput | InvalidImage]) -> BatchOutput:
        """One forward pass over the M <= N valid images, and one to three for each full image."""
        valid = [one for one in inputs if isinstance(one, ModelInput)]
        if not valid:
            return BatchOutput(None)
        crops = self._engine.run([one.crop for one in valid])
        full_images, animals = [], []
        for one, logits in zip(valid, crops.logits, strict=True):
            if one.full_image is not None:
                full_images.append(self._engine.run([one.full_image]))
                maps = full_images[-1].maps[0]
                animals.append(self._find_animals(one, logits[np.newaxis], maps))
        return BatchOutput(crops, tuple(full_images), tuple(animals))

    def postprocess(
        self, inputs: Sequence[ModelInput | InvalidImage], output: BatchOutput
    ) -> list[Answer]:
        """Give each image its answer: N results, in the order of `inputs`."""

        def answers(valid: list[ModelInput]) -> list[Prediction | Explanation]:
            full_images = zip(output.full_images, output.animals, strict=True)
            predictions = self._predict(valid, output.crops) if output.crops else ()
            return [
                prediction
                if one.full_image is None
                else self._explain(prediction, one.full_image_view, *next(full_images))
                for one, prediction in zip(valid, predictions, strict=True)
            ]

        return map_valid(answers, inputs, InvalidImage)

    def warm_up(self, batch_size: int) -> None:
        """Prepare the engine, and explain a golden image: nothing that is asked is first later.

        Args:
            batch_size: The largest batch that will come.

        Raises:
            OutOfDeviceMemoryError: If a GPU has no room for such batches.
        """
        self._engine.prepare(batch_size, self.info.preprocessing.crop_size)
        self.explain([(self._model_dir / self.info.golden[0].file).read_bytes()])
        Image.init()  # Pillow's decoders that no golden image needs

    def prepare_full_images(self) -> None:
        """Make ready for explanations of images of every shape, beside what else is asked."""
        self._engine.prepare_full_images()

    def close(self) -> None:
        """End the decode threads."""
        self._decoding.shutdown()

    def _preprocess_one(
        self, image: bytes | bytearray | InvalidImage, task: Task, count: int
    ) -> ModelInput | InvalidImage:
        if isinstance(image, InvalidImage):
            return image
        try:
            return read_model_input(image, self._decoder, self.info.preprocessing, task, count)
        except InvalidImage as invalid:
            # A new one: a raised exception keeps the decoder's frames, and the bytes, alive.
            return InvalidImage(invalid.reason, invalid.message)

    def _predict(self, valid: Sequence[ModelInput], output: ModelOutput) -> list[Prediction]:
        predictions = self._label(output.logits)
        located = self._locate(predictions, [one.view for one in valid], output)
        return [
            replace(prediction, box=box, map=activation_map)
            for prediction, (box, activation_map) in zip(predictions, located, strict=True)
        ]

    def _label(self, logits: np.ndarray) -> list[Prediction]:
        """Predictions without boxes and maps, from logits of shape (N, 1000)."""
        return predict(
            class_probabilities(logits),
            self.info.categories,
            self.settings.presence_threshold,
            self.model,
            self.version,
        )

    def _find_animals(
        self, image: ModelInput, logits: np.ndarray, maps: np.ndarray
    ) -> tuple[Animal, ...] | None:
        """The animals of an image by its crop's logits and its full maps; None if not asked for."""
        original, size = image.original, image.view.size
        if original is None:
            return None

        def logits_of(region: Box) -> np.ndarray:
            return self._engine.run([region_input(original, region, size)]).logits

        (prediction,) = self._label(logits)
        thresholds = self.settings.box_threshold, self.settings.presence_threshold
        return find_animals(prediction, maps, size, thresholds, logits_of)

    def _explain(
        self,
        prediction: Prediction,
        view: View,
        output: ModelOutput,
        animals: tuple[Animal, ...] | None,
    ) -> Explanation:
        ((box, activation_map),) = self._locate([prediction], [view], output, whole=True)
        return Explanation(prediction, box, activation_map, animals)

    def _locate(
        self,
        predictions: Sequence[Prediction],
        views: Sequence[View],
        output: ModelOutput,
        whole: bool = False,
    ) -> list[tuple[Box | None, ActivationMap]]:
        """Box and map of each image of a pass, over crops or over a whole image."""
        groups = [explained_group(prediction) for prediction in predictions]
        explained = [maps[group] for maps, group in zip(output.maps, groups, strict=True)]
        activations = scale_to_peak(np.array(explained))  # (N, h, w)
        searched = [
            None if prediction.label == "neither" else view
            for prediction, view in zip(predictions, views, strict=True)
        ]
        boxes = locate(activations, searched, self.settings.box_threshold, whole)
        return list(zip(boxes, to_activation_maps(activations, views), strict=True))


def _read_version(model_dir: Path) -> str:
    """The model version that the archive's manifest was stamped with."""
    manifest = json.loads((model_dir / "MAR-INF" / "MANIFEST.json").read_text(encoding="utf-8"))
    version: str = manifest["model"]["modelVersion"]
    return version
