"""Say how to install what a command lacks: the extras, catdog's optional parts."""

import json
import os
import shlex
import sys
from importlib.metadata import distribution
from pathlib import Path
from urllib.parse import unquote, urlsplit

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
        return f"pip install {shlex.quote(f'{_installed_from()}[{extra}]')}"
    if Path(sys.prefix).resolve() == (_CHECKOUT / ".venv").resolve():
        return f"cd {shlex.quote(str(_CHECKOUT))} && make install EXTRAS={extra}"
    return f"pip install -e {shlex.quote(f'{_CHECKOUT}[{extra}]')}"


def _installed_from() -> str:
    """The wheel, or the checkout, that pip noted: where it is still there."""
    noted = distribution("catdog-serving").read_text("direct_url.json")
    path = unquote(urlsplit(json.loads(noted)["url"]).path) if noted else ""
    is_wheel = path.endswith(".whl") and os.path.isfile(path)
    if is_wheel or (path and os.path.isfile(os.path.join(path, "pyproject.toml"))):
        return path
    return f"PATH/TO/catdog_serving-{catdog.__version__}-py3-none-any.whl"
