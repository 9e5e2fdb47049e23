"""Say how to install what a command lacks: the extras, catdog's optional parts."""

import shlex
import sys
from pathlib import Path

import catdog

_CHECKOUT = Path(__file__).parents[2]  # if it is one: else where Python keeps its packages


def install_hint(extra: str) -> str:
    """The shell command that adds an extra to this installation of catdog.

    It names a path in every case: catdog is on no package index, and the `catdog` of the
    public one is somebody else's.

    Args:
        extra: One of pyproject.toml's optional-dependencies, such as "web".
    """
    if not all((_CHECKOUT / name).exists() for name in ("pyproject.toml", "handler")):
        wheel = f"catdog_serving-{catdog.__version__}-py3-none-any.whl"
        return f"pip install 'PATH/TO/{wheel}[{extra}]'"
    if Path(sys.prefix).resolve() == (_CHECKOUT / ".venv").resolve():
        return f"cd {shlex.quote(str(_CHECKOUT))} && make install EXTRAS={extra}"
    return f"pip install -e {shlex.quote(f'{_CHECKOUT}[{extra}]')}"
