"""bf16 for CPUs, packed from the float32 network: computed, compared, or said that it is not."""

import logging
from pathlib import Path

import numpy as np
import pytest

from catdog.classifier import Classifier
from catdog.engines.placement import has_bf16
from catdog_serving.build.bf16 import bf16_gain
from catdog_serving.build.build_archive import ArchiveSpec, build_archive
from catdog_serving.model_archive import open_archive
from tests.support.paths import PHOTOS, ROOT


@pytest.fixture(scope="module")
def packed(photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    archive = tmp_path_factory.mktemp("bf16") / "catdog.mar"
    spec = ArchiveSpec(
        network="efficientnet_lite0",
        weights=None,
        weights_url=None,
        runtime=None,
        precision="bf16",
        version="1.0",
        settings=ROOT / "config" / "model-config.yaml",
        calibration=PHOTOS,
    )
    info = build_archive(spec, archive)
    assert (info.runtime, info.precision) == ("onnx", "bf16")
    if has_bf16():
        assert info.agreement is not None
        assert info.agreement.pictures == len(photos)
        assert info.agreement.mean_difference <= 0.01
        assert info.agreement.max_difference <= 0.05
    else:
        assert info.agreement is None
    return archive


def test_answers_say_what_was_computed(
    packed: Path, archive: Path, photos: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    images = [photo.read_bytes() for photo in photos[::5]]
    masses = []
    for one in (packed, archive):
        with open_archive(one) as model_dir, caplog.at_level(logging.WARNING):
            classifier = Classifier.load(model_dir)
            found = classifier.classify(images)
            classifier.close()
        computed = "bf16" if one == packed and has_bf16() else "fp32"
        assert {answer.model.precision for answer in found} == {computed}
        masses.append([(answer.cat, answer.dog) for answer in found])
    bf16, fp32 = np.array(masses)
    assert (bf16.argmax(axis=1) == fp32.argmax(axis=1)).all()
    assert np.abs(bf16 - fp32).max() <= 0.05
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == (0 if has_bf16() else 1)
    assert all("packed for bf16, which needs OpenVINO" in warning for warning in warnings)


def test_what_bf16_would_gain_is_told_of_fp32_alone(packed: Path, archive: Path) -> None:
    assert bf16_gain(packed, print) is None
    gain = bf16_gain(archive, print)
    assert (gain is not None) == has_bf16()
    assert gain is None or gain > 1.2
