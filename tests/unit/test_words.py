"""What people read says "cat 0.92"; "mass" is the code's word, and one paragraph's of the docs."""

import ast
import re
from pathlib import Path

from tests.support.paths import ROOT

MASS = re.compile(r"\bmass(es)?\b", re.IGNORECASE)
DOCUMENTS = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "docs" / "openapi.yaml"]
OURS = (ROOT / "scripts" / "catdog_serving", ROOT / "handler")
PARTS_OF_PAGES = [path for kind in ("html", "js") for path in OURS[0].rglob(f"*.{kind}")]


def test_one_paragraph_of_the_documents_says_mass() -> None:
    paragraphs = [part for path in DOCUMENTS for part in path.read_text().split("\n\n")]
    (explained,) = [part for part in paragraphs if MASS.search(part)]
    assert "sum" in explained


def test_no_page_says_mass() -> None:
    assert [path.name for path in PARTS_OF_PAGES if MASS.search(path.read_text())] == []


def test_no_command_and_no_answer_says_mass() -> None:
    modules = [path for folder in OURS for path in folder.rglob("*.py")]
    assert [(path.name, text) for path in modules for text in said(path) if MASS.search(text)] == []


def said(path: Path) -> list[str]:
    """A module's texts but for its docstrings."""
    tree = ast.parse(path.read_text())
    statements = (node.value for node in ast.walk(tree) if isinstance(node, ast.Expr))
    docstrings = {id(value) for value in statements}
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if id(node) not in docstrings
    ]
