"""ONNX Runtime and OpenVINO are imported in one way each, and that leaves nothing behind."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from catdog.engines.placement import has_openvino
from tests.support.paths import ROOT

BY_NAME = ("import_module", "__import__", "importorskip")


def other_imports(source: str) -> list[int]:
    """The lines that import one of the two themselves, by a statement or by its name."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                modules = [alias.name for alias in names]
            case ast.ImportFrom(module=str(module), level=0):
                modules = [module]
            case ast.Call(func=func, args=[ast.Constant(value=str(name)), *_]):
                modules = [name] if ast.unparse(func).endswith(BY_NAME) else []
            case _:
                continue
        if any(module.partition(".")[0] in ("onnxruntime", "openvino") for module in modules):
            lines.append(node.lineno)
    return lines


@pytest.mark.parametrize(
    "source",
    [
        "import onnxruntime",
        "def f():\n    import numpy, onnxruntime.quantization as q",
        "from onnxruntime.quantization import quantize_static",
        "importlib.import_module('onnxruntime')",
        "pytest.importorskip('onnxruntime.capi')",
        "from openvino import opset13",
    ],
)
def test_another_import_is_seen(source: str) -> None:
    assert other_imports(source) == [source.count("\n") + 1]


def test_nobody_imports_it_in_another_way() -> None:
    assert other_imports("import_onnxruntime('onnxruntime.quantization')") == []
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for folder in ("handler", "scripts", "tests")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line in other_imports(path.read_text())
    ]
    assert found == []


def test_an_import_leaves_nothing_in_home_and_temporary_folder(tmp_path: Path) -> None:
    program = """
from catdog.no_telemetry import import_onnxruntime
print(import_onnxruntime().__name__, import_onnxruntime("onnxruntime.quantization").__name__)
"""
    result = subprocess.run(
        [sys.executable, "-c", program],
        # Whatever the shell says, and without a CI's variables, which silence it anyway.
        env={"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "ORT_DISABLE_TELEMETRY": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "onnxruntime onnxruntime.quantization\n"
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.skipif(not has_openvino(), reason="OpenVINO is not installed")
def test_openvino_comes_without_what_would_tell_its_maker(tmp_path: Path) -> None:
    program = """
import sys
from catdog.no_telemetry import import_openvino
print(import_openvino().Core().available_devices, "openvino_telemetry" in sys.modules)
"""
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={"HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "['CPU'] False\n"
    assert list(tmp_path.rglob("*")) == []


def test_the_image_has_it_off_for_every_process() -> None:
    dockerfile = (ROOT / "config" / "docker" / "Dockerfile").read_text()
    final = dockerfile[dockerfile.rindex("\nFROM ") :]
    assert re.search(r"^ENV ((?!\n[A-Z]+ ).)* ORT_DISABLE_TELEMETRY=1$", final, re.M | re.S)
