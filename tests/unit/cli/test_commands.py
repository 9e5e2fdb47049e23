"""The table of commands: complete, grouped, imported only when called; and only cli/ prints."""

import ast
import errno
import importlib
import inspect
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from catdog import __version__
from catdog_serving.cli import COMMANDS
from catdog_serving.cli.options import print_line
from catdog_serving.cli.status import print_status
from catdog_serving.monitoring.snapshot import ServerStatus
from catdog_serving.torchserve.management import ModelStatus
from tests.support.command_line import ENVIRONMENT, catdog, catdog_here
from tests.support.configs import MakeConfig
from tests.support.paths import ROOT, SAMPLES

CLI = ROOT / "scripts" / "catdog_serving" / "cli"
EXAMPLES = {n: line.example for commands in COMMANDS.values() for n, line in commands.items()}
BESIDE_THE_COMMANDS = {"__init__", "backends", "curl", "gate", "options", "progress"}
# A program of its own, whose output is its result: the script that catdog grew from.
PRINTS = {"scripts/catdog_serving/bench/reference.py"}


def run(
    program: str, *arguments: object, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env)


def test_help_lists_the_commands_under_their_headings() -> None:
    result = catdog("--help", COLUMNS="100")
    assert result.returncode == 0
    found = re.findall(r"^╭─ (\w+) |^│ (\w+) ", result.stdout, re.MULTILINE)
    expected = [word for heading, commands in COMMANDS.items() for word in (heading, *commands)]
    assert [heading or name for heading, name in found] == ["Options", *expected]
    assert list(COMMANDS) == ["Use", "Build", "Run", "Change", "Measure", "More"]


def test_a_command_is_a_module_and_a_function_named_like_it() -> None:
    assert {path.stem for path in CLI.glob("*.py")} == {*EXAMPLES, *BESIDE_THE_COMMANDS}
    for commands in COMMANDS.values():
        for name, line in commands.items():
            function = getattr(importlib.import_module(f"catdog_serving.cli.{name}"), name)
            assert inspect.getdoc(function) == line.sentence


@pytest.mark.parametrize(("name", "example"), EXAMPLES.items())
def test_each_help_has_an_example_that_is_right_and_names_no_types_of_python(
    name: str, example: str
) -> None:
    shown = catdog_here(name, "--help", COLUMNS="100").stdout
    assert f"Example: catdog {name} {example}".rstrip() in shown
    assert not re.search(r"<(?:path|str|int|float|bool|list)\b|\b(?:TEXT|FLOAT|INTEGER)\b", shown)
    known = set(re.findall(r"--[a-z0-9-]+", shown))
    assert {word for word in example.split() if word.startswith("--")} <= known


def test_the_version_the_configuration_and_quiet_go_before_the_command(
    make_config: MakeConfig,
) -> None:
    assert catdog_here("--version").stdout == f"catdog {__version__}\n"
    config = make_config(None)
    for words in (["--config", config.path, "status"], ["status", "--config", config.path]):
        result = catdog_here(*words)
        assert (result.returncode, result.stdout) == (3, "")
        assert config.management_url in result.stderr
    assert config.management_url in catdog_here("status", CATDOG_CONFIG=str(config.path)).stderr
    for words in (["--quiet", "stop"], ["stop", "-q"]):
        result = catdog_here(*words, CATDOG_CONFIG=str(config.path))
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    result = catdog_here("-q", "status", CATDOG_CONFIG=str(config.path))
    assert result.stderr.count("\n") == 1  # an error is said
    again = catdog_here("stop", CATDOG_CONFIG=str(config.path))
    assert again.stdout == "no server was running\n"


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("catdog res", {"restart"}),
        ("catdog serve --m", {"--management-socket"}),
        ("catdog classify --copy", {"--copy-to"}),
        ("catdog --v", {"--version"}),
    ],
)
def test_a_shell_completes_commands_and_options(words: str, completed: set[str]) -> None:
    """As bash asks, with what `catdog --install-completion` gives it."""
    program = "import sys; sys.argv = ['catdog']; from catdog_serving.cli import main; main()"
    asked = {"_CATDOG_COMPLETE": "complete_bash", "COMP_WORDS": words}
    result = run(program, env=ENVIRONMENT | asked | {"COMP_CWORD": str(words.count(" "))})
    assert set(result.stdout.split()) == completed, result.stderr


def test_only_the_command_that_is_called_is_imported() -> None:
    program = """
import atexit, sys
from catdog_serving.cli import main
ours = lambda: sorted(name[19:] for name in sys.modules if name.startswith("catdog_serving.cli."))
atexit.register(lambda: print(*ours()))
main()
"""
    assert run(program, "--help").stdout.splitlines()[-1] == ""
    assert run(program, "stop", "--help").stdout.splitlines()[-1] == "options stop"


def test_commands_import_at_their_top() -> None:
    for path in CLI.glob("*.py"):
        functions = [n for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef)]
        inside = [node for function in functions for node in ast.walk(function)]
        lazy = [ast.unparse(n) for n in inside if isinstance(n, ast.Import | ast.ImportFrom)]
        assert lazy == [], path


