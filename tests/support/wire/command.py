"""The command: its help, its exit codes, and the files that it writes."""

import json
import os
import re
import subprocess
import sys
import zipfile
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from catdog_serving.cli import app
from tests.support.http_servers import http_server, send
from tests.support.paths import ROOT
from tests.support.wire.api import shape
from tests.support.wire.worker import Request, Worker, bmp

TEXT_FORMATS = ("csv", "json", "jsonl")
SOME_FAILED = "classify, some files failed"
EVALUATED = "evaluate, some files failed"
MODIFIED_S = 1_700_000_000
MANAGED = {  # as TorchServe describes a version
    "modelVersion": "7.0",
    "batchSize": 8,
    "maxBatchDelay": 1,
    "responseTimeout": 60,
    "startupTimeout": 120,
    "workers": [
        {"id": "9000", "pid": os.getpid(), "status": "READY", "gpu": False, "memoryUsage": 0}
    ],
    "jobQueueStatus": {"remainingCapacity": 48, "pendingRequests": 0},
}

# Runs several commands in one process, which has imported everything only once.
_RUN_ALL = """
import contextlib, io, json, sys
from catdog_serving.cli import main
ends = []
for arguments in json.load(sys.stdin):
    sys.argv = ["catdog", *arguments]
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        try:
            main()
        except SystemExit as end:
            ends.append((end.code, shown.getvalue()))
print(json.dumps(ends))
"""

# Ends the command by each error, and by what is none of ours; a closed pipe is the last, as
# there is no standard output after it.
_RAISE_ALL = """
import json, os, sys
from catdog_serving import cli, errors
def tree(kind):
    return [kind, *(below for child in kind.__subclasses__() for below in tree(child))]
def raising(kind):
    def app():
        raise kind("message")
    return app
output, codes = os.dup(1), {}
for kind in (*tree(errors.CatDogError), KeyboardInterrupt, RuntimeError, BrokenPipeError):
    cli.app = raising(kind)
    try:
        cli.main()
    except SystemExit as end:
        codes[kind.__name__] = end.code
os.write(output, json.dumps(codes).encode())
"""


class End(NamedTuple):
    """How a command ended, and what it wrote to standard output."""

    exit_code: int
    shown: str


def render_help(tmp_path: Path) -> dict[str, str]:
    """The folder "help": of each command, in a terminal of 80 columns without colours."""
    names = ("catdog", *app.commands)
    ends = catdog(tmp_path, {name: [name, "--help"] for name in names} | {"catdog": ["--help"]})
    return {
        f"{name}.txt": re.sub(r" +$", "", end.shown, flags=re.MULTILINE).strip() + "\n"
        for name, end in ends.items()
    }


def render_command(tmp_path: Path) -> dict[str, str]:
    """The folder "command": exit codes, and what is written for programs, and in the table."""
    ends = run_commands(tmp_path)
    schema = pq.read_schema(tmp_path / "out.parquet")
    written = {name: (tmp_path / f"out.{name}").read_bytes().decode() for name in TEXT_FORMATS}
    return {
        "exit-codes.txt": exit_codes(ends),
        "classify.table.txt": _without_port(_without_times(ends[SOME_FAILED].shown)),
        "classify.parquet.txt": "".join(f"{field.name}: {field.type}\n" for field in schema),
        **{f"classify.{name}": _without_times(text) for name, text in written.items()},
        "evaluate.json.txt": shape(json.loads(ends[EVALUATED].shown)) + "\n",
        "evaluate.txt": ends["evaluate in a terminal"].shown,
        "status.txt": _without_port(ends["status in a terminal"].shown),
        "versions.txt": ends["versions"].shown,
        "status.json.txt": shape(json.loads(_without_port(ends["status"].shown))) + "\n",
    }


