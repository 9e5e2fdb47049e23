"""Jars as Debian and Maven have them, without classes: what is written in them is what counts."""

import zipfile
from collections.abc import Iterable
from pathlib import Path

from catdog_serving.torchserve.java_libraries import EPOLL_CLASS, EPOLL_FILE

NETTY = {
    "netty-buffer": (),
    "netty-codec": (),
    "netty-codec-http": (),
    "netty-common": (),
    "netty-handler": (),
    "netty-resolver": (),
    "netty-transport": (),
    "netty-transport-classes-epoll": (EPOLL_CLASS,),
    "netty-transport-native-epoll": (EPOLL_FILE,),
    "netty-transport-native-unix-common": (),
}
LOG4J = dict.fromkeys(("log4j-api", "log4j-core"), ())


def make_jar(path: Path, group: str, version: str, entries: Iterable[str] = ()) -> Path:
    """A jar whose Maven artifact is what its file's name begins with."""
    artifact = path.stem.partition(f"-{version}")[0]
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as packed:
        told = f"version={version}\ngroupId={group}\nartifactId={artifact}\n"
        packed.writestr(f"META-INF/maven/{group}/{artifact}/pom.properties", told)
        for entry in entries:
            packed.writestr(entry, b"")
    return path


def make_netty(folder: Path, version: str) -> None:
    """A whole Netty, as Maven's repository names its files."""
    for artifact, entries in NETTY.items():
        make_jar(folder / f"{artifact}-{version}.jar", "io.netty", version, entries)


def make_log4j(folder: Path, version: str) -> None:
    for artifact in LOG4J:
        make_jar(folder / f"{artifact}-{version}.jar", "org.apache.logging.log4j", version)