def test_the_base_install_never_imports_what_is_heavy() -> None:
    # Help of every command, status and classify without a server, and the client.
    program = f"""
import sys
for heavy in ("torch", "torchvision", "onnxruntime", "starlette", "ray", "pyarrow", "matplotlib"):
    sys.modules[heavy] = None  # importing it now raises ImportError
from catdog_serving import CatDogClient
from catdog_serving.cli import main
for arguments in (["--help"], *([c, "--help"] for c in {list(EXAMPLES)}), ["status"], ["stop"],
                  ["classify", "--url", "http://127.0.0.1:9", "--jobs", "1", sys.argv[1]]):
    sys.argv = ["catdog", *arguments]
    try:
        main()
    except SystemExit as end:
        print(arguments[0], end.code)
"""
    result = run(program, SAMPLES / "rocket.jpg")
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    assert "None in sys.modules" not in result.stderr
    assert "classify 3" in result.stdout  # no server there, and that was all that was missing


def test_a_bug_is_not_taken_for_images_that_failed() -> None:
    program = """
import catdog_serving.cli as cli
def broken():
    raise RuntimeError("a bug")
cli.app = broken
cli.main()
"""
    result = run(program)
    assert result.returncode == os.EX_SOFTWARE
    assert result.stderr.startswith("Traceback")
    assert result.stderr.endswith("RuntimeError: a bug\n")


@pytest.mark.parametrize("write", ["print(line)", "print_line(line)"])
@pytest.mark.parametrize("count", [1, 100_000])
@pytest.mark.parametrize(
    ("command", "code", "complaint"),
    [
        ("{} | true; exit ${{PIPESTATUS[0]}}", 141, ""),
        ("{} > /dev/full", 3, "catdog: cannot write: No space left on device\n"),
    ],
)
def test_output_that_nobody_reads_or_that_is_full_is_no_failed_image(
    write: str, count: int, command: str, code: int, complaint: str, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(f"""
import time
import catdog_serving.cli as cli
import catdog_serving.cli.stop as module
from catdog_serving.cli.options import print_line
def stop():
    time.sleep(0.3)  # until nobody reads
    for line in ["x"] * {count}:
        {write}
module.stop = stop
import sys
sys.argv = ["catdog", "stop"]
cli.main()
""")
    line = command.format(f"{sys.executable} {program}")
    result = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.returncode, result.stderr) == (code, complaint)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        *((number, 3) for number in (errno.EACCES, errno.EROFS, errno.ENOSPC, errno.ENOTDIR)),
        *((number, 3) for number in (errno.ENAMETOOLONG, errno.ELOOP, errno.EMFILE, errno.EDQUOT)),
        *((number, 70) for number in (errno.ENOENT, errno.EEXIST, errno.ECONNREFUSED)),
    ],
    ids=lambda value: errno.errorcode.get(value, value),
)
def test_what_the_machine_refuses_is_one_line_and_no_bug(
    number: int, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop() -> None:
        raise OSError(number, os.strerror(number), "/a/place")

    monkeypatch.setattr(importlib.import_module("catdog_serving.cli.stop"), "stop", stop)
    result = catdog_here("stop")
    assert result.returncode == code
    if code == 3:
        assert result.stderr == f"catdog: /a/place: {os.strerror(number)}\n"


def test_names_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    name = "out[/x].csv shots[final].csv :cat: " + "long " * 50
    print_line(name, Console())
    assert capsys.readouterr().out == f"{name}\n"


def test_what_a_merge_made_is_named_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module("catdog_serving.cli.merge")
    report = SimpleNamespace(rows=2, failed=0, repeated=0)
    monkeypatch.setattr(module, "merge_states", lambda *_: report)
    module.merge(Path("shots[final].csv[/x]"), [])
    assert capsys.readouterr().out == "shots[final].csv[/x]: 2 files, 0 failed\n"


def test_a_status_shows_names_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    model = ModelStatus("1.0[/x]", True, 8, 5, 60, 120, (), 48, 0)
    print_status(ServerStatus("http://[::1]:8080[a]", "", (model,), None, None), Console(width=200))
    output = capsys.readouterr().out
    assert "http://[::1]:8080[a]" in output
    assert "1.0[/x]" in output


def prints(path: Path) -> Iterator[str]:
    """The calls in a module that write to the terminal, or make what does."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if re.fullmatch(r"print|Console|.*\.print|sys\.std(out|err)\..*write.*", called):
                yield f"line {node.lineno}: {called}"


def test_no_other_package_prints() -> None:
    found = {
        str(path.relative_to(ROOT)): calls
        for folder in ("handler", "scripts")
        for path in (ROOT / folder).rglob("*.py")
        if path.parent != CLI and (calls := list(prints(path)))
    }
    assert {path: calls for path, calls in found.items() if path not in PRINTS} == {}


@pytest.mark.parametrize(
    ("number", "code"),
    [(number, 128 + number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)],
)
def test_a_signal_that_comes_while_a_finaliser_runs_is_not_lost(number: int, code: int) -> None:
    program = f"""
import signal, time
import catdog_serving.cli as cli
class Closed:
    def __del__(self):
        signal.raise_signal({int(number)})
        print("not seen")
def command():
    Closed()
    time.sleep(60)
cli.app = command
cli.main()
"""
    result = run(program)
    assert (result.returncode, result.stdout, result.stderr) == (code, "", "")
