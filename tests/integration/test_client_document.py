"""Every example of docs/client.md runs, in a process of its own, against a real server."""

import re
import subprocess
import sys

import pytest

from catdog_serving.client import (
    _BLOCK_BYTES,
    CONNECT_TIMEOUT_S,
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    READ_TIMEOUT_S,
    RETRIES,
)
from catdog_serving.torchserve.server import TorchServe
from tests.support.paths import ROOT

DOCUMENT = (ROOT / "docs" / "client.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
PRINTED = [
    r"cat 0\.9229\d* 0\.0033\d* 0\.0736\d*\n0\.9229\d* tiger cat 0\.37\d*\ntiger cat 0\.37\d*\n"
    r"efficientnet_lite0 efficientnet-lite0-57934424, fp32 1\.0\n",
    r"cat \(0, 0, 441, 300\)\n7 rows of 11\n",
    r"cat\n",
    r"astronaut\.png neither\nchelsea\.png cat\ncoffee\.png neither\nrocket\.jpg neither\n",
    r"400 cannot decode 12 bytes as an image; send JPEG, PNG or WebP\n",
]


@pytest.mark.parametrize(("program", "printed"), list(zip(EXAMPLES, PRINTED, strict=True)))
def test_an_example_runs_and_prints_what_it_should(
    program: str, printed: str, server: TorchServe
) -> None:
    program = program.replace("http://127.0.0.1:8080", server.config.inference_url)
    program = program.replace("model-store/catdog.mar", str(server.config.archive))
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert re.fullmatch(printed, result.stdout), result.stdout


def test_the_figures_are_the_codes() -> None:
    block = f"{_BLOCK_BYTES >> 10} KiB"
    assert f"| to connect, and to send the next {block} | {CONNECT_TIMEOUT_S:g} s |" in DOCUMENT
    assert f"| to wait for an answer | {READ_TIMEOUT_S:g} s," in DOCUMENT
    pauses = ", ".join(f"{FIRST_PAUSE_S * 2**n:g}" for n in range(3))
    assert f"| retries | {RETRIES}, after random pauses of up to {pauses}" in DOCUMENT
    assert f"at most {LONGEST_PAUSE_S:g} s" in DOCUMENT
