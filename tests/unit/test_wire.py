"""What clients, scripts and operators see stays as tests/data/wire has it, or changes on purpose.

After a change on purpose: CATDOG_RENEW_SNAPSHOTS=1 pytest tests/unit/test_wire.py writes the
files anew, and fails, so that nothing passes by it; `git diff tests/data/wire` is what changes
for clients, and belongs in the commit.
"""

import difflib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.wire.api import render_api
from tests.support.wire.command import render_command, render_help
from tests.support.wire.monitoring import render_monitoring

WIRE = ROOT / "tests" / "data" / "wire"
RENEW = os.environ.get("CATDOG_RENEW_SNAPSHOTS") == "1"
RENDERERS: dict[str, Callable[[Path], dict[str, str]]] = {
    "api": render_api,
    "command": render_command,
    "help": render_help,
    "monitoring": render_monitoring,
}


@pytest.mark.parametrize("name", RENDERERS)
def test_it_is_as_recorded(name: str, tmp_path: Path) -> None:
    folder = WIRE / name
    found = RENDERERS[name](tmp_path)
    recorded = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*")}
    if RENEW:
        renew(folder, found, recorded)
        pytest.fail(f"{folder} was renewed; see git diff, run again without", pytrace=False)
    if found != recorded:
        changes = (
            difference(f"{name}/{file}", recorded.get(file, ""), found.get(file, ""))
            for file in sorted(found | recorded)
        )
        pytest.fail(f"{__doc__}\n{''.join(changes)}", pytrace=False)


def test_every_folder_has_its_renderer() -> None:
    assert {path.name for path in WIRE.iterdir()} == {*RENDERERS, "README.md"}


def difference(file: str, recorded: str, found: str) -> str:
    before, after = recorded.splitlines(keepends=True), found.splitlines(keepends=True)
    return "".join(difflib.unified_diff(before, after, f"recorded/{file}", f"found/{file}"))


def renew(folder: Path, found: dict[str, str], recorded: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file in set(recorded) - set(found):
        (folder / file).unlink()
    for file, text in found.items():
        (folder / file).write_text(text, encoding="utf-8")
