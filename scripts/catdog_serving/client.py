"""Ask a running server: one picture in, one typed prediction out.

    with CatDogClient("http://127.0.0.1:8080") as client:
        prediction = client.classify("chelsea.png")
        print(prediction.label, prediction.cat)

A client may be used by several threads at once.
"""

import io
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Self, TypeAlias, TypeVar

import requests
from PIL import Image
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_attempt,
    stop_when_event_set,
    wait_random_exponential,
)

from catdog.explain import Explanation
from catdog.heat_map import MAP_HEADER
from catdog.postprocess import Prediction
from catdog_serving.errors import (
    InvalidImageError,
    ServerBusyError,
    ServerError,
    ServerUnavailableError,
)
from catdog_serving.in_order import map_in_order
from catdog_serving.model_archive import MODEL_NAME
from catdog_serving.tokens import TokenAuth, find_auth

DEFAULT_URL = "http://127.0.0.1:8080"
CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 90.0  # longer than the server's own responseTimeout
RETRIES = 4
FIRST_PAUSE_S = 0.2  # at most; doubled with every retry
LONGEST_PAUSE_S = 10.0
CONCURRENCY = 16  # fills the batches of one worker twice

Picture: TypeAlias = str | Path | bytes | bytearray | IO[bytes] | Image.Image
Answer = TypeVar("Answer")


