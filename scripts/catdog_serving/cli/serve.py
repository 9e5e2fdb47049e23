"""catdog serve."""

import os
import shlex
import signal
from typing import Annotated

import typer

from catdog_serving import sample_images
from catdog_serving.cli.options import ConfigOption, configured_server, console, print_line
from catdog_serving.cli.status import print_status
from catdog_serving.model_archive import file_sha256
from catdog_serving.monitoring.snapshot import read_status
from catdog_serving.torchserve.server import TorchServe

_CURL_PROXIES = ("http_proxy", "all_proxy", "ALL_PROXY")  # HTTP_PROXY is not read by curl


def serve(
    config: ConfigOption,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay until the server ends; Ctrl-C stops it.")
    ] = False,
) -> None:
    """Start the server and wait until it is ready."""
    server = configured_server(config)
    if server.is_running() and not foreground:
        server.wait_ready()  # of a `serve` that was killed, or that is not done yet
        console.print("the server runs already")
        if server.archive_is_newer():
            console.print("with an older archive; to load the new one: catdog stop && catdog serve")
    else:
        with console.status("starting TorchServe ..."):
            server.start()
    _print_ready(server)
    if foreground:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: server.terminate())
        server.wait()


def _print_ready(server: TorchServe) -> None:
    """What runs, and a command to go on with; it carries the token where one is needed."""
    print_status(read_status(server), console)
    archive = server.config.archive
    sha256 = f"SHA-256 {file_sha256(archive)}" if archive.is_file() else f"{archive} is gone"
    print_line(f"archive  {sha256}")
    for line in server.config.check_addresses():
        print_line(f"warning  {line}")
    token = ""
    if server.run.key_file.is_file():
        print_line(f"tokens   needed; the keys are in {server.run.key_file}")
        keys = shlex.quote(str(server.run.key_file))
        token = f' -H "Authorization: Bearer $(jq -r .inference.key {keys})"'
    url = f"{server.config.inference_url}/predictions/catdog"
    image = shlex.quote(os.path.relpath(sample_images.CAT))
    # For curl, too, 127.0.0.1 is the proxy's own machine.
    direct = " --noproxy '*'" if any(os.environ.get(name) for name in _CURL_PROXIES) else ""
    print_line(f"try      curl{direct} -T {image}{token} {url}")
