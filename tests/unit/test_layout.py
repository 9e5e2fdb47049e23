"""How tests are laid out: what several share lies in tests/support, and no test imports a test."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support.paths import ROOT

TESTS = ROOT / "tests"
MODULES = sorted(path.relative_to(TESTS) for path in TESTS.rglob("*.py"))


def imported_from(path: Path) -> Iterator[str]:
    """The modules that a file names in its imports, each also as if a module was imported."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield str(node.module)
            yield from (f"{node.module}.{name.name}" for name in node.names)


def test_of_tests_only_support_is_imported() -> None:
    wrong = {
        f"{module} imports {name}"
        for module in MODULES
        for name in imported_from(TESTS / module)
        if name.startswith("tests.") and not f"{name}.".startswith("tests.support.")
    }
    assert wrong == set()


def test_what_is_no_test_lies_in_support() -> None:
    allowed = ("__init__.py", "conftest.py")
    elsewhere = [path for path in MODULES if path.parts[0] != "support"]
    assert len(elsewhere) > 50
    assert [
        str(path)
        for path in elsewhere
        if path.name not in allowed and not path.name.startswith("test_")
    ] == []
