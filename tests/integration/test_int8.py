"""int8 from packaging to a real server: calibrated, measured, refused when too far from fp32."""

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from rich.console import Console

from catdog.engines import load_engine
from catdog.model_info import ModelInfo
from catdog_serving.build import quantise
from catdog_serving.build.agreement import AgreementGate, logits_in_batches, measure_agreement
from catdog_serving.build.build_archive import ArchiveSpec, build_archive
from catdog_serving.build.calibration import read_calibration_images
from catdog_serving.build.golden_images import REDUCED_TOLERANCE
from catdog_serving.build.verify import verify_archive
from catdog_serving.cli.status import print_status
from catdog_serving.client import CatDogClient
from catdog_serving.errors import RefusedError
from catdog_serving.model_archive import open_archive
from catdog_serving.monitoring.snapshot import read_status
from catdog_serving.torchserve.server import TorchServe
from tests.support.archive_cache import repack
from tests.support.images import LIMITS
from tests.support.paths import PHOTOS, ROOT, SAMPLES
from tests.support.versions import as_default, loaded_beside


@pytest.fixture(scope="module")
def packed(
    photos: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("int8")
    output, home = folder / "catdog.mar", folder / "home"
    home.mkdir()
    command = [sys.executable, "-m", "catdog_serving", "package", "--output", str(output)]
    command += ["--network", "efficientnet_lite0", "--precision", "int8"]
    result = subprocess.run(
        [*command, "--calibration", str(PHOTOS)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "HOME": str(home), "TMPDIR": str(folder)},
    )
    assert result.returncode == 0, result.stderr
    return output, result


@pytest.fixture(scope="module")
def int8_archive(packed: tuple[Path, subprocess.CompletedProcess[str]]) -> Path:
    return packed[0]


def logits(archive: Path, pixels: np.ndarray) -> np.ndarray:
    with open_archive(archive) as model_dir:
        engine = load_engine(model_dir, ModelInfo.read(model_dir), "cpu", 2)

        def logits_of(batch: np.ndarray) -> np.ndarray:
            output = engine.run(list(batch))
            assert output.maps.dtype == np.float32
            return output.logits

        return logits_in_batches(logits_of, pixels)


def test_packing_leaves_nothing_in_the_home(
    packed: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    """ONNX Runtime's telemetry would; see test_telemetry.py."""
    assert list((packed[0].parent / "home").rglob("*")) == []


def test_int8_agrees_with_fp32_on_images_it_has_not_seen(
    packed: tuple[Path, subprocess.CompletedProcess[str]], archive: Path
) -> None:
    int8_archive, result = packed
    info = verify_archive(int8_archive)
    images = read_calibration_images(PHOTOS, info.preprocessing, LIMITS)
    measured = measure_agreement(
        logits(int8_archive, images.held_out), logits(archive, images.held_out), 50
    )
    print(f"\nint8: {measured}")
    assert measured.pictures == 50
    assert measured.same_winner == 1
    assert measured.mean_difference < 0.03
    # What model.json says, and packaging printed, is what a loader of both archives finds.
    assert info.agreement is not None
    assert info.agreement.same_top_class == measured.same_top_class
    assert info.agreement.mean_difference == pytest.approx(measured.mean_difference, abs=1e-4)
    assert f"int8    {info.agreement}\n" in result.stdout
    steps = result.stderr.splitlines()  # and no warning
    assert (steps[0], steps[-1]) == (
        "loading the weights of efficientnet_lite0",
        "checking the archive",
    )
    assert len(steps) == 6


def test_the_network_is_a_third_of_the_size(int8_archive: Path, archive: Path) -> None:
    """But for the maps' last layer, which stays in float32."""
    sizes = []
    for path in (int8_archive, archive):
        with zipfile.ZipFile(path) as packed:
            sizes.append(packed.getinfo("model.onnx").file_size - 4 * 1000 * 1280)
    assert sizes[0] < sizes[1] / 3


def test_the_maps_are_computed_in_float32_from_weights_of_their_own(int8_archive: Path) -> None:
    """Walks the graph back from the maps, as far as nothing feeds the logits too."""
    with open_archive(int8_archive) as model_dir:
        graph = onnx.load(model_dir / "model.onnx").graph
    producers = {name: node for node in graph.node for name in node.output}
    initializers = {tensor.name: tensor for tensor in graph.initializer}

    def walk(name: str) -> set[str]:
        """Every tensor that this one is computed from, itself with them."""
        found: set[str] = set()
        waiting = [name]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += producers[name].input if name in producers else ()
        return found

    alone = walk("maps") - walk("logits")
    kinds = {producers[name].op_type for name in alone if name in producers}
    assert {"MatMul", "Softmax", "Relu"} <= kinds
    assert not kinds & {"QuantizeLinear", "MatMulInteger", "QLinearMatMul"}
    weights = [initializers[name] for name in alone if name in initializers]
    (last_layer,) = (tensor for tensor in weights if list(tensor.dims) == [1000, 1280])
    assert last_layer.data_type == onnx.TensorProto.FLOAT
    # The network's own last layer is quantised, once.
    quantised = [tensor for tensor in graph.initializer if 1000 in tensor.dims[:2]]
    assert onnx.TensorProto.INT8 in {tensor.data_type for tensor in quantised}


def test_only_weights_that_cannot_overflow_have_8_bits(int8_archive: Path) -> None:
    with open_archive(int8_archive) as model_dir:
        graph = onnx.load(model_dir / "model.onnx").graph
    tensors = [numpy_helper.to_array(tensor) for tensor in graph.initializer]
    weights = [tensor for tensor in tensors if tensor.dtype == np.int8 and tensor.ndim == 4]
    depthwise = [tensor for tensor in weights if tensor.shape[1] == 1]
    others = [tensor for tensor in weights if tensor.shape[1] > 1]
    assert (len(depthwise), len(others)) == (16, 33)
    assert all(np.abs(tensor.astype(int)).max() > 64 for tensor in depthwise)
    # Two products of an activation (0..255) and a weight of at most 64 fit into 16 bits.
    assert all(np.abs(tensor.astype(int)).max() <= 64 for tensor in others)


def test_other_golden_masses_are_refused(int8_archive: Path, tmp_path: Path) -> None:
    with open_archive(int8_archive) as model_dir:
        info = (model_dir / "model.json").read_text()
        cat = ModelInfo.read(model_dir).golden[0].cat
    other = info.replace(str(cat), str(cat - 2 * REDUCED_TOLERANCE))
    assert other != info
    changed = repack(int8_archive, tmp_path / "x.mar", model_json=other.encode())
    with pytest.raises(RefusedError, match=r"got cat .* \(tolerance 0.05\)"):
        verify_archive(changed)


def test_int8_that_is_too_far_from_fp32_leaves_the_old_archive(
    int8_archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measured as the one above was: only the quantisation is not done again."""
    with open_archive(int8_archive) as model_dir:
        agreement = ModelInfo.read(model_dir).agreement
    monkeypatch.setattr(quantise, "export_int8", lambda *_: (None, agreement))
    store = tmp_path / "store"
    store.mkdir()
    (store / "catdog.mar").write_bytes(b"the old one")
    spec = ArchiveSpec(
        network="efficientnet_lite0",
        weights=None,
        weights_url=None,
        runtime=None,
        precision="int8",
        version="1.0",
        settings=ROOT / "config" / "model-config.yaml",
        calibration=PHOTOS,
        gate=AgreementGate(max_mean_difference=0.0001),
    )
    refusal = "of 50 images.* a mean of at most 0.0001. Nothing was changed"
    with pytest.raises(RefusedError, match=refusal) as caught:
        build_archive(spec, store / "catdog.mar")
    assert caught.value.exit_code == 4
    assert (store / "catdog.mar").read_bytes() == b"the old one"
    assert [path.name for path in store.iterdir()] == ["catdog.mar"]


def test_a_server_answers_in_int8_and_says_how_it_agrees(
    int8_archive: Path, own: TorchServe
) -> None:
    with open_archive(int8_archive) as model_dir:
        agreement = ModelInfo.read(model_dir).agreement
    with loaded_beside(own, int8_archive) as version, as_default(own, version):
        with CatDogClient(own.config.inference_url) as client:
            prediction = client.classify(SAMPLES / "chelsea.png")
        status = read_status(own)  # its facts are what GET /models/catdog?customized=true answers
    assert (prediction.label, prediction.model.precision) == ("cat", "int8")
    assert prediction.version == version
    assert status.facts is not None
    assert status.agreement == agreement
    screen = io.StringIO()
    print_status(status, Console(file=screen, width=200))
    assert f"int8     {agreement}" in screen.getvalue()
