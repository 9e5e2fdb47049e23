"""Documents lead somewhere: links, anchors and paths, and commands that the command line takes."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import pytest
import typer

from catdog_serving.cli import app
from tests.support.paths import ROOT

DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "tests" / "data" / "wire" / "README.md",
]
INDEX = ROOT / "docs" / "README.md"
USAGE_ERROR = typer.BadParameter.__mro__[1]  # typer shows this one nowhere
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    prose = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(document: Path) -> Iterator[tuple[Path, str]]:
    """Where a document's links within the repository lead: (file, anchor or "")."""
    for link in LINK.findall(document.read_text()):
        if not link.startswith(("http://", "https://")):
            target, _, anchor = unquote(link).partition("#")
            yield (document.parent / target).resolve() if target else document, anchor


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    for target, anchor in links(document):
        assert target.exists(), target
        assert not anchor or anchor in anchors(target), f"{target} has no #{anchor}"


def test_every_document_is_reachable_from_the_index() -> None:
    reached, ahead = set(), [INDEX]
    while ahead:
        document = ahead.pop()
        reached.add(document)
        ahead += [t for t, _ in links(document) if t in DOCUMENTS and t not in reached]
    assert set(DOCUMENTS) - reached == set()
    assert INDEX in {target for target, _ in links(ROOT / "README.md")}


def test_every_test_that_a_document_names_exists() -> None:
    named = {
        name for document in DOCUMENTS for name in re.findall(r"\btest_\w+", document.read_text())
    }
    tests = list((ROOT / "tests").rglob("test_*.py"))
    there = {path.stem for path in tests}
    there |= {name for path in tests for name in re.findall(r"def (test_\w+)", path.read_text())}
    assert named - there == set()
    assert named


def test_every_alert_has_its_paragraph() -> None:
    rules = (ROOT / "config/prometheus/rules.yml").read_text()
    runbooks = re.findall(r"runbook_url: (\S+)#(\S+)", rules)
    assert len(runbooks) == len(re.findall(r"- alert: ", rules)) > 0
    for document, anchor in runbooks:
        assert anchor in anchors(ROOT / document)


def test_the_file_tree_names_what_there_is() -> None:
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    (tree,) = re.findall(r"## Where things are\n\n```\n(.*?)```", contributing, re.DOTALL)
    folder = ROOT
    for line in tree.splitlines():
        names = line[:31].split()  # what is said of them begins there
        if not line.startswith(" "):
            folder = ROOT / names[0]
            assert folder.exists() or names[0] == "model-store/catdog.mar", line
            continue
        for name in names:
            assert (folder / name).is_dir() or (folder / f"{name}.py").is_file(), line


def test_every_file_that_code_and_configuration_refer_to_is_there() -> None:
    folders = ("handler", "scripts", "config", "tests")
    files = [path for name in folders for path in (ROOT / name).rglob("*") if path.is_file()]
    named = {
        found
        for path in [*files, ROOT / "Makefile"]
        if path.suffix in ("", ".py", ".yml", ".yaml", ".conf", ".properties")
        for found in re.findall(r"\bdocs/[\w/-]+\.md\b", path.read_text())
    }
    assert "docs/edge.md" in named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_path_that_a_document_names_is_there(document: Path) -> None:
    if document.name == "CHANGELOG.md":
        return  # it speaks of what is gone, too
    folders = "handler|scripts|config|tests|tools|docs"
    named = re.findall(rf"(?<![\w/.~-])(?:{folders})/[\w./-]*\w", document.read_text())
    keys = {
        f"config/nginx/{name}" for name in ("api-keys.map", "certificate.key", "certificate.pem")
    }
    made = keys | {"config/docker/.env"}  # by who runs it
    assert [path for path in named if path not in made and not (ROOT / path).exists()] == []


class Line(NamedTuple):
    """One `catdog ...` of a document: to be typed as it stands, or only spoken of."""

    document: str
    text: str
    is_spoken_of: bool


def command_lines() -> Iterator[Line]:
    """Those in blocks of code, and those between backticks."""
    for document in DOCUMENTS:
        if document.name == "CHANGELOG.md":
            continue  # it speaks of what is gone, too
        text = document.read_text().replace("\\\n", " ")
        for prompt, kind in ((r"\$ ", "console"), ("", "(?:sh|bash)")):
            blocks = re.findall(rf"^```{kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
            commands = rf"^{prompt}(?:[A-Z_]+=\S+ )*(catdog .+)$"
            for line in re.findall(commands, "\n".join(blocks), re.MULTILINE):
                yield Line(document.name, line, is_spoken_of=False)
        prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        for code in re.findall(r"`(catdog [^`]+)`", prose):
            for part in code.split("&&"):
                yield Line(document.name, part.strip(), is_spoken_of=True)


def problem(line: Line) -> str | None:
    """What the parser of the command line has against a line, if anything; nothing is run.

    A command that is only spoken of may lack arguments, or have DIR and N for values.
    """
    _, name, *arguments = shlex.split(line.text.partition("|")[0].rstrip("\\ "), comments=True)
    if name == "--config":
        _, name, *arguments = arguments
    command = app.get_command(typer.Context(app), name)
    if command is None:
        options = [option for param in app.params for option in param.opts]
        return None if name in ("--help", "COMMAND", *options) else f"no command {name}"
    try:
        command.make_context(name, arguments)
    except typer.BadParameter as error:
        return None if line.is_spoken_of else error.format_message()
    except USAGE_ERROR as error:
        found = str(error.format_message())
        return None if line.is_spoken_of and "requires an argument" in found else found
    except typer.Exit:  # --help
        pass
    return None


def test_every_command_in_the_documents_exists() -> None:
    lines = list(command_lines())
    assert len(lines) > 80
    assert [(line, found) for line in lines if (found := problem(line))] == []


@pytest.mark.parametrize(
    "text",
    ["catdog bark", "catdog classify photos --recursive", "catdog stop now", "catdog scale two"],
)
def test_a_command_that_does_not_exist_is_found(text: str) -> None:
    assert problem(Line("a document", text, is_spoken_of=False)) is not None
