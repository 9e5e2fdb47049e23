import copy
import json
import multiprocessing
import pickle
import re
import select
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from catdog.decode import Decoder, Limits
from catdog_serving import (
    CatDogClient,
    CatDogError,
    InvalidImageError,
    ServerBusyError,
    ServerUnavailableError,
)
from catdog_serving.client import ImageSource
from catdog_serving.errors import ServerError
from catdog_serving.torchserve.private_config import free_ports
from tests.support.answers import ANSWER
from tests.support.http_servers import Answer, http_server, send
from tests.support.paths import SAMPLES
from tests.support.processes import wait_until

BUSY = {"code": 503, "type": "ServiceUnavailableException", "message": "no worker"}
DIED = {"code": 507, "type": "InternalServerException", "message": "Worker died."}
INVALID = {"code": 400, "type": "InvalidImage", "message": "cannot decode 4 bytes"}


class Script:
    """Answers the given (status, body) pairs in turn, the last one for ever."""

    def __init__(self, *answers: tuple[int, object]) -> None:
        self._answers = iter(answers)
        self._last = answers[-1]
        self.requests: list[tuple[str, dict[str, str], bytes]] = []

    def __call__(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        self.requests.append((request.path, dict(request.headers), body))
        status, answer = next(self._answers, self._last)
        send(request, status, json.dumps(answer).encode() if answer is not None else b"")


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("catdog_serving.client.FIRST_PAUSE_S", 0)


def test_a_prediction_is_typed() -> None:
    script = Script((200, ANSWER))
    with http_server(script) as url, CatDogClient(url, token="secret") as client:
        prediction = client.classify(b"data")
    assert prediction.label == "cat"
    assert prediction.breed is not None
    assert prediction.breed.name == "tabby"
    assert prediction.top[0].probability == 0.6
    path, headers, body = script.requests[0]
    assert path == "/predictions/catdog"
    assert headers["Authorization"] == "Bearer secret"
    assert body == b"data"


def test_every_kind_of_image_is_sent_as_bytes() -> None:
    path = SAMPLES / "chelsea.png"
    script = Script((200, ANSWER))
    with http_server(script) as url, CatDogClient(url) as client, path.open("rb") as file:
        for image in (path, str(path), path.read_bytes(), file):
            client.classify(image)
        client.classify(Image.open(path))
    bodies = [body for _, _, body in script.requests]
    assert bodies[:4] == [path.read_bytes()] * 4
    assert bodies[4].startswith(b"\x89PNG")


def test_a_refused_image_is_not_sent_again() -> None:
    script = Script((400, INVALID))
    with http_server(script) as url, CatDogClient(url) as client:
        with pytest.raises(InvalidImageError, match="cannot decode 4 bytes") as caught:
            client.classify(b"junk")
    assert caught.value.status == 400
    assert len(script.requests) == 1


def test_torchserves_own_413_is_an_invalid_image() -> None:
    with http_server(Script((413, None))) as url, CatDogClient(url) as client:
        with pytest.raises(InvalidImageError, match="max_request_size"):
            client.classify(b"huge")


@pytest.mark.parametrize("answer", [b"<html>sign in</html>", b'{"label": "cat"}', b"[]"])
def test_an_answer_that_is_not_catdogs_is_one_line_that_shows_it(answer: bytes) -> None:
    with (
        http_server(lambda request, _: send(request, 200, answer)) as url,
        CatDogClient(url, retries=0) as client,
    ):
        for ask in (client.classify, client.explain):
            with pytest.raises(ServerUnavailableError, match="not as catdog does") as caught:
                ask(b"data")
            assert answer.decode() in str(caught.value)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["label", "box"])
def test_an_answer_cannot_bring_markup_where_pages_want_none(key: str) -> None:
    markup = {"label": "<b>", "box": ["<b>", 0, 1, 1]}
    script = Script((200, ANSWER | {key: markup[key]}))
    with http_server(script) as url, CatDogClient(url, retries=0) as client:
        with pytest.raises(ServerUnavailableError, match="not as catdog does"):
            client.classify(b"data")


LIMITED = {"code": 429, "type": "TooManyRequestsException", "message": "too many requests"}


@pytest.mark.parametrize("trouble", [(503, BUSY), (507, DIED), (500, DIED), (429, LIMITED)])
def test_a_busy_or_lost_server_is_tried_again(trouble: tuple[int, object]) -> None:
    script = Script(trouble, trouble, (200, ANSWER))
    with http_server(script) as url, CatDogClient(url) as client:
        assert client.classify(b"data").label == "cat"
    assert len(script.requests) == 3