def run_commands(folder: Path) -> dict[str, End]:
    """Run commands against a server whose answers are the real handler's."""
    worker = Worker(folder)
    make_album(folder / "album")
    management = json.dumps([MANAGED | {"customizedMetadata": json.loads(worker.describe().body)}])

    def answer(request: BaseHTTPRequestHandler, body: bytes) -> None:
        if request.command == "GET":
            send(request, 200, management.encode())
        else:
            (answered,) = worker.ask(Request({"body": body}, dict(request.headers)))
            send(request, int(answered.status.split()[0]), answered.body)

    with http_server(answer) as url:
        configure(folder / "config", url)
        store_archive(folder / "model-store", worker)
        classify = ["classify", "--url", url, "--jobs", "1"]
        return catdog(
            folder,
            {
                "--help": ["--help"],
                "nonsense": ["nonsense"],
                "status": ["status", "--json"],
                "status in a terminal": ["status"],
                "versions": ["versions"],
                "evaluate in a terminal": ["evaluate", *classify[1:], "album"],
                "classify": [*classify, "album/dogs"],
                SOME_FAILED: [*classify, "album"],
                EVALUATED: ["evaluate", *classify[1:], "album", "--format", "json"],
                **{
                    f"classify --format {name}, some files failed": [
                        *(*classify, "album", "--format", name, "--output", f"out.{name}")
                    ]
                    for name in (*TEXT_FORMATS, "parquet")
                },
            },
        )


def make_album(album: Path) -> None:
    """Two cats, a dog, one of neither, and two files that fail; one cat is among the dogs."""
    files = {
        "cats/broken.bmp": b"hello, world",
        "cats/cat.bmp": bmp("red"),
        "dogs/cat.bmp": bmp("red"),
        "dogs/dog.bmp": bmp("lime"),
        "neither/blue.bmp": bmp("blue"),
    }
    for name, content in files.items():
        (album / name).parent.mkdir(parents=True, exist_ok=True)
        (album / name).write_bytes(content)
        os.utime(album / name, (MODIFIED_S, MODIFIED_S))
    (album / "cats" / "lost.bmp").symlink_to("nowhere")


def configure(config: Path, url: str) -> None:
    """A copy of the repository's configuration, with the management API at `url`."""
    config.mkdir()
    text = (ROOT / "config" / "config.properties").read_text(encoding="utf-8")
    text = re.sub(r"(?m)^management_address=.*", f"management_address={url}", text)
    (config / "config.properties").write_text(text, encoding="utf-8")


def store_archive(store: Path, worker: Worker) -> None:
    """An archive that can only be looked at."""
    store.mkdir()
    with zipfile.ZipFile(store / "catdog.mar", "w") as made:
        made.writestr(zipfile.ZipInfo("model.json"), worker.describe().body)


def exit_codes(ends: dict[str, End]) -> str:
    """How the commands that were run ended, and how an error would end them."""
    codes = {f"catdog {name}": end.exit_code for name, end in ends.items()}
    codes |= {f"{name} ends a command": code for name, code in error_codes().items()}
    return "".join(f"{line}\n" for line in sorted(f"{c:3}  {what}" for what, c in codes.items()))


def _without_times(text: str) -> str:
    """A text without how long it took; line ends that are not Unix's are shown."""
    text = text.replace("\r\n", "\\r\\n\n")
    text = re.sub(r"in \d+\.\d s, [\d.]+ images/s", "in 0.0 s, 0 images/s", text)
    return re.sub(r'"(seconds|images_per_s)": [\d.]+', r'"\1": 0.0', text)


def _without_port(text: str) -> str:
    """A text with the ports that the server usually has."""
    text = re.sub(r"(?m)( at http://127.0.0.1):\d+$", r"\1:8080", text)
    text = re.sub(r'("management": "http://127.0.0.1):\d+', r"\1:8081", text)
    return re.sub(r"(http://127.0.0.1):\d+(?=/models)", r"\1:8081", text)


def catdog(folder: Path, commands: dict[str, list[str]]) -> dict[str, End]:
    """Run commands in a folder, one after the other."""
    ends = json.loads(_python(_RUN_ALL, folder, json.dumps(list(commands.values()))))
    return {name: End(*end) for name, end in zip(commands, ends, strict=True)}


def error_codes() -> dict[str, int]:
    """The exit code of each error of catdog, and of Ctrl-C, a bug and a closed pipe."""
    codes: dict[str, int] = json.loads(_python(_RAISE_ALL, ROOT))
    return codes


def _python(program: str, folder: Path, given: str = "") -> str:
    """Run a program away from this terminal and its variables; give its standard output."""
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        input=given,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "COLUMNS": "80", "LANG": "C.UTF-8"},
    )
    sys.stderr.write(result.stderr)  # pytest shows it when a test fails
    result.check_returncode()
    return result.stdout
