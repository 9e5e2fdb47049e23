"""`java_libraries=`: maintained jars that stand before TorchServe's own on Java's class path.

TorchServe 0.12 is its last release, and its one jar bundles Netty of 2020 and log4j of 2021. Java
takes a class from the first jar that has it, so Debian's packages or Maven's jars can stand before.
Here they are found, and refused where they do not fit together; loaded_libraries.py puts them
there, and says what a running server uses.

commons-compress is left: TorchServe needs it for .tgz archives, which are not served here, and
newer ones need more jars of their own.
"""

import os
import platform
import re
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from catdog_serving.errors import CatDogError, NotReadyError, RefusedError
from catdog_serving.torchserve.properties import parse_properties
from catdog_serving.torchserve.serving_config import ServingConfig

AUTO, BUNDLED = "auto", "bundled"  # what `java_libraries` takes beside folders
DEBIAN = Path("/usr/share/java")

# What zipfile and the properties raise for a file that is broken, encrypted or of another kind.
_BROKEN = (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, ValueError, KeyError, EOFError)
_LONGEST_TEXT = 65_536
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
# What the management API on a Unix socket needs: a class, and a native file for this processor.
EPOLL_CLASS = "io/netty/channel/epoll/Epoll.class"
_NATIVE = "META-INF/native/"
_PROCESSOR = {"aarch64": "aarch_64"}.get(platform.machine(), platform.machine())
EPOLL_FILE = f"{_NATIVE}libnetty_transport_native_epoll_{_PROCESSOR}.so"


@dataclass(frozen=True)
class Library:
    """Jars that go together: all of one version.

    Attributes:
        name: For people.
        package: What the names of its classes begin with.
        group: Its Maven group.
        needed: Its Maven artifacts that TorchServe uses.
        bundled: Its version in the jar of TorchServe 0.12.0; SECURITY.md says how that is known.
        debian: The package that has it, if Debian's is one to take by itself.
        optional: Artifacts that are taken where they are there.
        series: What its versions must begin with.
    """

    name: str
    package: str
    group: str
    needed: tuple[str, ...]
    bundled: str
    debian: str | None = None
    optional: tuple[str, ...] = ()
    series: str = ""


_NETTY = Library(
    name="Netty",
    package="io.netty.",
    group="io.netty",
    needed=tuple(
        f"netty-{part}"
        for part in (
            *("buffer", "codec", "codec-http", "common", "handler", "resolver", "transport"),
            *("transport-native-epoll", "transport-native-unix-common"),
        )
    ),
    bundled="4.1.53.Final",
    debian="libnetty-java",
    optional=("netty-transport-classes-epoll",),
    series="4.1.",
)
LIBRARIES = (
    _NETTY,
    Library(
        name="log4j",
        package="org.apache.logging.log4j.",
        group="org.apache.logging.log4j",
        needed=("log4j-api", "log4j-core"),
        bundled="2.17.1",
        debian="liblog4j2-java",
        optional=("log4j-slf4j-impl",),
        series="2.",
    ),
    Library("snakeyaml", "org.yaml.snakeyaml.", "org.yaml", ("snakeyaml",), "2.1"),
    Library("gson", "com.google.gson.", "com.google.code.gson", ("gson",), "2.10.1"),
    Library("commons-io", "org.apache.commons.io.", "commons-io", ("commons-io",), "2.16.1"),
    Library("commons-cli", "org.apache.commons.cli.", "commons-cli", ("commons-cli",), "1.3.1"),
)


@dataclass(frozen=True)
class Jar:
    """One file of a library.

    Attributes:
        path: Its real path, behind all links.
        artifact: Its Maven artifact, by what is written in it.
        version: The same.
        entries: Those of its files that tell whether Netty's parts are complete.
    """

    path: Path
    artifact: str
    version: str
    entries: tuple[str, ...] = ()

    @property
    def natives(self) -> tuple[str, ...]:
        return tuple(name for name in self.entries if name.startswith(_NATIVE))

    @property
    def fits_processor(self) -> bool:
        return not self.natives or any(_PROCESSOR in name for name in self.natives)


@dataclass(frozen=True)
class Chosen:
    """What to put before TorchServe's jar.

    Attributes:
        jars: By the name of their library.
        warnings: Why `auto` takes what is installed not, a line each.
    """

    jars: dict[str, tuple[Jar, ...]]
    warnings: tuple[str, ...] = ()


def choose_libraries(config: ServingConfig) -> Chosen:
    """The jars that `java_libraries=` asks for; with `auto` Debian's, as far as they are complete.

    Raises:
        NotReadyError: If a folder that it names is missing or not absolute, has no library, or one
            whose parts do not fit together.
        RefusedError: If others could write into such a folder or file: a jar is code.
    """
    wanted = config.values.get("java_libraries", AUTO)
    if wanted == BUNDLED:
        return Chosen({})
    if wanted == AUTO:
        return _from_debian()
    folders = [Path(name.strip()) for name in wanted.split(",")]
    try:
        if relative := [str(folder) for folder in folders if not folder.is_absolute()]:
            raise NotReadyError(
                f"it takes {AUTO}, {BUNDLED} or absolute folders, not {relative[0]}"
            )
        found = {
            library.name: jars
            for library in LIBRARIES
            if (jars := _library_in(library, [jar for at in folders for jar in _jars(library, at)]))
        }
        if not found:
            known = ", ".join(library.name for library in LIBRARIES)
            raise NotReadyError(f"none of {known} is there in a newer version than TorchServe has")
    except CatDogError as error:
        raise type(error)(f"java_libraries={wanted} in {config.path}: {error}") from error
    return Chosen(found)


