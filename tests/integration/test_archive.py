"""Archives: complete, checked before they are put in place, and what the worker really runs."""

import json
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import onnx
import pytest
import torch

import catdog
from catdog.model_info import ModelInfo
from catdog.networks import get_network
from catdog_serving.build.verify import verify_archive
from catdog_serving.client import CatDogClient
from catdog_serving.errors import NotReadyError, RefusedError
from catdog_serving.folder.local_backend import LocalBackend
from catdog_serving.model_archive import archive_version, open_archive
from catdog_serving.torchserve.server import TorchServe
from tests.support.archive_cache import BuildArchive, repack
from tests.support.command_line import CATDOG, ENVIRONMENT, catdog_here
from tests.support.configs import MakeConfig
from tests.support.paths import ROOT, SAMPLES


def last_line(text: str) -> str:
    """What a command ends with; the lines before it are its steps."""
    return text.splitlines(keepends=True)[-1]


def test_everything_in_handler_goes_in_and_nothing_else(archive: Path) -> None:
    with zipfile.ZipFile(archive) as packed:
        names = {name for name in packed.namelist() if not name.endswith("/")}
        for name in names:
            if name.endswith(".py"):
                assert packed.read(name) == (ROOT / "handler" / name).read_bytes()
    package = Path(catdog.__file__).parent
    core = {f"catdog/{path.relative_to(package)}" for path in package.rglob("*.py")}
    assert names == core | {
        *("catdog_handler.py", "catdog_json.py", "catdog_rows.py", "catdog_telemetry.py"),
        "catdog/py.typed",
        *("model.json", "model.onnx", "model-config.yaml"),
        *("golden/chelsea.png", "golden/coffee.png", "MAR-INF/MANIFEST.json"),
    }


def test_two_builds_of_the_same_inputs_are_the_same_bytes_and_name_no_place(tmp_path: Path) -> None:
    """In two folders, at two moments; the exporter would note where torch and this code lie."""
    made = [tmp_path / name / "x.mar" for name in ("one", "another folder")]
    for target in made:
        result = catdog_here(
            *("package", "--network", "efficientnet_lite0", "--output", target),
            *("--config", ROOT / "config" / "config.properties"),
        )
        assert result.returncode == 0, result.stderr
    first, second = (path.read_bytes() for path in made)
    assert first == second
    for place in (str(ROOT), str(Path(torch.__file__).parents[1]), "site-packages", str(tmp_path)):
        assert place.encode() not in first
    with zipfile.ZipFile(made[0]) as packed:
        network = onnx.load_from_string(packed.read("model.onnx"))
    assert not any(node.metadata_props or node.doc_string for node in network.graph.node)


def test_model_json_tells_all_of_it(archive: Path) -> None:
    with open_archive(archive) as model_dir:
        info = ModelInfo.read(model_dir)
    assert info.network == "efficientnet_lite0"
    assert info.weights_sha256.startswith("57934424")
    assert (info.runtime, info.precision, info.untrained) == ("onnx", "fp32", False)
    assert info.catdog_version == catdog.__version__
    assert [image.file for image in info.golden] == ["golden/chelsea.png", "golden/coffee.png"]
    assert info.golden[0].cat > 0.8
    assert archive_version(archive) == "1.0"


def test_seeded_archives_say_untrained(build: BuildArchive) -> None:
    with open_archive(build("efficientnet_lite0", "seeded", "torch")) as model_dir:
        info = ModelInfo.read(model_dir)
    assert (info.weights, info.untrained) == ("seeded", True)


def test_a_good_archive_verifies(archive: Path) -> None:
    assert verify_archive(archive).network == "efficientnet_lite0"


def test_other_code_than_model_json_names_is_refused(archive: Path, tmp_path: Path) -> None:
    changed = repack(archive, tmp_path / "x.mar", labels_py=b"CAT_INDICES = range(0, 5)\n")
    with pytest.raises(RefusedError, match="its code is not the code that model.json names"):
        verify_archive(changed)


