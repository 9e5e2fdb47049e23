"""What `catdog web` refuses, and its sentences."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Event, Lock

import pytest

from catdog_serving.client import CatDogClient
from catdog_serving.errors import ServerBusyError, ServerError, ServerUnavailableError
from catdog_serving.extras import install_hint
from catdog_serving.folder.image_result import FileInfo, ImageFailure, ImageResult
from catdog_serving.web import views
from catdog_serving.web.dropped_images import MAX_FILES, Answers, Progress
from catdog_serving.web.explained import CONCURRENCY, ShownImage
from catdog_serving.web.server_tab import Service
from catdog_serving.web.visitor import Visitor
from tests.support.command_line import catdog_here
from tests.support.configs import MakeConfig
from tests.support.fake_server import FakeServer
from tests.support.http_servers import http_server, send
from tests.support.images import encode, noise
from tests.support.paths import SAMPLES

CAT = str(SAMPLES / "chelsea.png")
INVALID = json.dumps({"code": 400, "type": "InvalidImage", "message": "no image"}).encode()


def test_another_host_needs_a_password() -> None:
    result = catdog_here("web", "--host", "0.0.0.0")
    assert result.returncode == 2
    assert "give --auth USER:PASSWORD, or set CATDOG_WEB_AUTH" in result.stderr


@pytest.mark.parametrize("auth", ["me", "me:", ":secret"])
def test_half_a_password_is_refused(auth: str) -> None:
    result = catdog_here("web", CATDOG_WEB_AUTH=auth)
    assert result.returncode == 2
    assert "--auth is USER:PASSWORD" in result.stderr


def test_without_gradio_it_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['gradio'] = None; sys.argv = ['catdog', 'web'];"
        "from catdog_serving.cli import main; main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert result.returncode == 3
    assert install_hint("web") in result.stderr


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ServerUnavailableError("no answer"), "Start it with: catdog serve"),
        (ServerBusyError("full", status=503), "Wait a moment, then try again"),
        (ServerError("a <b>wrong</b> token", status=400), "a &lt;b&gt;wrong&lt;/b&gt; token"),
    ],
)
def test_a_server_problem_says_what_to_do(error: ServerError, sentence: str) -> None:
    assert sentence in views.server_problem(error, "http://127.0.0.1:8080")


def test_names_and_reasons_are_text() -> None:
    name = "<img src=x onerror=alert(1)>"
    row = ImageResult(FileInfo(Path(name)), ImageFailure("InvalidImage", "cannot <b>decode</b>"))
    shown = ShownImage(name, row, None, None, None)
    for page in (views.alone(shown), views.gallery([shown])):
        assert "<img" not in page
        assert "<b>" not in page
        assert "&lt;img" in page


def test_too_many_files_are_refused_before_any_is_sent() -> None:
    with CatDogClient("http://127.0.0.1:9", retries=0) as client:
        (answer,) = Answers(client).dropped(["missing.jpg"] * (MAX_FILES + 1))
    assert f"drop at most {MAX_FILES}" in answer.message
    assert answer.progress == Progress()


def test_an_upload_that_is_gone_says_what_to_do() -> None:
    with CatDogClient("http://127.0.0.1:9", retries=0) as client:
        (answer,) = Answers(client).dropped(["/nonexistent/cat.jpg"])
    assert "drop the image again" in answer.result
    assert answer.progress == Progress()


def test_what_only_folders_read_is_refused_before_it_is_decoded_or_sent(tmp_path: Path) -> None:
    for name, format in (("TIFF", "TIFF"), ("AVIF", "AVIF"), ("HEIC", "HEIF")):
        path = tmp_path / f"cat.{format.lower()}"
        path.write_bytes(encode(noise(40, 30), format))
        with CatDogClient("http://127.0.0.1:9", retries=0) as client:
            answer = list(Answers(client).dropped([str(path)]))[-1]
        assert f"the page does not take {name}; save it as JPEG" in answer.result


def test_a_new_drop_takes_the_place_of_the_one_before() -> None:
    visitor = Visitor()
    with (
        http_server(lambda request, _: send(request, 400, INVALID)) as url,
        CatDogClient(url) as client,
    ):
        answers = Answers(client)
        visitor.drop([CAT] * 20)
        before = visitor.answers(answers)
        assert "0 of 20" in next(before).message
        assert "8 of 20" in next(before).message
        visitor.drop([CAT])
        assert list(before) == []
        (answer,) = visitor.answers(answers)
        assert "chelsea.png: no image" in answer.result
        assert list(visitor.answers(answers)) == []  # nobody asks for the same drop twice


def test_visitors_together_do_not_fill_the_queue() -> None:
    """Each answer waits for one request too many, until it is clear that none comes."""
    under_way = 0
    lock, too_many, waited = Lock(), Event(), Event()

    def answer(request: BaseHTTPRequestHandler, _: bytes) -> None:
        nonlocal under_way
        with lock:
            under_way += 1
            if under_way > CONCURRENCY:
                too_many.set()
        if not waited.is_set():
            too_many.wait(0.5)
            waited.set()
        with lock:
            under_way -= 1
        send(request, 400, INVALID)

    with http_server(answer) as url, CatDogClient(url) as client, ThreadPoolExecutor() as pool:
        answers = Answers(client)
        visits = [pool.submit(list, answers.dropped([CAT] * 20)) for _ in range(3)]
        assert ["20 failed" in visit.result()[-1].message for visit in visits] == [True] * 3
    assert not too_many.is_set()


def test_the_service_tab_outlives_another_program_at_the_port(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeServer()
    text = b"<html>another program"

    def answer(request: BaseHTTPRequestHandler, body: bytes) -> None:
        if text:
            send(request, 200, text)
        else:
            fake.answer(request, body)

    with http_server(answer) as url:
        service = Service(make_config(None, management_address=url, metrics_address=url))
        assert "not as TorchServe does: &#x27;&lt;html&gt;another program" in service.view()
        text = b'[{"modelVersion": "a TorchServe of another kind"}]'
        monkeypatch.setattr("catdog_serving.web.server_tab.SHORTEST_INTERVAL_S", 0)
        with pytest.raises(KeyError):
            service.view()
        text = b""
        assert "resnet152 IMAGENET1K_V1" in service.view()


def test_the_service_tab_says_what_was_refused(make_config: MakeConfig) -> None:
    refusal = json.dumps({"code": 400, "type": "Key", "message": "a <b>wrong</b> token"}).encode()
    with http_server(lambda request, _: send(request, 400, refusal)) as url:
        found = Service(make_config(None, management_address=url, metrics_address=url)).view()
    assert "answered 400: a &lt;b&gt;wrong&lt;/b&gt; token" in found
    assert "not running" not in found
