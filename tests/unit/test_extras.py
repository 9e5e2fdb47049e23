"""What is missing is installed from the checkout or a wheel: no index has catdog.

The `catdog` of the public index is somebody else's, and `catdog-serving` is not there.
"""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import catdog
from catdog_serving import extras
from catdog_serving.extras import install_hint
from tests.support.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# A command to the end of its line, of its shell command, or of the quotation that it stands in.
INSTALLS = re.compile(r"\b(?:pip3?|pipx|uv tool)\s+install\s+((?:[^\n`\"&;|\\]|\\\n)*)")
OURS = re.compile(r"['\"]?catdog(?:[-_.]serving)?(?:\[[^\]]*\])?(?:[=<>~!@].*)?['\".,:)]*")


def from_an_index(text: str) -> list[str]:
    """The commands in a text that install catdog by its name alone."""
    return [
        match[0]
        for match in INSTALLS.finditer(text)
        if any(OURS.fullmatch(word) for word in match[1].split())
    ]


def tracked() -> list[Path]:
    """The files of the checkout, with those that are not committed yet."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [path for name in listed.split("\0") if (path := ROOT / name).is_file()]


@pytest.mark.parametrize(
    "named",
    [
        "catdog",
        "-U catdog.",
        "'catdog[web]'",
        "\n    catdog_serving[web,ray]",
        "x catdog-serving==1",
    ],
)
def test_an_install_from_an_index_is_seen(named: str) -> None:
    assert from_an_index(f"run: `pip install {named}`, then go on") != []


@pytest.mark.parametrize(
    "named",
    [
        "-c requirements.lock -e '.[web]'",
        "'dist/catdog_serving-0.1.0-py3-none-any.whl[web]'",
        "./catdog",
        "'.[web]'\n$ catdog web",
        ". && catdog serve",
    ],
)
def test_an_install_by_a_path_is_none(named: str) -> None:
    assert from_an_index(f"pip install {named}") == []


def test_nothing_installs_catdog_from_an_index() -> None:
    found = {}
    for path in tracked():
        content = path.read_bytes()
        if b"\0" not in content and (commands := from_an_index(content.decode())):
            found[str(path.relative_to(ROOT))] = commands
    assert found == {}


def test_the_distribution_has_a_name_of_its_own_and_the_command_its_old_one() -> None:
    assert PROJECT["name"] == "catdog-serving"
    assert list(PROJECT["scripts"]) == ["catdog"]
    assert "catdog" not in (ROOT / "requirements.lock").read_text()


def checkout(folder: Path) -> Path:
    (folder / "handler").mkdir(parents=True)
    (folder / "pyproject.toml").touch()
    return folder


def test_in_the_checkouts_own_environment_make_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = checkout(tmp_path / "my catdog")
    monkeypatch.setattr(extras, "_CHECKOUT", root)
    monkeypatch.setattr(sys, "prefix", str(root / ".venv"))
    assert install_hint("web") == f"cd '{root}' && make install EXTRAS=web"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ([], ["serve,embedded"]),
        (["EXTRAS=web,ray"], ["serve,embedded", "serve,embedded,web,ray"]),
        (["TORCH=cuda"], ["serve,embedded", "serve,embedded"]),
    ],
)
def test_makes_command_adds_the_extra_to_the_environment(
    variables: list[str], expected: list[str]
) -> None:
    planned = subprocess.run(
        ["make", "--dry-run", "--always-make", "install", *variables],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    tool = [line.split() for line in planned.splitlines() if "tools/install.py" in line]
    assert [command[-1] for command in tool] == expected
    kind = "cuda" if "TORCH=cuda" in variables else "auto"
    assert {command[command.index("--torch") + 1] for command in tool} == {kind}


def test_in_another_environment_pip_installs_the_checkout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = checkout(tmp_path / "catdog")
    monkeypatch.setattr(extras, "_CHECKOUT", root)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "other"))
    assert install_hint("web") == f"pip install -e '{root}[web]'"


WHEEL = f"catdog_serving-{catdog.__version__}-py3-none-any.whl"


@pytest.mark.parametrize(
    ("noted", "expected"),
    [
        ("{there}/dist/" + WHEEL, "{there}/dist/" + WHEEL),
        ("{there}/gone/" + WHEEL, "PATH/TO/" + WHEEL),
        ("{there}/my%20checkout", "{there}/my checkout"),
        ("{there}/gone", "PATH/TO/" + WHEEL),
        (None, "PATH/TO/" + WHEEL),
    ],
)
def test_without_a_checkout_what_pip_noted_is_named(
    noted: str | None, expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """PEP 610: direct_url.json has the path of the wheel or checkout."""
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / WHEEL).touch()
    (tmp_path / "my checkout").mkdir()
    (tmp_path / "my checkout" / "pyproject.toml").touch()
    info = tmp_path / "site" / "catdog_serving-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Name: catdog-serving\nVersion: 1\n")
    if noted:
        url = {"url": f"file://{noted.format(there=tmp_path)}"}
        (info / "direct_url.json").write_text(json.dumps(url))
    monkeypatch.syspath_prepend(info.parent)
    monkeypatch.setattr(extras, "_CHECKOUT", tmp_path)
    assert install_hint("web") == f"pip install '{expected.format(there=tmp_path)}[web]'"


def test_the_code_lies_in_this_checkout() -> None:
    assert extras._CHECKOUT == ROOT


def test_every_hint_names_an_extra_that_there_is() -> None:
    named = {
        node.args[0].value
        for path in (ROOT / "scripts").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "install_hint"
        and isinstance(node.args[0], ast.Constant)
    }
    assert named == {"serve", "asgi", "embedded", "report", "heic", "web", "ray"}
    assert named <= set(PROJECT["optional-dependencies"])
