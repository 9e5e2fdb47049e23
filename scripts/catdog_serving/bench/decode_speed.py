"""How many images a second this machine's cores decode and resize, whatever computes then."""

import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from catdog.decode import Decoder, Limits
from catdog.model_info import ModelInfo
from catdog.read_settings import SETTINGS_FILE, Settings
from catdog.transforms import Preprocessing, read_model_input


@dataclass(frozen=True)
class DecodeLoad:
    """Decoding and resizing images again and again.

    Attributes:
        images: Encoded.
        preprocessing: What they are resized to.
        limits: Those of the archive.
    """

    images: tuple[bytes, ...]
    preprocessing: Preprocessing
    limits: Limits

    @classmethod
    def of(cls, model_dir: Path, images: Sequence[bytes]) -> "DecodeLoad":
        """As an unpacked archive decodes."""
        settings = Settings.read(model_dir / SETTINGS_FILE)
        return cls(tuple(images), ModelInfo.read(model_dir).preprocessing, settings.limits)

    def crops(self) -> list[np.ndarray]:
        """Each image's pixels for the network, uint8, shape (3, S, S)."""
        decoder = Decoder(self.limits)
        return [read_model_input(one, decoder, self.preprocessing).crop for one in self.images]

    def rate(self, threads: int, seconds: float) -> float:
        """Images per second of one process."""
        decoder = Decoder(self.limits)

        def read(image: bytes) -> object:
            return read_model_input(image, decoder, self.preprocessing)

        with ThreadPoolExecutor(threads) as pool:
            started, done = time.perf_counter(), 0
            while time.perf_counter() - started < seconds:
                done += len(list(pool.map(read, self.images)))
            return done / (time.perf_counter() - started)

    def rates(self, cores: int, seconds: float) -> dict[str, float]:
        """By one core, by as many threads as there are cores, and by as many processes."""
        one, threads = self.rate(1, seconds), self.rate(cores, seconds)
        with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
            for length in (0.1, seconds):  # the first has them all started
                futures = [pool.submit(self.rate, 1, length) for _ in range(cores)]
                processes = sum(future.result() for future in futures)
        return {"one_core": one, "threads": threads, "processes": processes}
