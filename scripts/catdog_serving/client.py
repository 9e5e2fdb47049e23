"""Ask a running server: one image in, one typed prediction out.

    with CatDogClient("http://127.0.0.1:8080") as client:
        prediction = client.classify("chelsea.png")
        print(prediction.label, prediction.cat)

A client may be used by several threads at once, before and after a fork, and can be pickled.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import requests
from requests.auth import AuthBase
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_attempt,
    stop_when_event_set,
    wait_random_exponential,
)

from catdog.invalid_image import InvalidImage
from catdog.results import ANIMALS_HEADER, MAP_HEADER, MODEL_NAME, Explanation, Prediction
from catdog_serving.answer_errors import TOO_LARGE, error_of_answer, why_no_answer
from catdog_serving.errors import (
    InvalidImageError,
    ServerBusyError,
    ServerUnavailableError,
    UsageError,
)
from catdog_serving.http_session import HttpSession
from catdog_serving.image_source import ImageSource, Upload, read_source, to_upload, unreadable

DEFAULT_URL = "http://127.0.0.1:8080"
CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 90.0  # longer than the server's own responseTimeout
RETRIES = 4
FIRST_PAUSE_S = 0.2  # at most; doubled with every retry
LONGEST_PAUSE_S = 10.0
CONCURRENCY = 16  # fills the batches of one worker twice
TOO_LARGE_TIMEOUT_S = 2.0
_TOO_LARGE_FROM_BYTES = 1 << 20  # a smaller upload is out before it can be refused
_BLOCK_BYTES = 64 << 10

Answer = TypeVar("Answer", Prediction, Explanation)


class CatDogClient:
    """A client of the prediction API.

    Args:
        url: The server's inference address; None: CATDOG_URL of the environment, else
            `DEFAULT_URL`.
        token: Its inference token, or a key of the nginx in front of it; None: CATDOG_TOKEN of
            the environment, if the server is CATDOG_URL's and no `auth` is given.
        auth: How requests are signed instead; `catdog_serving.torchserve.tokens.open_client`
            makes a client that reads this machine's own key file.
        retries: How often a busy or lost server is tried again, with growing random
            pauses up to `LONGEST_PAUSE_S`, on top of the answer's Retry-After. A refused
            image is never sent again.
        read_timeout_s: Longest wait for one answer.
        connections: Requests that may be under way at once.
        version: Which of several loaded versions to ask; None for the default. Leave it out:
            a deploy removes the version before.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        auth: AuthBase | None = None,
        retries: int = RETRIES,
        read_timeout_s: float = READ_TIMEOUT_S,
        connections: int = 64,
        version: str | None = None,
    ) -> None:
        named = os.environ.get("CATDOG_URL")
        self.url = (url or named or DEFAULT_URL).rstrip("/")
        if not self.url.lower().startswith(("http://", "https://")):
            raise UsageError(f"{self.url} is no server's address; give one such as {DEFAULT_URL}")
        self._model = MODEL_NAME + (f"/{version}" if version else "")
        self._timeout = (CONNECT_TIMEOUT_S, read_timeout_s)
        self._connections = connections
        if token is None and named and self.url == named.rstrip("/"):
            token = os.environ.get("CATDOG_TOKEN")  # that server's key is sent to no other
        self._auth = _BearerAuth(token) if token else auth
        self._retries = retries
        self._own = self._open()

    def _open(self) -> "_OwnOfProcess":
        session = HttpSession()
        for scheme in ("http://", "https://"):  # "http" alone would lose to requests' own two
            session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=self._connections))
        session.auth = self._auth
        closed = threading.Event()
        retrying = Retrying(
            retry=retry_if_exception_type((ServerBusyError, ServerUnavailableError)),
            stop=stop_after_attempt(self._retries + 1) | stop_when_event_set(closed),
            wait=_pause_s,
            sleep=sleep_using_event(closed),
            reraise=True,
        )
        return _OwnOfProcess(session, retrying, closed)

    def _in_this_process(self) -> "_OwnOfProcess":
        """The connections, new ones after a fork: the others are still the parent's."""
        own = self._own
        if own.pid != os.getpid():
            parents, own = own, self._open()
            own.parents = parents
            if parents.closed.is_set():
                own.closed.set()
            self._own = own
        return own

    def __getstate__(self) -> dict[str, Any]:
        """All but the connections, for pickle and copy."""
        return {name: value for name, value in vars(self).items() if name != "_own"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._own = self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections, and end the pauses of calls that are trying again."""
        own = self._in_this_process()
        own.closed.set()
        own.session.close()

    def classify(self, image: ImageSource, with_map: bool = False) -> Prediction:
        """Classify one image.

        Args:
            image: A path, a file's bytes, an open binary file, a PIL image (sent upright, as an
                RGB PNG), or an array of shape (H, W, 3), RGB, uint8. TIFF, AVIF and HEIC are
                decoded here, and sent as PNG.
            with_map: Ask for the prediction's map too; it costs nothing but the bytes.

        Raises:
            InvalidImageError: If the server refuses it, or it cannot be sent.
            OSError: If a path cannot be read.
            ServerBusyError: If the server stayed too busy.
            ServerUnavailableError: If there is no server, or it was lost.
            ServerError: On any other answer, such as a wrong token.
        """
        wishes = {MAP_HEADER: "true"} if with_map else {}
        return self._ask("predictions", _to_upload(image), Prediction.from_dict, wishes)

    def explain(self, image: ImageSource, with_animals: bool = False) -> Explanation:
        """Classify one image, and find the animal in all of it; takes two to three times as long.

        Args:
            image: What `classify` takes.
            with_animals: Ask for a cat beside a dog too; takes up to two more passes.

        Raises:
            ServerError: As `classify` does.
        """
        wishes = {ANIMALS_HEADER: "true"} if with_animals else {}
        return self._ask("explanations", _to_upload(image), Explanation.from_dict, wishes)

    def classify_many(
        self, images: Iterable[ImageSource], concurrency: int = CONCURRENCY
    ) -> Iterator[Prediction | InvalidImageError]:
        """Classify a stream of images, several at once, and give the results in its order.

        Images are taken from the stream as they are needed, so it may be endless.

        Args:
            images: What `classify` takes.
            concurrency: Requests under way at once, at most the client's `connections`.

        Yields:
            For each image its prediction, or the error of one that was refused or could not be
            read: a bad image does not end the stream.

        Raises:
            ServerError: As `classify` does, for everything that is not a bad image.
        """
        from catdog_serving.ordered_map import ordered_map

        return ordered_map(self._classify_or_refuse, images, concurrency)

    def _classify_or_refuse(self, image: ImageSource) -> Prediction | InvalidImageError:
        try:
            return self.classify(image)
        except InvalidImageError as error:
            # What would keep the image in memory.
            error.__cause__ = error.__context__ = None
            return error.with_traceback(None)
        except OSError as error:
            return unreadable(image, error)

    def _ask(
        self,
        api: str,
        upload: Upload,
        read: Callable[[Any], Answer],
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """The answer of one of the server's APIs, tried again as long as that may help."""
        url = f"{self.url}/{api}/{self._model}"
        retrying = self._in_this_process().retrying
        answer: Answer = retrying(self._post, url, upload.content, read, headers or {})
        return upload.in_own_pixels(answer)

    def _post(
        self, url: str, body: bytes, read: Callable[[Any], Answer], headers: Mapping[str, str]
    ) -> Answer:
        session = self._in_this_process().session
        try:
            response = session.post(
                url,
                data=_Blocks(body) if body else body,
                headers={"Content-Type": "application/octet-stream", **headers},
                timeout=self._timeout,
            )
        except requests.RequestException as error:
            if _is_too_large(session, url, len(body), error):
                raise InvalidImageError(TOO_LARGE, status=413) from error
            raise ServerUnavailableError(why_no_answer(self.url, error)) from error
        if response.status_code != 200:
            raise error_of_answer(response)
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