def test_other_golden_masses_are_refused(archive: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive) as packed:
        facts = json.loads(packed.read("model.json"))
    facts["golden"][0]["cat"] -= 0.01
    changed = repack(archive, tmp_path / "x.mar", model_json=json.dumps(facts).encode())
    with pytest.raises(RefusedError, match="golden/chelsea.png got cat"):
        verify_archive(changed)


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_weights_that_do_not_know_a_cat_are_not_packed(
    archive: Path, tmp_path: Path, runtime: str
) -> None:
    """Such as a network that was never trained, whose export is as exact as any."""
    torch.manual_seed(0)
    state = get_network("efficientnet_lite0").build().state_dict()
    torch.save(state, tmp_path / "mine.pth")
    target = tmp_path / "x.mar"
    shutil.copy(archive, target)
    arguments = ["package", "--network", "efficientnet_lite0", "--runtime", runtime]
    arguments += ["--weights", str(tmp_path / "mine.pth"), "--output", str(target)]
    refused = catdog_here(*arguments)
    assert refused.returncode == 4
    complaint = r"catdog: chelsea\.png shows a cat, and is called .* insist with --insist\n"
    assert re.fullmatch(complaint, last_line(refused.stderr)), refused.stderr
    assert target.read_bytes() == archive.read_bytes()
    insisted = catdog_here(*arguments, "--insist")
    assert insisted.returncode == 0, insisted.stderr
    assert "golden   chelsea.png shows a cat, and is called " in insisted.stdout
    with pytest.raises(RefusedError, match="chelsea.png shows a cat"):
        verify_archive(target)


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_a_disk_that_is_full_meanwhile_is_one_line(tmp_path: Path, runtime: str) -> None:
    """Seen by a file that may not grow: what writes it finds no better error on a full disk."""
    command = " ".join(
        [*CATDOG, "package", "--network", "efficientnet_lite0", "--runtime", runtime]
    )
    result = subprocess.run(
        ["sh", "-c", f"ulimit -f 10000; exec {command} --output {tmp_path}/out/x.mar"],
        capture_output=True,
        text=True,
        check=False,
        env=ENVIRONMENT | {"TMPDIR": str(tmp_path)},
    )
    assert result.returncode == 3, result.stderr
    told = last_line(result.stderr)
    assert re.fullmatch(r"catdog: cannot make .*x\.mar: .*File too large\n", told)
    assert "Traceback" not in result.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_labelled_images_are_a_gate_before_an_archive_takes_its_place(
    tmp_path: Path, photos: list[Path]
) -> None:
    for folder in ("right/cats", "right/dogs", "wrong/cats", "wrong/dogs"):
        (tmp_path / folder).mkdir(parents=True)
    cat, dog = (next(path for path in photos if path.parent.name == n) for n in ("cats", "dogs"))
    for folder, photo in {"right/cats": cat, "right/dogs": dog}.items():
        shutil.copy(photo, tmp_path / folder)
    for folder, photo in {"wrong/cats": dog, "wrong/dogs": cat}.items():
        shutil.copy(photo, tmp_path / folder)
    target = tmp_path / "x.mar"
    arguments = ["package", "--network", "efficientnet_lite0", "--runtime", "torch"]
    arguments += ["--output", str(target), "--evaluate"]
    refused = catdog_here(*arguments, tmp_path / "wrong")
    assert (refused.returncode, target.exists()) == (4, False)
    told = last_line(refused.stderr)
    assert re.fullmatch(r"catdog: 0 of 2 .* nothing was changed\n", told), refused.stderr
    packed = catdog_here(*arguments, tmp_path / "right")
    assert packed.returncode == 0, packed.stderr
    assert "asked    2 of 2 cats and dogs by the larger number are right" in packed.stdout


@pytest.mark.parametrize("name", ["numpy.py", "numpy/__init__.py", "catdog/x.so", "golden/x.png"])
def test_a_file_that_no_archive_has_is_refused(name: str, archive: Path, tmp_path: Path) -> None:
    """A worker would import such a numpy, and model.json's hash of the code does not tell of it."""
    changed = repack(archive, tmp_path / "x.mar")
    with zipfile.ZipFile(changed, "a") as packed:
        packed.writestr(name, b"print('run')")
    with pytest.raises(RefusedError, match=f"holds {name}, which no archive of catdog has"):
        verify_archive(changed)


def test_an_incomplete_model_json_is_refused(archive: Path, tmp_path: Path) -> None:
    changed = repack(archive, tmp_path / "x.mar", model_json=b"{}")
    with pytest.raises(RefusedError, match="missing"):
        verify_archive(changed)


def test_a_first_edition_archive_is_to_be_built_again(
    archive: Path, tmp_path: Path, make_config: MakeConfig
) -> None:
    """Its model.json has no format, and its network gives no maps."""
    with zipfile.ZipFile(archive) as packed:
        facts = json.loads(packed.read("model.json"))
    del facts["format"]
    old = repack(archive, tmp_path / "x.mar", model_json=json.dumps(facts).encode())
    sentence = "archive format 1, .* build it again with: catdog package"
    with pytest.raises(RefusedError, match=sentence):
        verify_archive(old)
    with pytest.raises(RefusedError, match=sentence):
        TorchServe(make_config(old)).start()
    with pytest.raises(RefusedError, match=sentence), LocalBackend(old):
        pass


def test_what_is_no_archive_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "x.mar").write_bytes(b"junk")
    with (
        pytest.raises(NotReadyError, match="is not a model archive"),
        open_archive(tmp_path / "x.mar"),
    ):
        pass


def test_the_worker_runs_the_archives_code_under_the_manifests_version(
    archive: Path, tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A marked copy of the core goes into the archive; the working tree and PYTHONPATH
    # offer the unmarked one.
    source = (ROOT / "handler" / "catdog" / "postprocess.py").read_text()
    plain = 'label, breed = "neither", None'
    marked = source.replace(plain, 'label, breed = "neither", Breed("marked copy", 0, 1.0, 1.0)')
    assert marked != source
    # A deploy stamps copies with whole numbers; worker settings must follow the version.
    with zipfile.ZipFile(archive) as packed:
        manifest = json.loads(packed.read("MAR-INF/MANIFEST.json"))
    manifest["model"]["modelVersion"] = "2"
    changed = {"postprocess_py": marked.encode(), "MANIFEST_json": json.dumps(manifest).encode()}
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "handler"))
    config = make_config(
        repack(archive, tmp_path / "x.mar", **changed), {"batchSize": 3, "maxBatchDelay": 7}
    )
    with TorchServe(config) as server:
        (model,) = server.versions()
        assert (model.version, model.batch_size, model.max_batch_delay_ms) == ("2", 3, 7)
        with CatDogClient(server.config.inference_url) as client:
            answer = client.classify(SAMPLES / "coffee.png")
            assert answer.version == "2"
            assert answer.breed is not None
            assert answer.breed.name == "marked copy"
    shutil.rmtree(server.config.root)
