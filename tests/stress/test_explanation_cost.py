"""What boxes and explanations cost; run by itself, on a quiet machine."""

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from catdog.activation_map import locate, scale_to_peak, to_activation_maps
from catdog.classifier import Classifier
from catdog.transforms import ModelInput
from catdog_serving.bench.load_generator import closed_loop
from catdog_serving.client import CatDogClient
from catdog_serving.model_archive import open_archive
from catdog_serving.torchserve.server import TorchServe
from tests.support.archive_cache import BuildArchive, with_handler
from tests.support.configs import MakeConfig

ROUNDS = 9
SECONDS = 8.0
CONCURRENCY = 16
NETWORKS = [("resnet152", "seeded"), ("efficientnet_lite0", None)]

# The worker's own handler, but predictions without map and box, as before there were any.
WITHOUT = """
        def predict_only(valid, output):
            from catdog.postprocess import class_probabilities, predict

            classifier = self.classifier
            threshold = classifier.settings.presence_threshold
            return predict(
                class_probabilities(output.logits),
                classifier.info.categories,
                threshold,
                classifier.info.model,
                classifier.version,
            )

        self.classifier._predict = predict_only
"""
LOADED = "        self.classifier.warm_up(self.batch_size)\n"


@pytest.fixture(params=NETWORKS, ids=[name for name, _ in NETWORKS])
def archive_of_network(request: pytest.FixtureRequest, build: BuildArchive) -> Path:
    return build(*request.param)


@pytest.fixture
def with_and_without(
    archive_of_network: Path, make_config: MakeConfig, tmp_path: Path
) -> Iterator[tuple[TorchServe, TorchServe]]:
    plain = with_handler(archive_of_network, tmp_path / "plain.mar", LOADED, LOADED + WITHOUT)
    with ExitStack() as stack:
        servers = [
            stack.enter_context(TorchServe(make_config(archive)))
            for archive in (archive_of_network, plain)
        ]
        yield servers[0], servers[1]


def test_boxes_cost_no_throughput(
    with_and_without: tuple[TorchServe, TorchServe], photos: list[Path]
) -> None:
    images = [path.read_bytes() for path in photos]
    urls = [server.config.inference_url for server in with_and_without]
    has_map = [CatDogClient(url).classify(photos[0], with_map=True).map is not None for url in urls]
    assert has_map == [True, False]
    rates: list[list[float]] = []
    for number in range(ROUNDS):
        order = (0, 1) if number % 2 == 0 else (1, 0)
        round_ = [0.0, 0.0]
        for index in order:
            round_[index] = closed_loop(urls[index], images, CONCURRENCY, SECONDS).images_per_s
        rates.append(round_)
    ratios = [with_box / without for with_box, without in rates]
    ratio = statistics.median(ratios)
    print(
        f"\nwith box {statistics.median(r[0] for r in rates):.2f} images/s, without "
        f"{statistics.median(r[1] for r in rates):.2f}: ratio {ratio:.3f} "
        f"({min(ratios):.3f} to {max(ratios):.3f}), {ROUNDS} rounds of {SECONDS:.0f} s each"
    )
    assert ratio >= 0.98


def test_map_and_box_take_less_than_a_millisecond(
    archive_of_network: Path, photos: list[Path]
) -> None:
    with open_archive(archive_of_network) as model_dir:
        classifier = Classifier.load(model_dir)
        for count in (1, 8):
            inputs = classifier.preprocess([path.read_bytes() for path in photos[:count]])
            crops = classifier.infer(inputs).crops
            assert crops is not None
            views = [item.view for item in inputs if isinstance(item, ModelInput)]
            took = []
            for _ in range(200):
                start = time.perf_counter()
                activations = scale_to_peak(crops.maps[:, 0])
                locate(activations, views, 0.1)
                to_activation_maps(activations, views)
                took.append((time.perf_counter() - start) / count)
            median_ms = statistics.median(took) * 1000
            p95_ms = float(np.percentile(took, 95)) * 1000
            print(f"\nbatch of {count}: map and box {median_ms:.2f} ms an image, p95 {p95_ms:.2f}")
            assert median_ms < 1
        classifier.close()


def longer_side(path: Path) -> int:
    with Image.open(path) as image:
        return max(image.size)


def test_an_explanation_takes_at_most_three_predictions(
    archive_of_network: Path, make_config: MakeConfig, photos: list[Path]
) -> None:
    """One client, photos of 500 pixels, interleaved."""
    large = [path for path in photos if longer_side(path) >= 499][:20]
    with (
        TorchServe(make_config(archive_of_network)) as server,
        CatDogClient(server.config.inference_url) as client,
    ):
        pairs = []
        for path in large * 2:
            start = time.perf_counter()
            client.classify(path)
            middle = time.perf_counter()
            client.explain(path)
            pairs.append((middle - start, time.perf_counter() - middle))
    prediction, explanation = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(explained / predicted for predicted, explained in pairs)
    print(
        f"\nprediction {prediction * 1000:.1f} ms, explanation {explanation * 1000:.1f} ms, "
        f"ratio {ratio:.2f} (median of {len(pairs)} pairs)"
    )
    assert ratio <= 3
