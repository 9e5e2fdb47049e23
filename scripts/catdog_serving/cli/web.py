"""catdog web."""

import threading
from typing import Annotated

import typer

from catdog_serving.cli.options import ConfigOption, TokenOption, UrlOption, print_line
from catdog_serving.errors import UsageError
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.serving_config import ServingConfig
from catdog_serving.web.page import WebSettings, running_page

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def web(
    config: ConfigOption,
    host: Annotated[
        str, typer.Option(metavar="HOST", help="Where the page listens.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="PORT", help="0: a free one.")
    ] = 7860,
    url: UrlOption = None,
    token: TokenOption = None,
    auth: Annotated[
        str | None,
        typer.Option(
            metavar="USER:PASSWORD",
            envvar="CATDOG_WEB_AUTH",
            help="Ask for these; needed on any host but loopback. Other users of this machine "
            "see a command line: better in the environment.",
        ),
    ] = None,
) -> None:
    """Open a page to try images on: label, breed, box and map; needs a running server."""
    if host not in LOOPBACK and auth is None:
        raise UsageError(
            f"on {host} others can reach the page: give --auth USER:PASSWORD, "
            "or set CATDOG_WEB_AUTH"
        )
    read = ServingConfig.read(config)
    url = url or TorchServe(read).served.inference_url
    settings = WebSettings(host, port, _user(auth), url, read, token)
    with running_page(settings) as address:
        print_line(f"page  {address}  (Ctrl-C ends it)")
        threading.Event().wait()


def _user(auth: str | None) -> tuple[str, str] | None:
    if auth is None:
        return None
    user, separator, password = auth.partition(":")
    if not (user and separator and password):
        raise UsageError("--auth is USER:PASSWORD, and neither may be empty")
    return user, password