def _from_debian() -> Chosen:
    found, warnings = {}, []
    for library in LIBRARIES:
        try:
            jars = _jars(library, DEBIAN) if library.debian and DEBIAN.is_dir() else []
            if {jar.artifact for jar in jars}.issuperset(library.needed):
                found[library.name] = _library_in(library, jars)
        except CatDogError as error:
            warnings.append(f"{library.name} of {DEBIAN} is not used: {error}")
    return Chosen({name: jars for name, jars in found.items() if jars}, tuple(warnings))


def _library_in(library: Library, jars: Sequence[Jar]) -> tuple[Jar, ...]:
    """These jars, if they fit together and are newer than the bundled; empty if they are not."""
    if not jars:
        return ()
    names = ", ".join(sorted(str(jar.path) for jar in jars))
    versions = sorted({jar.version for jar in jars}, key=_number)
    if len(versions) > 1:
        raise NotReadyError(f"{library.name} is there as {' and '.join(versions)}: {names}")
    (version,) = versions
    count = Counter((jar.artifact, jar.natives) for jar in jars)  # one a processor of native files
    if twice := [artifact for (artifact, _), number in count.items() if number > 1]:
        raise NotReadyError(f"{twice[0]} {version} is there twice: {names}")
    if missing := sorted(set(library.needed) - {jar.artifact for jar in jars}):
        raise NotReadyError(f"{library.name} {version} lacks {', '.join(missing)}: {names}")
    if not version.startswith(library.series):
        raise NotReadyError(f"{library.name} {version} is there; TorchServe needs {library.series}")
    patched = library.debian and all(jar.path.is_relative_to(DEBIAN) for jar in jars)
    if _number(version) < _number(library.bundled) and not patched:
        return ()  # Debian puts fixes into an old number; of others an older one has fewer
    if library is _NETTY:
        _check_epoll(jars, version, names)
    return tuple(jars)


def _check_epoll(jars: Sequence[Jar], version: str, names: str) -> None:
    """Make sure that Netty's class and its native file are of one version.

    With an older class TorchServe's own native file does; tried with Debian's 4.1.48.
    """
    entries = {entry for jar in jars for entry in jar.entries}
    needed = {EPOLL_CLASS}
    if _number(version) > _number(_NETTY.bundled):
        needed.add(EPOLL_FILE)
    if missing := sorted(needed - entries):
        raise NotReadyError(
            f"Netty {version} lacks {', '.join(missing)}: beside {names} there should be "
            f"netty-transport-native-epoll-{version}-linux-{_PROCESSOR}.jar and "
            "netty-transport-classes-epoll"
        )


def _jars(library: Library, folder: Path) -> list[Jar]:
    """A library's jars in a folder; a link and what it points to count once."""
    artifacts = (*library.needed, *library.optional)
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise NotReadyError(f"cannot look into {folder}: {error.strerror}") from error
    named = [
        path
        for path in entries
        if path.suffix == ".jar" and any(path.name.startswith(name) for name in artifacts)
    ]
    paths = sorted({path.resolve() for path in named})
    for path in {folder, *paths, *(path.parent for path in paths)} if paths else ():
        _check_owner(path)
    found = [_read_jar(path, library.group) for path in paths]
    jars = [jar for jar in found if jar and jar.artifact in artifacts]
    return [jar for jar in jars if jar.fits_processor]


def _read_jar(path: Path, group: str) -> Jar | None:
    """What a jar says of itself; None if it is of another group, or says nothing."""
    try:
        with zipfile.ZipFile(path) as packed:
            names = packed.namelist()
            own = re.compile(rf"META-INF/maven/{re.escape(group)}/[^/]+/pom\.properties")
            telling = [name for name in names if own.fullmatch(name)]
            if len(telling) != 1:
                return None
            with packed.open(telling[0]) as entry:
                told = parse_properties(entry.read(_LONGEST_TEXT).decode("latin-1"))
            entries = [n for n in names if n == EPOLL_CLASS or n.startswith(_NATIVE)]
            return Jar(path, told["artifactId"], told["version"], tuple(entries))
    except _BROKEN as error:
        raise NotReadyError(f"{path} is no jar that can be read: {error}") from error


def _check_owner(path: Path) -> None:
    try:
        status = path.stat()
    except OSError as error:
        raise NotReadyError(f"cannot look at {path}: {error.strerror}") from error
    if status.st_uid not in (os.getuid(), 0):
        raise RefusedError(f"{path} belongs to user {status.st_uid}, and a jar is code")
    if status.st_mode & _OTHERS_WRITE:
        raise RefusedError(f"{path} can be written by others, and a jar is code: chmod go-w on it")


def _number(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]