def test_a_server_that_stays_busy_is_given_up() -> None:
    script = Script((503, BUSY))
    with http_server(script) as url, CatDogClient(url, retries=2) as client:
        with pytest.raises(ServerBusyError) as caught:
            client.classify(b"data")
    assert caught.value.status == 503
    assert len(script.requests) == 3


def asking_to_wait(status: int, asked_s: str, body: bytes = b"") -> Answer:
    """Answers with a Retry-After, as nginx does."""

    def answer(request: BaseHTTPRequestHandler, _: bytes) -> None:
        send(request, status, body, headers={"Retry-After": asked_s})

    return answer


@pytest.mark.parametrize(
    ("asked", "at_least_s", "below_s"),
    [("3", 3, 4), ("3600", 60, 61), ("Tue, 24 Nov 2026 08:00:00 GMT", 0, 1), ("-5", 0, 1)],
)
def test_the_pause_is_at_least_what_the_server_asks_for_and_a_minute_at_most(
    monkeypatch: pytest.MonkeyPatch, asked: str, at_least_s: float, below_s: float
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("catdog_serving.client.sleep_using_event", lambda closed: pauses.append)

    with http_server(asking_to_wait(429, asked)) as url, CatDogClient(url, retries=1) as client:
        with pytest.raises(ServerBusyError):
            client.classify(b"data")
    (pause_s,) = pauses
    assert at_least_s <= pause_s < below_s


def test_other_refusals_are_neither_retried_nor_called_invalid() -> None:
    wrong = {"code": 400, "type": "InvalidKeyException", "message": "Token Authorization failed."}
    script = Script((400, wrong))
    with http_server(script) as url, CatDogClient(url) as client:
        with pytest.raises(ServerError, match="Token Authorization failed") as caught:
            client.classify(b"data")
    assert not isinstance(caught.value, InvalidImageError)
    assert len(script.requests) == 1


def test_nginxs_own_token_that_is_being_renewed_is_waited_for() -> None:
    """It says so with a Retry-After; a token of the client's own is refused without one."""
    wrong = b'{"code": 400, "type": "InvalidKeyException", "message": "refused"}'
    with http_server(asking_to_wait(400, "0", wrong)) as url, CatDogClient(url) as client:
        with pytest.raises(ServerBusyError, match="refused"):
            client.classify(b"data")


def test_no_server_says_how_to_start_one() -> None:
    (port,) = free_ports(1)
    with CatDogClient(f"http://127.0.0.1:{port}", retries=1) as client:
        with pytest.raises(ServerUnavailableError, match="catdog serve"):
            client.classify(b"data")


def test_a_missing_file_is_pythons_own_error(tmp_path: Path) -> None:
    with CatDogClient() as client, pytest.raises(FileNotFoundError):
        client.classify(tmp_path / "nope.jpg")


def test_many_images_come_back_in_order_and_a_bad_one_in_its_place() -> None:
    def by_body(request: BaseHTTPRequestHandler, body: bytes) -> None:
        if body == b"bad":
            send(request, 400, json.dumps(INVALID).encode())
        else:
            send(request, 200, json.dumps(ANSWER | {"cat": int(body) / 1000}).encode())

    images = [b"bad" if n % 10 == 3 else str(n).encode() for n in range(60)]
    with http_server(by_body) as url, CatDogClient(url) as client:
        results = list(client.classify_many(iter(images), concurrency=8))
    for number, result in enumerate(results):
        if number % 10 == 3:
            assert isinstance(result, InvalidImageError)
            assert result.__traceback__ is None
        else:
            assert not isinstance(result, InvalidImageError)
            assert result.cat == number / 1000


def test_many_images_end_with_the_servers_error() -> None:
    with http_server(Script((503, BUSY))) as url, CatDogClient(url, retries=0) as client:
        with pytest.raises(ServerBusyError):
            list(client.classify_many([b"data"] * 5))


def test_closing_ends_the_pauses_of_calls_that_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("catdog_serving.client.FIRST_PAUSE_S", 1e6)
    monkeypatch.setattr("catdog_serving.client.LONGEST_PAUSE_S", 1e6)
    script = Script((503, BUSY))
    with http_server(script) as url, ThreadPoolExecutor(1) as pool:
        client = CatDogClient(url)
        waiting = pool.submit(client.classify, b"data")
        wait_until(lambda: len(script.requests) == 1, "the first request")
        client.close()
        with pytest.raises(ServerBusyError):
            waiting.result(timeout=10)


def test_one_base_error_catches_all() -> None:
    for error in (InvalidImageError, ServerBusyError, ServerUnavailableError):
        assert issubclass(error, CatDogError)


def test_as_many_connections_are_kept_as_were_asked_for() -> None:
    """More than requests' own ten: 16 at once, twice, on the same 16 connections."""
    together = threading.Barrier(16)
    clients = set()

    def answer(request: BaseHTTPRequestHandler, _: bytes) -> None:
        clients.add(request.client_address)
        together.wait(timeout=20)
        send(request, 200, json.dumps(ANSWER).encode())

    with http_server(answer) as url, CatDogClient(url, connections=16) as client:
        with ThreadPoolExecutor(16) as pool:
            for _ in range(2):
                assert len(list(pool.map(client.classify, [b"data"] * 16))) == 16
    assert len(clients) == 16


# --- processes


def answer_by_body(request: BaseHTTPRequestHandler, body: bytes) -> None:
    """A prediction whose cat mass is the number that was sent, in thousandths."""
    send(request, 200, json.dumps(ANSWER | {"cat": int(body) / 1000}).encode())


def wrong_answers(client: CatDogClient, numbers: range) -> list[tuple[int, object]]:
    """What a client was told about each number, where it is not that number's answer."""
    found: list[tuple[int, object]] = []
    for number in numbers:
        try:
            told: object = client.classify(str(number).encode()).cat
        except CatDogError as error:
            told = str(error)
        if told != number / 1000:
            found.append((number, told))
    return found


def test_a_fork_has_connections_of_its_own() -> None:
    """Two processes on one connection read each other's answers."""
    forked = multiprocessing.get_context("fork")
    told = forked.SimpleQueue()
    with http_server(answer_by_body) as url, CatDogClient(url, retries=0) as client:
        assert client.classify(b"1").cat == 0.001  # on the connection that a fork would share

        def ask_in_a_fork(numbers: range) -> None:
            told.put(wrong_answers(client, numbers))

        children = [
            forked.Process(target=ask_in_a_fork, args=(range(n, n + 20),))
            for n in range(100, 500, 100)
        ]
        for child in children:
            child.start()
        assert wrong_answers(client, range(500, 580)) == []
        assert [told.get() for _ in children] == [[]] * 4
        for child in children:
            child.join()


def test_a_fork_of_a_closed_client_is_closed_too() -> None:
    """Its calls end at once, without pauses."""
    forked = multiprocessing.get_context("fork")
    script = Script((503, BUSY))
    with http_server(script) as url:
        with CatDogClient(url) as client:
            pass
        child = forked.Process(target=wrong_answers, args=(client, range(1)))
        child.start()
        child.join()
        assert (child.exitcode, len(script.requests)) == (0, 1)


COPIES: dict[str, Callable[[CatDogClient], CatDogClient]] = {
    "pickle": lambda client: pickle.loads(pickle.dumps(client)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("make", COPIES.values(), ids=COPIES)
def test_a_copy_asks_as_the_client_does_and_lives_on_its_own(
    make: Callable[[CatDogClient], CatDogClient],
) -> None:
    script = Script((503, BUSY), (200, ANSWER))
    with http_server(script) as url, CatDogClient(url, token="key", version="2") as client:
        with make(client) as copied:
            assert copied.classify(b"data").label == "cat"
        assert client.classify(b"data").label == "cat"
    sent = [(path, headers["Authorization"]) for path, headers, _ in script.requests]
    assert sent == [("/predictions/catdog/2", "Bearer key")] * 3


def test_it_can_be_sent_to_another_process() -> None:
    """As Spark, joblib and a pool of processes do."""
    spawned = multiprocessing.get_context("spawn")
    with http_server(answer_by_body) as url, CatDogClient(url) as client:
        with ProcessPoolExecutor(1, mp_context=spawned) as pool:
            assert pool.submit(wrong_answers, client, range(5)).result(timeout=60) == []


# --- a file that is too large, over a slow line


@contextmanager
def line(answer: Callable[[socket.socket, bytes], None]) -> Iterator[str]:
    """A server that gets each connection and the first bytes from it. Yields its URL."""

    def serve() -> None:
        with suppress(OSError):
            while True:
                with listening.accept()[0] as connection:
                    answer(connection, connection.recv(65536))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_a_413_that_the_upload_does_not_hear_is_told_after_one_upload(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server answers after the head and reads no further, as nginx does in the end."""
    monkeypatch.setattr("catdog_serving.client.CONNECT_TIMEOUT_S", 0.3)
    uploads = []

    def answer(connection: socket.socket, first: bytes) -> None:
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        if b"100-continue" not in first:
            uploads.append(first)
            select.select([], [], [], 0.6)  # longer than the client tries to write

    with line(answer) as url, CatDogClient(url) as client:
        with pytest.raises(InvalidImageError, match="max_request_size") as caught:
            client.classify(bytes(20_000_000))
    assert caught.value.status == 413
    assert len(uploads) == 1


def test_a_slow_upload_is_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes five times as long as a connection may; but it goes on and on."""
    monkeypatch.setattr("catdog_serving.client.CONNECT_TIMEOUT_S", 0.3)
    received = []

    def answer(connection: socket.socket, first: bytes) -> None:
        head, _, body = first.partition(b"\r\n\r\n")
        (size,) = re.findall(rb"Content-Length: (\d+)", head)
        left = int(size) - len(body)
        for _ in range(15):
            select.select([], [], [], 0.1)
            left -= len(connection.recv(left // 20, socket.MSG_WAITALL))
        left -= len(connection.recv(left, socket.MSG_WAITALL))
        received.append(left)
        told = json.dumps(ANSWER).encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(told) + told)

    with line(answer) as url, CatDogClient(url, retries=0) as client:
        assert client.classify(bytes(40_000_000)).label == "cat"
    assert received == [0]


def test_a_broken_upload_that_is_not_too_large_is_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server says 100 to the question, and waits for the body: that answers it as well."""
    monkeypatch.setattr("catdog_serving.client.TOO_LARGE_TIMEOUT_S", 0.2)
    uploads = []

    def answer(request: BaseHTTPRequestHandler, body: bytes) -> None:
        uploads.append(len(body))
        if len(uploads) == 1:
            request.close_connection = True
        else:
            send(request, 200, json.dumps(ANSWER).encode())

    with http_server(answer) as url, CatDogClient(url) as client:
        assert client.classify(bytes(2_000_000)).label == "cat"
    assert [size for size in uploads if size] == [2_000_000] * 2


# --- PIL images


def sent_pixels(image: ImageSource) -> Image.Image:
    """The image that a server gets."""
    script = Script((200, ANSWER))
    with http_server(script) as url, CatDogClient(url, retries=0) as client:
        client.classify(image)
    ((_, _, body),) = script.requests
    return Decoder(Limits(10**6, 20)).decode(body).image


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_pil_image_is_sent_upright(tmp_path: Path, orientation: int) -> None:
    """Whether it comes from a file or was worked on since."""
    image = Image.effect_noise((30, 20), 80).convert("RGB")
    exif = image.getexif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    image.save(path, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(path))
    for opened in (Image.open(path), Image.open(path).convert("L").convert("RGB")):
        sent = sent_pixels(opened)
        assert sent.size == expected.size
        near = np.asarray(sent.convert("L"), int) - np.asarray(expected.convert("L"), int)
        assert abs(near).max() <= 1
    assert sent_pixels(expected).tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"]
)
def test_a_pil_image_of_any_mode_shows_its_colour(mode: str) -> None:
    red = Image.new("RGBA", (8, 8), (255, 0, 0, 255))
    grey = mode in ("1", "L", "LA", "La")
    if mode in ("La", "PA", "RGBa"):
        image = red.convert({"La": "LA", "PA": "P", "RGBa": "RGBA"}[mode]).convert(mode)
    else:
        image = (red if mode in ("LA", "RGBA") else red.convert("RGB")).convert(mode)
    assert image.mode == mode
    (r, g, b) = sent_pixels(image).getpixel((3, 3))  # type: ignore[misc]
    if mode == "1":
        assert r == g == b
    else:
        expected = (76, 76, 76) if grey else (255, 0, 0)
        assert max(abs(x - y) for x, y in zip((r, g, b), expected, strict=True)) <= 3


def test_a_lab_image_shows_its_colour() -> None:
    """Of its own: Pillow makes it through a colour profile."""
    lab = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    image = ImageCms.applyTransform(Image.new("RGB", (8, 8), (200, 30, 60)), lab)
    assert image is not None
    sent = np.asarray(sent_pixels(image), int)
    assert abs(sent - (200, 30, 60)).max() <= 4


@pytest.mark.parametrize("mode", ["F", "I"])
def test_a_pil_image_of_unknown_range_is_refused_without_a_request(mode: str) -> None:
    script = Script((200, ANSWER))
    with http_server(script) as url, CatDogClient(url) as client:
        with pytest.raises(InvalidImageError, match="send 8-bit RGB"):
            client.classify(Image.new(mode, (8, 8), 70_000))
        (refused,) = client.classify_many([Image.new(mode, (8, 8), 70_000)])
    assert isinstance(refused, InvalidImageError)
    assert script.requests == []


def test_a_16_bit_grey_image_is_not_white() -> None:
    image = Image.fromarray(np.full((8, 8), 0x80FF, np.uint16))
    assert sent_pixels(image).getpixel((3, 3)) == (128, 128, 128)
