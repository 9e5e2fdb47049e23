"""catdog web before a real server, in a real Chromium, and how it is reached."""

import csv
import io
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Browser, expect

from catdog_serving.client import CatDogClient
from catdog_serving.torchserve.private_config import free_ports
from catdog_serving.torchserve.server import TorchServe
from tests.support.browser import cards
from tests.support.configs import MakeConfig
from tests.support.edge import NGINX, has_ipv6
from tests.support.http_servers import http_server
from tests.support.images import encode, noise
from tests.support.paths import ROOT, SAMPLES
from tests.support.processes import wait_until
from tests.support.web_pages import (
    answer_a_cat,
    crops,
    drop,
    started_page,
    web_page,
)

CAT = SAMPLES / "chelsea.png"


@pytest.fixture(scope="module")
def address(server: TorchServe) -> Iterator[str]:
    with started_page(server.config.path, "--port", "0") as (found, _):
        yield found


def test_one_image_from_the_real_server(
    browser: Browser, address: str, client: CatDogClient
) -> None:
    expected = client.explain(CAT)
    with web_page(browser, address) as page:
        height = page.locator("#zone").evaluate("zone => zone.offsetHeight")
        drop(page, CAT)
        page.locator(".card").click()
        assert page.locator("#zone").evaluate("zone => zone.offsetHeight") < height / 4
        panel = page.locator("#detail")
        expect(panel.locator(".answer")).to_have_text("cat · tiger cat (38%)")
        expect(panel.locator(".number").first).to_have_text(f"{expected.prediction.cat:.4f}")
        expect(panel).to_contain_text("it fills the image")
        for image in panel.locator("img").all():  # the original, beside it under the map
            assert image.evaluate("image => image.naturalWidth") == expected.map.size[0]
        page.get_by_label("Map").fill("20")
        expect(panel.locator(".map")).to_have_css("opacity", "0.2")


def test_a_server_that_stops_and_starts_again(browser: Browser, own: TorchServe) -> None:
    own.stop()
    with (
        started_page(own.config.path, "--port", "0") as (address, _),
        web_page(browser, address, expected_errors=("503",)) as page,
    ):
        drop(page, CAT)
        problem = page.get_by_role("alert")
        expect(problem).to_contain_text("does not answer. Start it with: catdog serve")
        own.start()
        page.get_by_role("button", name="Try again").click()
        expect(page.locator(".card.cat")).to_be_visible()
        expect(problem).to_be_hidden()
        page.get_by_role("tab", name="Service").click()
        for text in ("1 of 1 ready", "efficientnet_lite0", "onnxruntime", "free", "per second"):
            expect(page.locator("#facts")).to_contain_text(text)
        own.stop()
        expect(page.locator("#service-problem")).to_contain_text("catdog serve")


def test_twenty_images_and_their_tables(
    browser: Browser, address: str, client: CatDogClient, tmp_path: Path
) -> None:
    paths = crops(tmp_path)
    answers = {path.name: client.classify(path) for path in paths}
    with web_page(browser, address) as page:
        drop(page, *paths)
        expect(page.locator("#message")).to_contain_text("20 images:")
        assert sorted(cards(page)) == sorted(answers)
        page.get_by_label("Order").select_option("by name")
        assert cards(page) == sorted(answers)
        tables = []
        for kind in ("CSV", "JSON"):
            with page.expect_download() as download:
                page.get_by_role("button", name=f"Table as {kind}").click()
            tables.append(Path(download.value.path()).read_text())
        rows = list(csv.DictReader(io.StringIO(tables[0])))
        assert {row["path"]: row["label"] for row in rows} == {
            name: answer.label for name, answer in answers.items()
        }
        images = {row["path"]: row for row in json.loads(tables[1])["images"]}
        assert {name: row["cat"] for name, row in images.items()} == {
            name: answer.cat for name, answer in answers.items()
        }
        assert images[paths[0].name]["size"] == paths[0].stat().st_size


