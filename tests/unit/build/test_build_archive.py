"""What `catdog package` says of settings and places that are not fit, before it packs."""

import shutil
from pathlib import Path

import pytest
import torch

from catdog.networks import get_network
from catdog.transforms import Preprocessing
from catdog_serving.build import build_archive as module
from catdog_serving.build.verify import other_than_code
from catdog_serving.build.weights import Weights
from catdog_serving.errors import NotReadyError
from catdog_serving.model_archive import archive_facts
from tests.support.command_line import catdog_here
from tests.support.paths import ROOT


@pytest.mark.parametrize("content", ["handler: [", "- 1", "handler:", "handler: {1: 2, x: 3}", ""])
def test_settings_that_are_none_are_refused_in_one_line(content: str, tmp_path: Path) -> None:
    settings = tmp_path / "mine.yaml"
    settings.write_text(content)
    result = catdog_here("package", "--settings", settings, "--output", tmp_path / "x.mar")
    assert result.returncode == 4
    assert result.stderr.startswith(f"catdog: {settings}")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "output", ["/sys/x.mar", "/proc/x.mar", "/proc/none/x.mar", "{}/file/x.mar", "{}/{long}/x.mar"]
)
def test_a_place_that_cannot_be_written_is_one_line(output: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    place = output.format(tmp_path, long="x" * 300)
    result = catdog_here("package", "--weights", "seeded", "--output", place)
    assert result.returncode == 3
    assert result.stderr.startswith(f"catdog: cannot make {place}: ")
    assert len(result.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_room_for_the_network_is_looked_for_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {"w": torch.zeros(10_000_000)}  # 40 MB, on the disk twice
    numbers = Preprocessing(256, 224, (0.5,) * 3, (0.5,) * 3)
    weights = Weights(get_network("resnet152"), "x", "0", False, state, numbers, ())
    usage = module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=80_000_000))
    with pytest.raises(NotReadyError, match="has 80 MB free, and packing needs about 84"):
        module._check_room(weights, tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=90_000_000))
    module._check_room(weights, tmp_path)


def test_without_room_nothing_is_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    arguments = ("--network", "efficientnet_lite0", "--output", tmp_path / "x.mar")
    result = catdog_here("package", *arguments)
    assert result.returncode == 3
    assert "has 1 MB free, and packing needs about " in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_an_editor_leaves_beside_the_code_is_not_packed(tmp_path: Path) -> None:
    for name in ("decode.py", "py.typed", "decode.py~", ".decode.py.swp", "decode.py.orig"):
        (tmp_path / "core" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "core" / name).touch()
    for folder in ("structure", "__pycache__"):
        (tmp_path / "core" / folder).mkdir()
        (tmp_path / "core" / folder / "png.py").touch()
    shutil.copytree(tmp_path / "core", tmp_path / "copy", ignore=other_than_code)
    found = {str(path.relative_to(tmp_path / "copy")) for path in (tmp_path / "copy").rglob("*")}
    assert found == {"decode.py", "py.typed", "structure", "structure/png.py"}


def test_the_shipped_settings_go_with_a_place_that_is_made(tmp_path: Path) -> None:
    """What is refused above is refused for its own reason."""
    result = catdog_here("package", "--weights", tmp_path / "no.pth", "--output", tmp_path / "a/b")
    assert result.returncode == 3
    assert f"no weights '{tmp_path}/no.pth'" in result.stderr
    assert list((tmp_path / "a").iterdir()) == []
    assert (ROOT / "config" / "model-config.yaml").is_file()


def test_auto_packs_fp16_for_gpus(tmp_path: Path) -> None:
    """By test_engines, such an archive computes float32 where there is no GPU."""
    result = catdog_here(
        *("package", "--network", "efficientnet_lite0", "--runtime", "torch"),
        *("--precision", "auto", "--output", tmp_path / "x.mar"),
    )
    assert result.returncode == 0, result.stderr
    assert "torch fp16" in result.stdout
    assert archive_facts(tmp_path / "x.mar")["precision"] == "fp16"


@pytest.mark.parametrize(("cuda", "runtime"), [(True, "torch"), (False, "onnx")])
def test_auto_takes_the_runtime_of_the_machine(
    cuda: bool, runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert module._best_runtime(module.AUTO) == runtime
