"""catdog web in a real Chromium, before a real server."""

import csv
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Literal

import pytest
import requests
from playwright.sync_api import Browser, expect

from catdog_serving.client import CatDogClient
from catdog_serving.torchserve.private_config import free_ports
from catdog_serving.torchserve.server import TorchServe
from tests.support.browser import PHONE, chromium, fits_in_width, low_contrast
from tests.support.http_servers import http_server, send
from tests.support.paths import SAMPLES
from tests.support.processes import wait_until
from tests.support.web_pages import asked_hosts, crops, drop, drop_beside, web_page

CAT = SAMPLES / "chelsea.png"
A_PROXY = {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
CONTROLS = (
    "Service",
    "Click to upload or drop files",
    "Use the camera",
    "Download the table",
    "number input for Map",
    "range slider for Map",
    "all",
)


def newest_loopback() -> str:
    """IPv6's, where this machine has one: many containers have not."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return "127.0.0.1"
    return "::1"


@contextmanager
def started_page(server: TorchServe, *options: str, **environment: str) -> Iterator[str]:
    """The real command, on a free port; gives the address that it prints."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "catdog_serving", "web", "--port", str(port), *options]
    with subprocess.Popen(
        [*command, "--config", str(server.config.path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "200"} | environment,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("page  http://"), process.communicate(timeout=10)
            yield line.split()[1]
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=20)
            assert process.returncode == 128 + signal.SIGTERM
        finally:
            process.kill()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """With Chromium's own stand-in for a camera, and its log of the network, read in the end."""
    net_log = tmp_path_factory.mktemp("browser") / "network.json"
    camera = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    loopback = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"  # for Chromium itself
    with chromium(*camera, loopback, f"--log-net-log={net_log}") as running:
        yield running
    assert asked_hosts(net_log) == {"127.0.0.1"}


@pytest.fixture(scope="module")
def address(server: TorchServe) -> Iterator[str]:
    with started_page(server) as found:
        yield found


def test_one_image_shows_masses_box_and_map(
    browser: Browser, address: str, client: CatDogClient
) -> None:
    expected = client.explain(CAT)
    with web_page(browser, address) as page:
        drop(page, CAT)
        alone = page.locator(".cd-alone")
        expect(alone.locator("h2")).to_have_text("cat · tiger cat (38%)")
        expect(alone.locator(".cd-number").first).to_have_text(f"{expected.prediction.cat:.4f}")
        assert expected.box is not None
        expect(alone).to_contain_text("It fills the image.")
        expect(alone.locator("rect.cd-box")).to_have_attribute(
            "width", str(expected.box.x1 - expected.box.x0)
        )
        expect(alone.locator(".cd-map")).to_have_css("opacity", "0.6")
        page.get_by_label("number input for Map").fill("20")
        page.keyboard.press("Enter")
        expect(alone.locator(".cd-map")).to_have_css("opacity", "0.2")


def test_twenty_images_are_a_gallery_with_filter_and_table(
    browser: Browser, address: str, client: CatDogClient, tmp_path: Path
) -> None:
    paths = crops(tmp_path)
    labels = [client.classify(path).label for path in paths]
    with web_page(browser, address) as page:
        drop(page, *paths)
        cards = page.locator(".cd-card")
        expect(cards).to_have_count(20)
        assert [card.get_attribute("data-label") for card in cards.all()] == labels
        page.get_by_role("radio", name="cat").check()
        expect(page.locator(".cd-card:visible")).to_have_count(labels.count("cat"))
        page.get_by_role("radio", name="all").check()
        expect(page.locator(".cd-card:visible")).to_have_count(20)
        expect(page.locator("#cd-message[aria-live=polite]")).to_contain_text("20 images:")
        with page.expect_download() as download:
            page.get_by_role("link", name="Download the table").click()
        table = csv.DictReader(io.StringIO(Path(download.value.path()).read_text()))
        rows = [(row["path"], row["label"]) for row in table]
        assert rows == [(path.name, label) for path, label in zip(paths, labels, strict=True)]


def test_a_text_file_is_a_sentence_and_costs_the_others_nothing(
    browser: Browser, address: str, tmp_path: Path
) -> None:
    text = tmp_path / "<b>notes.txt"
    text.write_text("no image")
    with web_page(browser, address) as page:
        drop(page, text)
        expect(page.locator(".cd-problem")).to_contain_text("cannot decode 8 bytes as an image")
        assert page.locator("#cd-result b").count() == 0
        drop(page, text, CAT)
        expect(page.locator(".cd-card")).to_have_count(2)
        expect(page.locator(".cd-card.cd-failed")).to_contain_text("cannot decode")
        expect(page.locator(".cd-card.cd-cat")).to_have_count(1)


def test_a_file_that_is_too_large_is_refused_by_the_page(
    browser: Browser, address: str, tmp_path: Path
) -> None:
    large = tmp_path / "large.png"
    large.write_bytes(bytes(26_214_401))
    with web_page(browser, address, expected_errors=("413",)) as page:
        drop(page, large)
        expect(page.get_by_text("exceed the maximum allowed size of 25.0 Mb")).to_be_visible()
        assert page.locator(".cd-alone, .cd-card").count() == 0


def test_the_camera_takes_an_image(browser: Browser, address: str) -> None:
    """Chromium's stand-in shows a moving disc: no cat and no dog."""
    with web_page(browser, address) as page:
        page.get_by_role("button", name="Use the camera").click()
        page.get_by_text("Click to Access Webcam").click()
        page.wait_for_function("document.querySelector('video')?.videoWidth > 0")
        page.get_by_role("button", name="capture photo").click()
        expect(page.locator(".cd-alone h2")).to_have_text("neither")


def test_with_a_password_nobody_else_sees_the_page(server: TorchServe) -> None:
    with started_page(server, "--host", newest_loopback(), CATDOG_WEB_AUTH="me:secret") as address:
        assert requests.get(f"{address}/config", timeout=10).status_code == 401
        with requests.Session() as session:
            wrong = {"username": "me", "password": "guess"}
            assert session.post(f"{address}/login", data=wrong, timeout=10).status_code == 400
            right = {"username": "me", "password": "secret"}
            assert session.post(f"{address}/login", data=right, timeout=10).status_code == 200
            assert session.get(f"{address}/config", timeout=10).status_code == 200


def test_a_server_that_stops_and_starts_again(browser: Browser, one_of_its_own: TorchServe) -> None:
    server = one_of_its_own
    server.stop()
    with started_page(server) as address, web_page(browser, address) as page:
        problem = page.locator("#cd-message .cd-problem")
        drop(page, CAT)
        expect(problem).to_contain_text("does not answer. Start it with: catdog serve")
        with server:
            page.get_by_role("button", name="Try again").click()
            expect(page.locator(".cd-alone")).to_be_visible()
            expect(page.get_by_role("button", name="Try again")).to_have_count(0)
            page.get_by_role("tab", name="Service").click()
            expect(page.locator("#cd-service")).to_contain_text("1 of 1 ready")
            expect(page.locator("#cd-service")).to_contain_text("efficientnet_lite0")
            expect(page.locator("#cd-service")).to_contain_text("per second")
        expect(page.locator("#cd-service .cd-problem")).to_contain_text("catdog serve")


class StandIn:
    """A server that answers as a test tells it to, and its page."""

    answer: Callable[[BaseHTTPRequestHandler, bytes], None]
    page: str


@pytest.fixture(scope="module")
def stand_in(server: TorchServe) -> Iterator[StandIn]:
    """Behind a proxy, which nothing on loopback goes through."""
    found = StandIn()
    with (
        http_server(lambda request, body: found.answer(request, body)) as url,
        started_page(server, "--url", url, **A_PROXY) as found.page,
    ):
        yield found


def test_a_full_queue_is_a_sentence_and_another_try(browser: Browser, stand_in: StandIn) -> None:
    full = b'{"code": 503, "type": "ServiceUnavailableException", "message": "no worker"}'
    stand_in.answer = lambda request, _: send(request, 503, full)
    with web_page(browser, stand_in.page) as page:
        drop(page, CAT)
        expect(page.get_by_role("alert")).to_contain_text("Wait a moment, then try again")
        expect(page.get_by_role("button", name="Try again")).to_be_visible()
        expect(page.get_by_label("number input for Map")).to_have_count(0)


def test_all_of_the_page_is_the_drop_zone(browser: Browser, address: str) -> None:
    with web_page(browser, address) as page:
        for name in ("first.png", "second.png"):  # a drop takes the place of the one before
            assert drop_beside(page, CAT.read_bytes(), name)
            expect(page.locator("#cd-message")).to_contain_text(f"{name}: cat, tiger cat")
            expect(page.locator(".cd-alone")).to_have_count(1)


def test_a_drop_takes_the_place_of_one_that_is_under_way(
    browser: Browser, address: str, tmp_path: Path
) -> None:
    with web_page(browser, address) as page:
        drop(page, *crops(tmp_path, 60))
        expect(page.locator("#cd-message")).to_contain_text("of 60 ...")
        drop(page, CAT)
        expect(page.locator(".cd-alone h2")).to_have_text("cat · tiger cat (38%)")
        expect(page.locator(".cd-card")).to_have_count(0)
        expect(page.locator("#cd-message")).to_have_text("chelsea.png: cat, tiger cat")


def test_a_slow_answer_does_not_come_over_that_of_a_newer_drop(
    browser: Browser, stand_in: StandIn, client: CatDogClient, tmp_path: Path
) -> None:
    slow, fast = tmp_path / "slow.png", tmp_path / "fast.png"
    shutil.copyfile(SAMPLES / "coffee.png", slow)
    shutil.copyfile(CAT, fast)
    explained = {
        path.read_bytes(): json.dumps(client.explain(path).to_dict()).encode()
        for path in (slow, fast)
    }
    asked, go_on, answered = threading.Event(), threading.Event(), threading.Event()

    def answer(request: BaseHTTPRequestHandler, body: bytes) -> None:
        if body == slow.read_bytes():
            asked.set()
            go_on.wait(60)
        send(request, 200, explained[body])
        if body == slow.read_bytes():
            answered.set()

    stand_in.answer = answer
    with web_page(browser, stand_in.page) as page:
        try:
            drop(page, slow)
            wait_until(asked.is_set, "the slow image at the server")
            drop(page, fast)
            expect(page.locator("#cd-message")).to_have_text("fast.png: cat, tiger cat")
        finally:
            go_on.set()
        wait_until(answered.is_set, "the slow image's answer")
        page.wait_for_timeout(1500)  # for what must not happen
        expect(page.locator("#cd-message")).to_have_text("fast.png: cat, tiger cat", timeout=1)
        expect(page.locator(".cd-alone h2")).to_have_text("cat · tiger cat (38%)", timeout=1)


def test_the_page_names_no_other_host(browser: Browser, address: str) -> None:
    """A browser may connect ahead to what a link names, and ask for nothing yet."""
    with web_page(browser, address) as page:
        drop(page, CAT)
        expect(page.locator(".cd-alone")).to_be_visible()
        named = page.evaluate(
            """() => [...document.querySelectorAll("link[href], [src], a[href], form[action]")]
              .map((element) => element.href || element.src || element.action)
              .filter((url) => !url.startsWith(location.origin) && !/^(data|blob):/.test(url))"""
        )
    assert named == []


def test_a_phone_needs_no_sideways_scrolling(
    browser: Browser, address: str, tmp_path: Path
) -> None:
    with web_page(browser, address, PHONE) as page:
        drop(page, CAT)
        expect(page.locator(".cd-alone")).to_be_visible()
        assert fits_in_width(page)
        drop(page, *crops(tmp_path, 6))
        expect(page.locator(".cd-card")).to_have_count(6)
        assert fits_in_width(page)
        page.get_by_role("tab", name="Service").click()
        expect(page.locator("#cd-service")).to_contain_text("ready")
        assert fits_in_width(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_can_be_read(
    browser: Browser, address: str, tmp_path: Path, scheme: Literal["light", "dark"]
) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no image")
    with web_page(browser, address, color_scheme=scheme) as page:
        for paths, shown in (
            ([CAT], ".cd-alone"),
            ([CAT, SAMPLES / "rocket.jpg", text], ".cd-message a"),
            ([text], ".cd-problem"),
        ):
            drop(page, *paths)
            expect(page.locator(shown)).to_be_visible()
            assert low_contrast(page) == {}
        page.get_by_role("tab", name="Service").click()
        expect(page.locator("#cd-service")).to_contain_text("ready")
        assert low_contrast(page) == {}


def test_every_control_can_be_reached_by_keyboard(
    browser: Browser, address: str, tmp_path: Path
) -> None:
    with web_page(browser, address) as page:
        drop(page, *crops(tmp_path, 4))
        expect(page.get_by_role("link", name="Download the table")).to_be_visible()
        expect(page.get_by_role("radio", name="all")).to_be_visible()
        page.get_by_role("tab", name="Images").focus()
        reached = []
        for _ in range(len(CONTROLS) + 1):  # and the slider's way back
            page.keyboard.press("Tab")
            name, outline_px = page.evaluate(
                """() => {
                  const at = document.activeElement;
                  const outline = parseFloat(getComputedStyle(at).outlineWidth);
                  return [(at.ariaLabel || at.textContent || at.value || at.type).trim(), outline];
                }"""
            )
            assert outline_px >= 2, f"{name} shows no focus"
            reached.append(name)
        for control in CONTROLS:
            assert any(control in name for name in reached), reached
        page.get_by_role("radio", name="cat").focus()
        page.keyboard.press("Space")
        expect(page.locator("#cd-gallery")).to_have_attribute("data-show", "cat")
        page.get_by_role("tab", name="Service").focus()
        page.keyboard.press("Enter")
        expect(page.locator("#cd-service")).to_contain_text("ready")


def test_the_result_is_there_soon_after_the_prediction(
    browser: Browser, address: str, client: CatDogClient, tmp_path: Path
) -> None:
    """From drop to drawn; the median of five is printed, and docs/web.md keeps one."""
    start = time.perf_counter()
    client.explain(CAT)
    own_s = time.perf_counter() - start
    took = []
    with web_page(browser, address) as page:
        for number in range(5):
            path = tmp_path / f"{number}.png"
            shutil.copyfile(CAT, path)
            start = time.perf_counter()
            drop(page, path)
            page.get_by_alt_text(f"{number}.png: cat").wait_for()
            took.append(time.perf_counter() - start)
    print(f"\nfrom drop to drawn {sorted(took)[2]:.2f} s, the explanation alone {own_s:.2f} s")
