"""catdog token, with a stand-in for TorchServe and one for nginx."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from catdog_serving.torchserve.server import TorchServe
from tests.support.answers import ANSWER
from tests.support.client_answers import Script
from tests.support.command_line import catdog_here
from tests.support.configs import MakeConfig
from tests.support.http_servers import http_server
from tests.support.paths import SAMPLES
from tests.support.token_server import Guard, guarded_server


@dataclass
class Site:
    """A server with tokens, a folder for nginx's include, and a program that is called nginx."""

    server: TorchServe
    guard: Guard
    folder: Path

    @property
    def include(self) -> Path:
        return self.folder / "token" / "inference.map"

    def token(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        path = {"PATH": f"{self.folder}:/usr/bin:/bin"}
        config = ("--config", self.server.config.path)
        return catdog_here("token", *config, *arguments, **path)

    def nginx(self, status: int, says: str = "") -> None:
        """Have nginx end with that status; what it was called with is in the file `calls`."""
        program = self.folder / "nginx"
        calls = self.folder / "calls"
        program.write_text(f"#!/bin/sh\necho $* >>{calls}\necho '{says}' >&2\nexit {status}\n")
        program.chmod(0o755)

    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()


@pytest.fixture
def site(
    tmp_path: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    config = make_config(None, inference_address="http://0.0.0.0:1", token_expiration_min="60")
    server = TorchServe(config)
    server.run.create()
    server.run.record(psutil.Process())  # as if this process were the server
    try:
        with guarded_server(server.run.path, 3600) as (guard, url, _):
            text = config.path.read_text()
            config.path.write_text(text.replace(config.management_url, url))
            made = Site(server, guard, tmp_path)
            made.nginx(0)
            monkeypatch.setattr("os.geteuid", lambda: 0)  # without sudo
            yield made
    finally:
        server.run.remove()


def test_it_says_when_the_tokens_end_and_never_what_they_are(site: Site) -> None:
    shown = site.token()
    assert shown.returncode == 0
    ends = f"{site.guard.ends:%Y-%m-%d %H:%M:%S} UTC"
    assert shown.stdout == (
        f"inference  ends {ends}\nmanagement ends {ends}\nkeys       {site.guard.path}\n"
    )
    assert site.guard.renewals == 0


def test_nginx_gets_the_token_and_is_reloaded(site: Site) -> None:
    for n in (1, 2):
        assert site.token("--nginx", site.include).returncode == 0
        assert site.include.read_text() == 'default "Bearer key-0";\n'
        assert site.calls() == ["-s reload"] * n
    assert site.include.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in site.include.parent.iterdir()] == ["inference.map"]


def test_a_token_that_ends_soon_is_renewed_first(site: Site) -> None:
    site.guard.seconds = 300  # of the hour that config.properties says
    site.guard.make_new()
    assert site.token("--nginx", site.include).returncode == 0
    assert site.guard.renewals == 1
    assert site.include.read_text() == f'default "Bearer {site.guard.key}";\n'


def test_the_files_mode_is_kept(site: Site) -> None:
    site.include.parent.mkdir()
    site.include.touch()
    site.include.chmod(0o604)
    assert site.token("--nginx", site.include).returncode == 0
    assert site.include.stat().st_mode & 0o777 == 0o604


@pytest.mark.parametrize("text", ["server { listen 443; }\n", 'default "x"; more;\n', "Bearer key"])
def test_a_file_that_is_no_include_of_catdog_stays(site: Site, text: str) -> None:
    site.include.parent.mkdir()
    site.include.write_text(text)
    result = site.token("--nginx", site.include)
    assert (result.returncode, result.stderr.count("\n")) == (4, 1)
    assert site.include.read_text() == text
    assert site.token("--nginx", "/dev/null").returncode == 2
    assert not Path("/dev/null").is_file()
    assert not (site.folder / "calls").exists()


def test_a_file_that_only_its_owner_may_read_is_renewed(site: Site) -> None:
    site.include.parent.mkdir()
    site.include.touch()
    site.include.chmod(0o400)
    assert site.token("--nginx", site.include).returncode == 0
    assert site.include.stat().st_mode & 0o777 == 0o400


def test_an_nginx_that_was_not_reloaded_is_one_line_each_time(site: Site) -> None:
    site.nginx(1, "nginx: [error] open() /run/nginx.pid failed")
    for _ in range(2):
        result = site.token("--nginx", site.include)
        assert result.returncode == 3
        assert result.stderr.count("\n") == 1
        assert "is written, but nginx was not reloaded: nginx: [error]" in result.stderr
        assert "as root: nginx -s reload" in result.stderr
    assert "key-0" in site.include.read_text()


def test_a_place_that_cannot_be_written_is_one_line_and_nginx_is_left_alone(site: Site) -> None:
    result = site.token("--nginx", "/proc/nowhere/inference.map")
    assert (result.returncode, result.stderr.count("\n")) == (3, 1)
    assert not (site.folder / "calls").exists()


def test_a_token_that_would_be_more_than_a_token_never_reaches_nginxs_configuration(
    site: Site,
) -> None:
    site.guard.make_new('a"; } load_module x.so; #')
    result = site.token("--nginx", site.include)
    assert (result.returncode, result.stderr.count("\n")) == (3, 1)
    assert not site.include.exists()


def test_without_tokens_it_says_so_and_nginx_sends_none(site: Site) -> None:
    site.guard.path.unlink()
    assert site.token().stdout == "no tokens: every address of this server is on loopback\n"
    assert site.token("--nginx", site.include).returncode == 0
    assert site.include.read_text() == 'default "";\n'


def test_a_key_in_a_file_is_sent_and_a_bad_file_is_refused(tmp_path: Path) -> None:
    image, key = SAMPLES / "chelsea.png", tmp_path / "key"
    script = Script((200, ANSWER))
    with http_server(script) as url:
        asked = ("classify", image, "--url", url, "--format", "jsonl", "--token-file", key)
        for content, why in ((None, "cannot read"), ("two words", "no key"), ("", "no key")):
            if content is not None:
                key.write_text(content)
            refused = catdog_here(*asked)
            assert (refused.returncode, script.requests) == (2, [])
            assert why in " ".join(refused.stderr.split())
        key.write_text("secret\n")
        assert catdog_here(*asked).returncode == 0
    assert {headers["Authorization"] for _, headers, _ in script.requests} == {"Bearer secret"}
