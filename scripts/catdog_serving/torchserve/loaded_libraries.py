"""The jars before TorchServe's: put there for a start, and told of a running server.

link_libraries(choose_libraries(config), run)   # what java.py puts on the class path
loaded_libraries(run)                           # by the log of classes that Java itself writes
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import unquote

from catdog_serving.torchserve.java_libraries import AUTO, LIBRARIES, Chosen, Jar, Library
from catdog_serving.torchserve.run_directory import RunDirectory
from catdog_serving.torchserve.serving_config import ServingConfig

FOLDER = "libraries"  # of the run directory
OF_TORCHSERVE = "TorchServe's jar"  # an origin beside folders

_RECORD = "links.json"
_TORCHSERVES_JAR = "model-server.jar"
_LOADED = re.compile(r"(\S+) source: file:(\S+\.jar)$")  # a line of Java's log


@dataclass(frozen=True)
class LoadedLibrary:
    """Where a running server has its classes of one library from.

    Attributes:
        name: The library's.
        version: By what was written in its jars when the server started.
        origin: The folder of these jars, or OF_TORCHSERVE.
        classes: How many Java has loaded from there.
        own_classes: How many it has from TorchServe's jar beside them, as the others lack them.
        changed: Whether a file there was replaced since: a restart would take the new one.
    """

    name: str
    version: str
    origin: str
    classes: int
    own_classes: int = 0
    changed: bool = False

    @property
    def line(self) -> str:
        own = f", {self.own_classes} from {OF_TORCHSERVE}" if self.own_classes else ""
        changed = ", replaced since: restart to use the new one" if self.changed else ""
        return f"{self.name} {self.version} ({self.origin}{own}{changed})"


@dataclass(frozen=True)
class _Linked:
    """A jar as it was when the server started.

    Attributes:
        name: Its library's.
    """

    name: str
    version: str
    path: str
    mtime_ns: int

    @classmethod
    def of(cls, name: str, jar: Jar) -> "_Linked":
        return cls(name, jar.version, str(jar.path), jar.path.stat().st_mtime_ns)

    @property
    def changed(self) -> bool:
        try:
            return Path(self.path).stat().st_mtime_ns != self.mtime_ns
        except OSError:
            return True


def link_libraries(chosen: Chosen, run: RunDirectory) -> None:
    """Make the folder that goes before TorchServe's on the class path.

    By links, as a colon in a path would end it on the class path; they are recorded.
    """
    folder = run.path / FOLDER
    folder.mkdir()
    linked = [_Linked.of(name, jar) for name, jars in chosen.jars.items() for jar in jars]
    for number, jar in enumerate(linked):
        (folder / f"{number}.jar").symlink_to(jar.path)
    (folder / _RECORD).write_text(json.dumps([asdict(jar) for jar in linked]))


def loaded_libraries(run: RunDirectory) -> list[LoadedLibrary]:
    """What the running server has of each library: by the log of classes that its Java writes.

    Empty where catdog did not start it.
    """
    try:
        lines = run.logs.classes.read_text(errors="replace").splitlines()
        entries = json.loads((run.path / FOLDER / _RECORD).read_text())
    except OSError:
        return []
    linked = [_Linked(**entry) for entry in entries]
    classes = [found.groups() for found in map(_LOADED.match, lines) if found]
    # Java names a link, or what it points to.
    paths = {url: Path(unquote(url)).resolve() for url in {url for _, url in classes}}
    counts = Counter((_library_of(name), paths[url]) for name, url in classes)
    found = [_loaded(library, linked, counts) for library in LIBRARIES]
    return [library for library in found if library.classes]


def _loaded(
    library: Library, linked: Sequence[_Linked], counts: Mapping[tuple[str, Path], int]
) -> LoadedLibrary:
    jars = [jar for jar in linked if jar.name == library.name]
    classes = sum(counts.get((library.name, Path(jar.path)), 0) for jar in jars)
    own = sum(
        count
        for (name, path), count in counts.items()
        if name == library.name and path.name == _TORCHSERVES_JAR
    )
    if not classes:
        return LoadedLibrary(library.name, library.bundled, OF_TORCHSERVE, own)
    folders = ", ".join(sorted({str(Path(jar.path).parent) for jar in jars}))
    changed = any(jar.changed for jar in jars)
    return LoadedLibrary(library.name, jars[0].version, folders, classes, own, changed)


def _library_of(class_name: str) -> str:
    return next((lib.name for lib in LIBRARIES if class_name.startswith(lib.package)), "")


def missing_packages(config: ServingConfig, loaded: Sequence[LoadedLibrary]) -> list[str]:
    """Debian's packages for what a server has from TorchServe's own jar, where they would help."""
    is_auto = config.values.get("java_libraries", AUTO) == AUTO
    if not is_auto or not Path("/etc/debian_version").exists():
        return []
    own = {found.name for found in loaded if found.origin == OF_TORCHSERVE}
    return [library.debian for library in LIBRARIES if library.debian and library.name in own]