def test_the_page_names_no_other_host(browser: Browser, address: str) -> None:
    """A browser may connect ahead to what a link names, and ask for nothing yet."""
    text = requests.get(address, timeout=10).text
    assert re.findall(r"(?:https?:)?//[\w-]+\.\w+", text) == []
    with web_page(browser, address, expected_errors=("Content Security Policy",)) as page:
        outside = page.evaluate(
            """() => Promise.all(["http://127.0.0.1:9/", "https://example.org/"].map(
              (url) => fetch(url, { mode: "no-cors" }).then(() => "sent", () => "refused")))"""
        )
    assert outside == ["refused", "refused"]


def test_with_a_password_nobody_else_sees_the_page(make_config: MakeConfig) -> None:
    at = ("--port", "0", "--host", "::1" if has_ipv6() else "127.0.0.1")
    password = {"CATDOG_WEB_AUTH": "me:secret"}
    with started_page(make_config(None).path, *at, **password) as (address, _):
        for path in ("", "/predictions", "/service", "/samples/chelsea.png"):
            assert requests.get(address + path, timeout=10).status_code == 401
        assert requests.get(address, auth=("me", "guess"), timeout=10).status_code == 401
        assert requests.get(address, auth=("me", "secret"), timeout=10).status_code == 200


_NGINX_CONF = """
daemon off; user root; pid {folder}/pid; error_log {folder}/errors; events {{}}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/1; uwsgi_temp_path {folder}/2; scgi_temp_path {folder}/3;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {folder}/certificate; ssl_certificate_key {folder}/key;
        {snippet}
    }}
}}
"""


@pytest.mark.skipif(NGINX is None, reason="there is no nginx; on Debian: apt-get install nginx")
def test_behind_nginx_as_the_document_has_it(
    browser: Browser, make_config: MakeConfig, tmp_path: Path
) -> None:
    (snippet,) = re.findall(r"```nginx\n(.*?)```", (ROOT / "docs/web.md").read_text(), re.DOTALL)
    (port,) = free_ports(1)
    key = ("-keyout", tmp_path / "key", "-out", tmp_path / "certificate", "-subj", "/CN=localhost")
    subprocess.run(["openssl", "req", "-x509", "-nodes", *key], check=True, capture_output=True)
    large = tmp_path / "large.bmp"
    large.write_bytes(encode(noise(2950, 2950), "BMP"))
    assert large.stat().st_size > 26_000_000
    address = f"https://127.0.0.1:{port}"
    options = ("--port", "0", "--origin", f"{address}/cats/")
    with (
        http_server(answer_a_cat) as url,
        started_page(
            make_config(None).path, *options, "--url", url, CATDOG_WEB_AUTH="me:secret"
        ) as (page_address, _),
    ):
        snippet = snippet.replace("http://127.0.0.1:7860", page_address)
        conf = _NGINX_CONF.format(folder=tmp_path, port=port, snippet=snippet)
        (tmp_path / "nginx.conf").write_text(conf)
        with subprocess.Popen([str(NGINX), "-c", tmp_path / "nginx.conf"]) as nginx:
            try:
                wait_until((tmp_path / "pid").exists, "nginx")
                login = {"username": "me", "password": "secret"}
                with web_page(
                    browser, f"{address}/cats/", ignore_https_errors=True, http_credentials=login
                ) as page:
                    drop(page, large, CAT)
                    expect(page.locator("#message")).to_have_text("2 images: 2 cat")
                    page.locator(".card").first.click()
                    expect(page.locator("#detail")).to_contain_text("whole image")
                    page.keyboard.press("Escape")
                    page.get_by_role("button", name="Try the samples").click()
                    expect(page.locator("#message")).to_have_text("6 images: 6 cat")
                    page.get_by_role("tab", name="Service").click()
                    expect(page.locator("#service-problem")).to_contain_text("catdog serve")
                assert list((tmp_path / "body").iterdir()) == []
            finally:
                nginx.terminate()