class CatDogClient:
    """A client of the prediction API.

    Args:
        url: The server's inference address.
        token: Its inference token. Without one, the key file of the server that this
            machine's own configuration names is used, if `url` is that server's.
        config: The config.properties to find that server by (default: the one here).
        retries: How often a busy or lost server is tried again, with growing random
            pauses up to `LONGEST_PAUSE_S`, on top of the answer's Retry-After. A refused
            picture is never sent again.
        read_timeout_s: Longest wait for one answer.
        connections: Requests that may be under way at once.
        version: Which of several loaded versions to ask; None for the default. Leave it out:
            a deploy removes the version before.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        token: str | None = None,
        config: Path | None = None,
        retries: int = RETRIES,
        read_timeout_s: float = READ_TIMEOUT_S,
        connections: int = 64,
        version: str | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._model = MODEL_NAME + (f"/{version}" if version else "")
        self._timeout = (CONNECT_TIMEOUT_S, read_timeout_s)
        self._session = requests.Session()
        for scheme in ("http://", "https://"):  # "http" alone would lose to requests' own two
            self._session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=connections))
        self._session.auth = TokenAuth(token) if token else find_auth(self.url, "inference", config)
        self._closed = threading.Event()
        self._retrying = Retrying(
            retry=retry_if_exception_type((ServerBusyError, ServerUnavailableError)),
            stop=stop_after_attempt(retries + 1) | stop_when_event_set(self._closed),
            wait=_pause_s,
            sleep=sleep_using_event(self._closed),
            reraise=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections, and end the pauses of calls that are trying again."""
        self._closed.set()
        self._session.close()

    def classify(self, picture: Picture, with_map: bool = False) -> Prediction:
        """Classify one picture.

        Args:
            picture: A path, the file's bytes, an open binary file, or a PIL image
                (sent as PNG).
            with_map: Ask for the prediction's map too; it costs nothing but the bytes.

        Raises:
            InvalidImageError: If the server refuses it.
            ServerBusyError: If the server stayed too busy.
            ServerUnavailableError: If there is no server, or it was lost.
            ServerError: On any other answer, such as a wrong token.
        """
        wishes = {MAP_HEADER: "true"} if with_map else {}
        return self._ask("predictions", picture, Prediction.from_dict, wishes)

    def explain(self, picture: Picture) -> Explanation:
        """Classify one picture, and find the animal in all of it; takes two to three times as long.

        Args:
            picture: What `classify` takes.

        Raises:
            ServerError: As `classify` does.
        """
        return self._ask("explanations", picture, Explanation.from_dict)

    def classify_many(
        self, pictures: Iterable[Picture], concurrency: int = CONCURRENCY
    ) -> Iterator[Prediction | InvalidImageError]:
        """Classify a stream of pictures, several at once, and give the results in its order.

        Pictures are taken from the stream as they are needed, so it may be endless.

        Args:
            pictures: What `classify` takes.
            concurrency: Requests under way at once, at most the client's `connections`.

        Yields:
            For each picture its prediction, or the error of one that the server refused:
            a bad picture does not end the stream.

        Raises:
            ServerError: As `classify` does, for everything that is not a bad picture.
        """
        return map_in_order(self._classify_or_refuse, pictures, concurrency)

    def _classify_or_refuse(self, picture: Picture) -> Prediction | InvalidImageError:
        try:
            return self.classify(picture)
        except InvalidImageError as error:
            return error.with_traceback(None)  # which would keep the picture in memory

    def _ask(
        self,
        api: str,
        picture: Picture,
        read: Callable[[Any], Answer],
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """The answer of one of the server's APIs, tried again as long as that may help."""
        url = f"{self.url}/{api}/{self._model}"
        answer: Answer = self._retrying(self._post, url, _read(picture), read, headers or {})
        return answer

    def _post(
        self, url: str, body: bytes, read: Callable[[Any], Answer], headers: Mapping[str, str]
    ) -> Answer:
        try:
            response = self._session.post(
                url,
                data=body,
                headers={"Content-Type": "application/octet-stream", **headers},
                timeout=self._timeout,
            )
        except requests.RequestException as error:
            raise ServerUnavailableError(
                f"no answer from {self.url} ({type(error).__name__}); "
                "is it running? start it with: catdog serve"
            ) from error
        if response.status_code != 200:
            raise _server_error(response)
        try:
            return read(response.json())
        except (ValueError, KeyError, TypeError) as error:  # a proxy's page, another service
            raise ServerUnavailableError(
                f"{url} answered 200, but not as catdog does: {response.text.strip()[:100]!r}; "
                "is this the address of catdog's inference API?",
                status=200,
            ) from error


def _pause_s(state: RetryCallState) -> float:
    """Seconds before the next try: random, but at least what the server asked for."""
    error = state.outcome.exception() if state.outcome else None
    asked_s = error.retry_after_s if isinstance(error, ServerBusyError) else 0
    random_pause = wait_random_exponential(multiplier=FIRST_PAUSE_S, max=LONGEST_PAUSE_S)
    return asked_s + random_pause(state)


def _read(picture: Picture) -> bytes:
    if isinstance(picture, str | Path):
        return Path(picture).read_bytes()
    if isinstance(picture, bytes | bytearray):
        return bytes(picture)
    if isinstance(picture, Image.Image):
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG", compress_level=1)
        return buffer.getvalue()
    return picture.read()


def _server_error(response: requests.Response) -> ServerError:
    """The error that an answer stands for."""
    status = response.status_code
    kind, message = _error_body(response)
    if kind == "InvalidImage":
        return InvalidImageError(message, status=status, kind=kind)
    if status == 413:  # TorchServe's own, without a body
        return InvalidImageError(
            "the file is larger than the server accepts (max_request_size)", status=413
        )
    if status in (429, 503, 504):  # 429 and 504 come from nginx in front
        return ServerBusyError(
            "the server's queue is full or it has no worker" if status == 503 else message,
            status=status,
            kind=kind,
            retry_after_s=_retry_after_s(response),
        )
    if status in (500, 507):  # "Worker died.": it is started again by itself
        return ServerUnavailableError(f"the server lost its worker: {message}", status=status)
    return ServerError(f"the server answered {status}: {message}", status=status, kind=kind)


def _error_body(response: requests.Response) -> tuple[str, str]:
    """type and message of TorchServe's error shape."""
    try:
        body = response.json()
        return str(body["type"]), str(body["message"])
    except (requests.JSONDecodeError, KeyError, TypeError):
        return "", response.text.strip()[:200]


def _retry_after_s(response: requests.Response) -> int:
    """What nginx asks for in whole seconds, at most a minute; 0 when there is nothing."""
    value = response.headers.get("Retry-After", "")
    return min(int(value), 60) if value.isascii() and value.isdigit() else 0