@dataclass
class _OwnOfProcess:
    """What a fork must not share: two processes on one connection read each other's answers."""

    session: requests.Session
    retrying: Retrying
    closed: threading.Event
    pid: int = field(default_factory=os.getpid)
    parents: "_OwnOfProcess | None" = None  # kept after a fork, so that nothing of it is closed


class _Blocks:
    """A body in blocks: the time-out of a write, 5 s, is for each and not for the whole upload."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __len__(self) -> int:
        return len(self._body)

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self._body), _BLOCK_BYTES):
            yield self._body[start : start + _BLOCK_BYTES]


def _is_too_large(session: requests.Session, url: str, size: int, lost: Exception) -> bool:
    """Whether that is why an upload broke off: a server that has said 413 reads no further.

    It is asked by the length alone, and answers 413 at once, or 100 and waits for the body.
    """
    broke_off = isinstance(lost, requests.ConnectionError)
    if not broke_off or isinstance(lost, requests.ConnectTimeout) or size < _TOO_LARGE_FROM_BYTES:
        return False
    headers = {"Content-Length": str(size), "Expect": "100-continue", "Connection": "close"}
    try:
        answer = session.post(
            url, headers=headers, timeout=(CONNECT_TIMEOUT_S, TOO_LARGE_TIMEOUT_S)
        )
    except requests.RequestException:
        return False  # it waits; or it cannot be reached, as the upload's own error says
    return answer.status_code == 413


class _BearerAuth(AuthBase):
    """Sends a token that the caller knows."""

    def __init__(self, token: str) -> None:
        self._token = token.strip()
        if not self._token.isascii() or not self._token.isprintable() or " " in self._token:
            raise UsageError("the token is one word of ASCII; what was given is not shown here")

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _to_upload(image: ImageSource) -> Upload:
    try:
        return to_upload(read_source(image))
    except InvalidImage as error:
        raise InvalidImageError(error.message, kind="InvalidImage") from error
