"""Which jars go before TorchServe's, and which are refused; jars made here, without classes."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from catdog_serving.errors import NotReadyError, RefusedError
from catdog_serving.torchserve import java_libraries as module
from catdog_serving.torchserve import loaded_libraries as loaded_module
from catdog_serving.torchserve.java_libraries import choose_libraries
from catdog_serving.torchserve.loaded_libraries import (
    LoadedLibrary,
    link_libraries,
    loaded_libraries,
    missing_packages,
)
from catdog_serving.torchserve.run_directory import RunDirectory
from tests.support.configs import MakeConfig
from tests.support.jars import LOG4J, NETTY, make_jar, make_log4j, make_netty
from tests.support.paths import ROOT


@pytest.fixture
def debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "usr-share-java"
    folder.mkdir()
    monkeypatch.setattr(module, "DEBIAN", folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path, debian: Path) -> Path:
    folder = tmp_path / "jars"
    folder.mkdir()
    return folder


def test_auto_takes_debians_netty_and_log4j_and_no_older_jar_of_others(
    debian: Path, make_config: MakeConfig
) -> None:
    make_netty(debian, "4.1.48.Final")
    make_log4j(debian, "2.19.0")
    make_jar(debian / "snakeyaml.jar", "org.yaml", "1.33")
    for jar in list(debian.iterdir()):  # a link of the same name with the version, as Debian has
        (debian / f"{jar.stem}-link.jar").symlink_to(jar)
    chosen = choose_libraries(make_config(None, java_libraries="auto"))
    assert {name: {jar.artifact for jar in jars} for name, jars in chosen.jars.items()} == {
        "Netty": NETTY.keys(),
        "log4j": LOG4J.keys(),
    }
    assert chosen.warnings == ()
    assert choose_libraries(make_config(None, java_libraries="bundled")).jars == {}


def test_auto_goes_without_what_is_not_whole_and_says_why_where_that_is_odd(
    debian: Path, make_config: MakeConfig
) -> None:
    config = make_config(None, java_libraries="auto")
    make_netty(debian, "4.1.48.Final")
    (debian / "netty-codec-http-4.1.48.Final.jar").unlink()  # a package that has only some
    assert choose_libraries(config) == module.Chosen({})
    make_log4j(debian, "2.19.0")
    (debian / "log4j-api-2.19.0.jar").chmod(0o666)
    chosen = choose_libraries(config)
    assert chosen.jars == {}
    (warning,) = chosen.warnings
    assert re.search("log4j of .* is not used: .*log4j-api-.* can be written by others", warning)


def test_folders_give_what_is_newer_than_torchserves(
    folder: Path, debian: Path, make_config: MakeConfig
) -> None:
    make_netty(folder, "4.1.118.Final")
    native = "META-INF/native/libnetty_transport_native_epoll_sparc.so"
    other_processor = folder / "netty-transport-native-epoll-4.1.118.Final-linux-sparc.jar"
    make_jar(other_processor, "io.netty", "4.1.118.Final", [native])
    make_jar(folder / "gson-2.9.jar", "com.google.code.gson", "2.9")
    other = folder.with_name("other jars")
    make_jar(other / "snakeyaml-2.3.jar", "org.yaml", "2.3")
    make_jar(other / "snakeyaml-engine-2.9.jar", "org.snakeyaml", "2.9")
    make_jar(other / "log4j-to-slf4j-2.24.3.jar", "org.apache.logging.log4j", "2.24.3")
    chosen = choose_libraries(make_config(None, java_libraries=f"{folder}, {other}"))
    assert {name: jars[0].version for name, jars in chosen.jars.items()} == {
        "Netty": "4.1.118.Final",
        "snakeyaml": "2.3",
    }
    assert len(chosen.jars["Netty"]) == len(NETTY)


@pytest.mark.parametrize(
    "path", ["config/docker/Dockerfile", "config/config.properties", "Makefile", "docs/run.md"]
)
def test_whoever_installs_them_installs_all(path: str) -> None:
    packages = {library.debian for library in module.LIBRARIES if library.debian}
    assert packages <= set(re.findall(r"lib[\w-]+-java", (ROOT / path).read_text()))


def _lacks(artifact: str) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        next(folder.glob(f"{artifact}-[0-9]*.jar")).unlink()

    return spoil


def _has_also(name: str, group: str, version: str) -> Callable[[Path], object]:
    return lambda folder: make_jar(folder / name, group, version)


LOG4J_GROUP = "org.apache.logging.log4j"
MISFITS = {
    "lacks netty-codec-http": _lacks("netty-codec-http"),
    "lacks .*epoll/Epoll.class": _lacks("netty-transport-classes-epoll"),
    "lacks netty-transport-native-epoll": _lacks("netty-transport-native-epoll"),
    "Netty is there as 4.1.9.Final and 4.1.118.Final": _has_also(
        "netty-handler-4.1.9.Final.jar", "io.netty", "4.1.9.Final"
    ),
    "log4j 2.24.3 lacks log4j-api": _lacks("log4j-api"),
    "log4j is there as 2.19.0 and 2.24.3": _has_also("log4j-api-2.19.0.jar", LOG4J_GROUP, "2.19.0"),
    "log4j-core 2.24.3 is there twice": _has_also("log4j-core.jar", LOG4J_GROUP, "2.24.3"),
    "netty-common-x.jar is no jar": lambda folder: (folder / "netty-common-x.jar").write_text("x"),
    "gson is there as 2.11.0 and 3.0": lambda folder: [
        make_jar(folder / f"gson-{version}.jar", "com.google.code.gson", version)
        for version in ("2.11.0", "3.0")
    ],
}


@pytest.mark.parametrize("complaint", MISFITS)
def test_a_set_that_does_not_fit_together_is_refused_by_name(
    folder: Path, make_config: MakeConfig, complaint: str
) -> None:
    make_netty(folder, "4.1.118.Final")
    make_log4j(folder, "2.24.3")
    config = make_config(None, java_libraries=str(folder))
    assert choose_libraries(config).jars.keys() == {"Netty", "log4j"}
    MISFITS[complaint](folder)
    with pytest.raises(NotReadyError, match=f"java_libraries={folder} in .*: .*({complaint})"):
        choose_libraries(config)


@pytest.mark.parametrize(
    ("version", "complaint"),
    [("4.2.7.Final", "TorchServe needs 4.1."), ("4.1.50.Final", "none of")],
)
def test_another_series_and_what_is_older_are_refused(
    folder: Path, make_config: MakeConfig, version: str, complaint: str
) -> None:
    make_netty(folder, version)
    with pytest.raises(NotReadyError, match=complaint):
        choose_libraries(make_config(None, java_libraries=str(folder)))


@pytest.mark.parametrize("value", ["jars", "", "AUTO", "/nowhere/at/all"])
def test_what_is_no_folder_is_refused(make_config: MakeConfig, value: str) -> None:
    with pytest.raises(NotReadyError, match="it takes auto, bundled or|cannot look into"):
        choose_libraries(make_config(None, java_libraries=value))


@pytest.mark.parametrize("spoilt", [".", "log4j-core-2.24.3.jar"])
@pytest.mark.parametrize("how", ["writable", "a stranger's"])
def test_what_others_could_write_is_refused(
    folder: Path, make_config: MakeConfig, spoilt: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_log4j(folder, "2.24.3")
    path = folder / spoilt
    if how == "writable":
        path.chmod(path.stat().st_mode | 0o020)
    elif os.getuid() == 0:
        os.chown(path, 4242, -1)
    else:
        monkeypatch.setattr(os, "getuid", lambda: 4242)
    with pytest.raises(RefusedError, match="and a jar is code"):
        choose_libraries(make_config(None, java_libraries=str(folder)))


def test_what_java_loaded_is_told_by_its_own_log(folder: Path, make_config: MakeConfig) -> None:
    make_log4j(folder, "2.24.3")
    config = make_config(None, java_libraries=str(folder))
    run = RunDirectory.of(config)
    run.create()
    try:
        assert loaded_libraries(run) == []
        link_libraries(choose_libraries(config), run)
        own = run.path / "home" / "ts" / "frontend" / "model-server.jar"
        core = folder / "log4j-core-2.24.3.jar"
        api = run.path / loaded_module.FOLDER / "0.jar"
        run.logs.classes.write_text(
            "java.lang.Object source: shared objects file\n"
            f"org.apache.logging.log4j.core.Appender source: file:{core}\n"
            f"org.apache.logging.log4j.Logger source: file:{api}\n"
            f"org.apache.logging.log4j.core.Old source: file:{own}\n"
            f"io.netty.util.Version source: file:{own}\n"
            f"org.pytorch.serve.ModelServer source: file:{own}\n"
        )
        found = loaded_libraries(run)
        netty = LoadedLibrary("Netty", "4.1.53.Final", "TorchServe's jar", 1)
        log4j = LoadedLibrary("log4j", "2.24.3", str(folder), 2, 1)
        assert found == [netty, log4j]
        assert netty.line == "Netty 4.1.53.Final (TorchServe's jar)"
        assert log4j.line == f"log4j 2.24.3 ({folder}, 1 from TorchServe's jar)"
        assert missing_packages(make_config(None), found) == ["libnetty-java"]
        for chosen in (config, make_config(None, java_libraries="bundled")):
            assert missing_packages(chosen, found) == []
        os.utime(core, (1, 1))  # an upgrade under the running server
        assert "replaced since" in loaded_libraries(run)[1].line
    finally:
        run.remove()
