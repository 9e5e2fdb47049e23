"""The components of TorchServe's own jar, in a CycloneDX file of the Python packages."""

import json
import sys
from pathlib import Path

import pytest

from catdog_serving.torchserve.java_libraries import LIBRARIES
from tests.support.paths import ROOT
from tools.sbom import audit, jar_components, main, torchserve_jar


def test_netty_and_grpc_are_read_out_of_the_jar_and_agree_with_what_is_replaced() -> None:
    found = jar_components(torchserve_jar())
    for library in LIBRARIES:
        for artifact in library.needed:
            assert found[f"{library.group}:{artifact}"] == library.bundled
    assert found["io.grpc:grpc-netty-shaded"] == "1.50.0"
    told = (ROOT / "docs" / "java-libraries.md").read_text()
    for name, version in found.items():
        if not name.startswith("io.netty:"):
            assert f"{name.partition(':')[2]} {version}" in told


def fake_tool(folder: Path, name: str, program: str) -> None:
    tool = folder / name
    tool.write_text(f"#!{sys.executable}\n{program}\n")
    tool.chmod(0o755)


LIST = """
import json, sys
bom = {"components": [{"name": "torchserve", "version": "0.12.0", "type": "library"}]}
json.dump(bom, open(sys.argv[sys.argv.index("--output-file") + 1], "w"))
"""


def test_the_file_has_both_and_an_audit_that_cannot_ask_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_tool(tmp_path, "cyclonedx-py", LIST)
    refusal = "raise ConnectionError('no way to api.example' + ' and on' * 100)"
    fake_tool(tmp_path, "pip-audit", refusal)
    output = tmp_path / "bom.json"
    monkeypatch.setattr(sys, "argv", ["sbom", str(output), str(tmp_path)])
    main()
    *_, told = capsys.readouterr().out.splitlines()
    assert told.startswith("pip-audit could not ask for advisories: ConnectionError: no way to api")
    (torchserve,) = json.loads(output.read_text())["components"]
    (jar,) = torchserve["components"]
    assert jar["name"] == "model-server.jar"
    purls = {part["purl"] for part in jar["components"]}
    assert "pkg:maven/io.netty/netty-codec-http@4.1.53.Final" in purls
    assert len(purls) == len(jar["components"]) > 30


def test_what_an_audit_finds_is_shown(tmp_path: Path) -> None:
    fake_tool(tmp_path, "pip-audit", "import sys; print('found 1'); sys.exit(1)")
    assert audit(tmp_path, tmp_path / "lock") == "found 1"
