"""The command line as a person calls it: in a process of its own, or, 20 times faster, in this one.

Tables of exit codes and messages are asked in this process. What a process is for (imports,
signals, its very end) is asked of a process.
"""

import io
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from unittest.mock import patch

from catdog_serving.cli import main

CATDOG = [sys.executable, "-m", "catdog_serving"]
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}


def catdog(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `catdog ARGUMENTS` in a process of its own."""
    return subprocess.run(
        [*CATDOG, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=ENVIRONMENT | environment,
    )


def catdog_here(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `catdog ARGUMENTS` in this process, by the function that the command starts with."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = {number: signal.getsignal(number) for number in numbers}
    output, errors = (io.TextIOWrapper(io.BytesIO(), write_through=True) for _ in range(2))
    words = ["catdog", *map(str, arguments)]
    with (
        patch.object(sys, "argv", words),
        patch.dict(os.environ, ENVIRONMENT | environment, clear=True),
        redirect_stdout(output),
        redirect_stderr(errors),
    ):
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return subprocess.CompletedProcess(words, code, _text(output), _text(errors))


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    assert isinstance(stream.buffer, io.BytesIO)
    return stream.buffer.getvalue().decode()
