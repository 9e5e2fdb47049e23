"""torch.compile for real, on the CPU: minutes on a large network, so not among the quick tests."""

import shutil

import numpy as np
import pytest

from catdog.model_info import ModelInfo
from catdog.runtime import load_runtime
from catdog_serving.model_archive import open_archive
from tests.support.archive_cache import BuildArchive


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("default")  # torch's compiler warns about itself
def test_a_really_compiled_network_gives_the_same(build: BuildArchive) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 224, 224), dtype=np.uint8)
    with open_archive(build("efficientnet_lite0", None, "torch")) as model_dir:
        info = ModelInfo.read(model_dir)
        plain = load_runtime(model_dir, info, "cpu", 2)
        compiled = load_runtime(model_dir, info, "cpu", 2, compiled=True)
        for size in (1, 3):
            expected, output = plain.run(pixels[:size]), compiled.run(pixels[:size])
            np.testing.assert_allclose(output.logits, expected.logits, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(output.maps, expected.maps, rtol=1e-3, atol=1e-3)
