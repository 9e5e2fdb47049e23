"""How many images a second this machine's cores decode and resize, whatever computes then."""

import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

from catdog.decode import Decoder, Limits
from catdog.transforms import Preprocessing, read_model_input


@dataclass(frozen=True)
class DecodeLoad:
    """Decoding and resizing images again and again.

    Attributes:
        images: Encoded.
        preprocessing: What they are resized to.
    """

    images: tuple[bytes, ...]
    preprocessing: Preprocessing

    def rate(self, threads: int, seconds: float) -> float:
        """Images per second of one process."""
        decoder = Decoder(Limits(max_pixels=52_000_000, max_aspect_ratio=20))

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
