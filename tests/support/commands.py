"""The command line as a person calls it."""

import subprocess
import sys

CATDOG = [sys.executable, "-m", "catdog_serving"]


def catdog(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CATDOG, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"} | environment,
    )
