"""Wheels that hold nothing but their metadata, and an index of them; also a build backend.

Standard library only: pip imports a copy of it as the backend of a project that a test makes.
"""

import zipfile
from collections.abc import Iterable
from pathlib import Path


def write_wheel(folder: Path, name: str, version: str, requires: Iterable[str] = ()) -> Path:
    """A wheel; `requires` may name extras, as in "torch; extra == 'serve'"."""
    stem = f"{name.replace('-', '_')}-{version}"
    extras = {line.split("extra == ")[1].strip("'") for line in requires if "extra == " in line}
    metadata = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Provides-Extra: {extra}" for extra in sorted(extras)),
        *(f"Requires-Dist: {line}" for line in requires),
    ]
    files = {
        "METADATA": "\n".join(metadata) + "\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: stub\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    info = f"{stem}.dist-info"
    record = "".join(f"{info}/{file},,\n" for file in (*files, "RECORD"))
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in {**files, "RECORD": record}.items():
            wheel.writestr(f"{info}/{file}", text)
    return path


def write_index(folder: Path, wheels: Iterable[tuple[str, str, tuple[str, ...]]]) -> None:
    """A folder that pip takes as an index, of wheels as (name, version, requires)."""
    for name, version, requires in wheels:
        (folder / name).mkdir(parents=True)
        wheel = write_wheel(folder / name, name, version, requires).name
        page = f'<a href="{wheel.replace("+", "%2B")}">{wheel}</a>'
        (folder / name / "index.html").write_text(page)


def build_editable(
    wheel_directory: str, config_settings: object = None, metadata_directory: object = None
) -> str:
    """PEP 660's, for a project that a test makes; its requirements are in requires.txt."""
    requires = Path("requires.txt").read_text().splitlines()
    return write_wheel(Path(wheel_directory), "project", "1", requires).name
