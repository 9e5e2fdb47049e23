"""A READY worker is warm: it has run each kind of request before."""

import statistics
import time

from catdog_serving.client import CatDogClient
from catdog_serving.torchserve.server import TorchServe
from tests.support.archive_cache import BuildArchive
from tests.support.configs import MakeConfig
from tests.support.paths import SAMPLES


def test_the_first_request_is_as_fast_as_the_tenth(
    build: BuildArchive, make_config: MakeConfig
) -> None:
    """A ratio on ResNet-152, the median over three starts: these machines are noisy.

    "The tenth" is the median of the sixth to the fourteenth, as one alone is noise.
    """
    ratios = []
    image = (SAMPLES / "rocket.jpg").read_bytes()
    for _ in range(3):
        with TorchServe(make_config(build("resnet152", "seeded"))) as server:
            with CatDogClient(server.config.inference_url) as client:
                times = []
                for _ in range(14):
                    start = time.perf_counter()
                    client.classify(image)
                    times.append(time.perf_counter() - start)
        ratios.append(times[0] / statistics.median(times[5:]))
    print(f"\nfirst / tenth request: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")
    assert sorted(ratios)[1] < 1.5
