"""What `catdog web` refuses, and its sentences."""

import subprocess
import sys

import pytest

from catdog_serving.client import CatDogClient
from catdog_serving.errors import ServerBusyError, ServerError, ServerUnavailableError
from catdog_serving.web import views
from catdog_serving.web.answers import MAX_FILES, Answers, Progress
from catdog_serving.web.explained import ShownPicture
from tests.unit.test_cli import catdog
from tests.unit.test_folder_report import failure


def test_another_host_needs_a_password() -> None:
    result = catdog("web", "--host", "0.0.0.0")
    assert result.returncode == 2
    assert "give --auth USER:PASSWORD, or set CATDOG_WEB_AUTH" in result.stderr


@pytest.mark.parametrize("auth", ["me", "me:", ":secret"])
def test_half_a_password_is_refused(auth: str) -> None:
    result = catdog("web", CATDOG_WEB_AUTH=auth)
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
    assert "pip install 'catdog[web]'" in result.stderr


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
    row = failure("<img src=x onerror=alert(1)>", "cannot <b>decode</b>")
    shown = ShownPicture(row["path"], row, None, None, None)
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
    assert "drop the picture again" in answer.result
    assert answer.progress == Progress()
