"""catdog web."""

from typing import Annotated
from urllib.parse import urlsplit

import typer

from catdog_serving.cli.options import ConfigOption, TokenOption, UrlOption, print_line
from catdog_serving.errors import UsageError
from catdog_serving.http_session import is_loopback
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.serving_config import ServingConfig
from catdog_serving.web.server import WebSettings, serve_page


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
            help="Ask for these; needed on any host but loopback, and with --origin. Other users "
            "of this machine see a command line: better in the environment.",
        ),
    ] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="Where others see the page, such as https://cats.example.org behind nginx.",
        ),
    ] = None,
    all_formats: Annotated[
        bool, typer.Option("--all-formats", help="Take TIFF, HEIC and AVIF too, and decode them.")
    ] = False,
) -> None:
    """Open a page to try images on: label, breed, box and map; needs a running server."""
    origins = tuple(map(_origin, origin or ()))
    if auth is None and (origins or not is_loopback(host)):
        where = "behind --origin" if origins else f"on {host}"
        raise UsageError(
            f"{where} others can reach the page: give --auth USER:PASSWORD, or set CATDOG_WEB_AUTH"
        )
    read = ServingConfig.read(config)
    url = url or TorchServe(read).served.inference_url
    settings = WebSettings(host, port, _user(auth), url, read, token, origins, all_formats)
    serve_page(settings, lambda address: print_line(f"page  {address}  (Ctrl-C ends it)"))


def _origin(url: str) -> str:
    """Scheme and host of a URL, which is all that a browser says of where it is."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"--origin is a URL such as https://cats.example.org; got {url}")
    return f"{parts.scheme}://{parts.netloc}"


def _user(auth: str | None) -> tuple[str, str] | None:
    if auth is None:
        return None
    user, separator, password = auth.partition(":")
    if not (user and separator and password):
        raise UsageError("--auth is USER:PASSWORD, and neither may be empty")
    return user, password
