"""Where `catdog web` listens, and for whom; what it answers is in app.py."""

from collections.abc import Callable
from dataclasses import dataclass

from catdog_serving.errors import NotReadyError
from catdog_serving.extras import install_hint
from catdog_serving.torchserve.serving_config import ServingConfig
from catdog_serving.torchserve.tokens import open_client

RETRIES = 1  # a person waits
# Images asked for at once, of all visitors together: two batches of one worker. A few visitors
# with 16 each would fill the server's queue by themselves.
CONCURRENCY = 16


@dataclass(frozen=True)
class WebSettings:
    """Where the page is, and for whom.

    Attributes:
        host, port: Where it listens; port 0 is a free one.
        auth: User and password, or None for everybody.
        server_url: The prediction server's address.
        config: The configuration of this machine's server, for tokens and the service tab.
        token: The key that another server wants; None: see `open_client`.
        origins: Where a proxy shows the page, such as https://catdog.example.org.
        all_formats: Whether TIFF, HEIC and AVIF are taken, too, and decoded here.
    """

    host: str
    port: int
    auth: tuple[str, str] | None
    server_url: str
    config: ServingConfig
    token: str | None = None
    origins: tuple[str, ...] = ()
    all_formats: bool = False


def serve_page(settings: WebSettings, announce: Callable[[str], None]) -> None:
    """Serve the page until a signal; `announce` gets its address.

    Raises:
        NotReadyError: If starlette or uvicorn is not installed, or the port is taken.
    """
    try:
        from catdog_serving.asgi.http_server import http_server, listen_at
        from catdog_serving.web.app import make_application
    except ImportError as error:
        raise NotReadyError(f"the page needs {error.name}; run: {install_hint('web')}") from error
    try:
        listening = listen_at(settings.host, settings.port)
    except OSError as error:
        raise NotReadyError(
            f"cannot listen on port {settings.port} of {settings.host}: it is taken, or "
            "no address of this machine; choose another with --port or --host"
        ) from error
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    options = {"token": settings.token, "retries": RETRIES, "connections": CONCURRENCY}
    with listening, open_client(settings.server_url, settings.config.path, **options) as client:
        server = http_server(make_application(settings, client))
        announce(f"http://{host}:{listening.getsockname()[1]}")
        server.run([listening])
