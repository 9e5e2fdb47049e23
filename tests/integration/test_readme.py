"""Commands of README and quickstart run as printed, and give the output that is printed there."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.configs import MakeConfig
from tests.support.paths import ROOT, SAMPLES
from tests.support.processes import wait_until

README = (ROOT / "README.md").read_text()
QUICKSTART = (ROOT / "docs" / "quickstart.md").read_text()
ALL_COMMANDS = re.findall(r"^\$ (.+)$", README, re.MULTILINE)


@pytest.fixture(scope="module")
def checkout(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the tracked files, with this environment as its .venv, on free ports."""
    copy = tmp_path_factory.mktemp("checkout") / "catdog"
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    ).stdout
    for name in filter(None, tracked.split("\0")):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name)
    environment = Path(sys.prefix)
    if not (environment / ".installed").exists():
        pytest.skip(f"{environment} was not made by `make install`")
    (copy / ".venv").symlink_to(environment)
    shutil.copy(make_config(None).path, copy / "config" / "config.properties")
    yield copy
    run("make stop", copy)


def run(command: str, checkout: Path) -> str:
    """Run a README command in the copy, as a person without network and Java would."""
    (copied_url,) = re.findall(
        r"^inference_address=(.+)$", (checkout / "config/config.properties").read_text(), re.M
    )
    result = subprocess.run(
        ["bash", "-c", command.replace("http://127.0.0.1:8080", copied_url)],
        cwd=checkout,
        env={
            "PATH": f"{checkout}/.venv/bin:/usr/bin:/bin",
            "HOME": str(checkout.parent),
            "CATDOG_WEIGHTS_URL": "http://127.0.0.1:9",  # no network, whatever this machine has
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    both = result.stderr + result.stdout if command == "make run" else result.stdout
    both = both.replace(copied_url, "http://127.0.0.1:8080").replace(f"{checkout}/", "")
    # The copy's environment has the original's code, so the samples are found over there.
    return re.sub(r"(\.\./)+\S+/scripts/", "scripts/", both)


def normal(text: str) -> str:
    """Without what differs from run to run: times, rates, hashes, where the weights were sought.

    And from machine to machine: whether Debian's Java libraries are there. Nor the steps of
    packaging and of a start, which on a terminal replace each other in one line.
    """
    steps = r"^(loading|exporting|packing|checking) the .*\n|^starting TorchServe.*\n"
    text = re.sub(steps, "", text, flags=re.MULTILINE)
    text = re.sub(r"^(java|note) .*\n", "", text, flags=re.M)
    text = re.sub(r"\d+\.\d s, [\d.]+ images/s", "T s, R images/s", text)
    text = re.sub(r"SHA-256 [0-9a-f]{64}", "SHA-256 H", text)
    text = re.sub(r"^catdog: cannot download .*$", "catdog: cannot download", text, flags=re.M)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def printed_output(command: str, document: str = README) -> str:
    """What a document shows below a command."""
    (output,) = re.findall(
        rf"^\$ {re.escape(command)}\n(.*?)(?=^\$ |^```)", document, re.MULTILINE | re.DOTALL
    )
    return str(output)


def test_the_first_screen_is_real(checkout: Path) -> None:
    """The quickstart has all that `make run` prints, the README how it ends."""
    output = normal(run("make run", checkout))
    assert output == normal(printed_output("make run", QUICKSTART))
    omitted, _, end = printed_output("make run").partition("\n")
    assert omitted == "..."
    assert output.endswith("\n" + normal(end))
    curl = next(c for c in ALL_COMMANDS if c.startswith("curl"))
    assert normal(run(curl, checkout)) == normal(printed_output(curl))


def test_the_plain_way_runs_as_printed(checkout: Path, tmp_path: Path) -> None:
    """TorchServe's own launcher, and curl with the key that it made."""
    (block,) = re.findall(r"```sh\n(export JAVA_HOME.*?)```", README, re.DOTALL)
    java, start, *curl, stop = block.splitlines()
    assert (checkout / "model-store" / "catdog.mar").is_file(), "run the first test, too"
    run("make stop", checkout)
    temporary = f"export TMPDIR={tmp_path}"  # where its pid file lies
    keys = checkout / "key_file.json"
    try:
        run(f"{temporary}\n{java}\n{start} >log 2>&1", checkout)  # Java would keep the pipe open
        wait_until(lambda: keys.is_file() and bool(keys.read_text().strip()), "the key file")
        # Its port opens later, and a request then waits for the worker.
        asked = "\n".join(curl).replace("curl ", "curl -s --retry 60 --retry-all-errors ", 1)
        answer = json.loads(run(asked, checkout))
        assert (answer["label"], answer["version"]) == ("cat", "1.0")
    finally:
        run(f"{temporary}\n{stop} --foreground", checkout)


def test_the_python_example_runs(checkout: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    run("make serve", checkout)
    output = run(f"python - <<'END'\n{program}\nEND", checkout).splitlines()
    assert output == [
        "cat 0.922937",
        "400 cannot decode 12 bytes as an image; send JPEG, PNG or WebP",
    ]


def test_the_other_commands_run_on_a_persons_images(checkout: Path) -> None:
    images = checkout.parent / "Pictures" / "holiday"
    images.mkdir(parents=True)
    shutil.copy(SAMPLES / "rocket.jpg", images)
    shutil.copy(SAMPLES / "chelsea.png", checkout.parent / "cat.jpg")
    of_other_tests = ("make run", "make stop", "catdog stop")
    commands = [c for c in ALL_COMMANDS if c not in of_other_tests and "curl" not in c]
    assert len(commands) == 8
    for command in commands:
        output = run(command, checkout)
        if command == "catdog classify ~/Pictures/holiday ~/cat.jpg":
            assert re.search(r"^cat .*cat\.jpg$", output, re.MULTILINE)
            assert re.search(r"^neither .*rocket\.jpg$", output, re.MULTILINE)
    home = checkout.parent
    assert "rocket.jpg" in (home / "pictures.html").read_text()
    assert "rocket.jpg" in (home / "pictures.csv").read_text()
    assert not (home / "sorted").exists()
    assert (home / "maps" / "holiday" / "rocket.jpg.overlay.jpg").exists()


def test_make_stop_leaves_nothing(checkout: Path) -> None:
    run("make serve", checkout)
    assert printed_output("make stop") == printed_output("make stop", QUICKSTART)
    assert normal(run("make stop", checkout)) == normal(printed_output("make stop"))
    assert "catdog stop" in ALL_COMMANDS
    for again in ("make stop", "catdog stop"):
        assert normal(run(again, checkout)) == "no server was running"
