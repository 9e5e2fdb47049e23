"""Requests that parsers read differently, and forms of many fields, on every set of Java libraries.

    pytest -s tests/stress/test_raw_requests.py

prints SECURITY.md's tables. CATDOG_TEST_JAVA_LIBRARIES=FOLDER adds the jars of a folder.
"""

import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import psutil

from catdog_serving.torchserve.server import TorchServe
from tests.support.configs import MakeConfig
from tests.support.edge import Edge, running_edge
from tests.support.hostile_http import answers, forms, requests_of, reset_in_the_middle
from tests.support.paths import SAMPLES
from tests.support.raw_requests import send_one

CAT = (SAMPLES / "chelsea.png").read_bytes()
FOLDER = os.environ.get("CATDOG_TEST_JAVA_LIBRARIES", "auto")
SETS = dict.fromkeys(("bundled", "auto", FOLDER))
MAX_HEAP_BYTES = 2.0e9  # config.properties' -Xmx2g, and as much again for buffers
LARGEST = 26_214_400


@dataclass
class Way:
    """One way to a server: how to connect, and what to say for a key."""

    connect: Callable[[], socket.socket]
    key: Callable[[], str]


def ways(server: TorchServe, edge: Edge) -> dict[str, Way]:
    at = urlsplit(server.config.inference_url)
    directly = Way(lambda: socket.create_connection((at.hostname, at.port), 30), lambda: "0" * 64)
    return {"directly": directly, "nginx": Way(edge.connect, lambda: next(edge.keys))}


def print_table(head: str, rows: dict[str, dict[str, str]]) -> None:
    columns = list(next(iter(rows.values())))
    print(f"\n| {head} | {' | '.join(columns)} |\n|---{'|---' * len(columns)}|")
    for name, cells in rows.items():
        print(f"| {name} | {' | '.join(cells[column] for column in columns)} |")


def java_of(server: TorchServe) -> psutil.Process:
    process = server.run.process()
    assert process is not None
    return process


def on_every_set(archive: Path, make_config: MakeConfig) -> Iterator[tuple[str, TorchServe, Edge]]:
    """A server on each set of Java libraries, with an nginx before it."""
    for libraries in SETS:
        with (
            TorchServe(make_config(archive, java_libraries=libraries)) as server,
            running_edge(server.config.inference_url.removeprefix("http://"), 200) as edge,
        ):
            yield libraries, server, edge


def test_nothing_is_smuggled_through_nginx(archive: Path, make_config: MakeConfig) -> None:
    rows: dict[str, dict[str, str]] = {}
    for libraries, server, edge in on_every_set(archive, make_config):
        (worker,) = server.versions()[0].workers
        access = server.run.logs.folder / "access.log"
        for way_name, way in ways(server, edge).items():
            arrived = []
            for name in requests_of(""):
                seen = access.read_text().count("/smuggled")
                with way.connect() as connection:
                    got = answers(connection, requests_of(way.key())[name], 3)
                if access.read_text().count("/smuggled") > seen:
                    arrived.append(name)
                    got = (*got, "second read")
                rows.setdefault(name, {})[f"{way_name}, {libraries}"] = ", ".join(got)
            reset_in_the_middle(way.connect, list(requests_of(way.key()).values()))
            assert way_name == "directly" or arrived == []
            print(f"\n{libraries}, {way_name}: {len(arrived)} second requests arrived")
            assert send_one(server.config.inference_url, CAT).status == 200
        assert server.versions()[0].workers[0].pid == worker.pid
    print_table("request", rows)


def test_forms_of_many_fields_stay_within_the_heap(archive: Path, make_config: MakeConfig) -> None:
    rows: dict[str, dict[str, str]] = {}
    for libraries, server, edge in on_every_set(archive, make_config):
        java = java_of(server)
        for way_name, way in ways(server, edge).items():
            for name, (kind, body) in forms().items():
                assert len(body) <= LARGEST
                told = one_form(server, way, kind, body)
                rows.setdefault(name, {})[f"{way_name}, {libraries}"] = told
                print(f"\n{name}, {way_name}, {libraries}: {told}")
                server.wait_ready()  # one that took longer than responseTimeout is started anew
        assert java.is_running()
        rss = java.memory_info().rss
        print(f"\n{libraries}: Java's RSS afterwards {rss / 1e6:.0f} MB")
        assert rss < 2 * MAX_HEAP_BYTES
        assert send_one(server.config.inference_url, CAT).status == 200
    print_table("form", rows)


def one_form(server: TorchServe, way: Way, kind: str, body: bytes) -> str:
    """Status, seconds, Java's largest RSS, and the longest wait of another client meanwhile."""
    head = (
        f"POST /predictions/catdog HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {way.key()}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    got: list[str] = []

    def send() -> None:
        with way.connect() as connection:
            got.extend(answers(connection, head.encode() + body, 120))

    java = java_of(server)
    start = time.monotonic()
    sender = Thread(target=send)
    sender.start()
    waits, rss = [], 0
    while sender.is_alive():
        waits.append(send_one(server.config.inference_url, CAT).seconds)
        rss = max(rss, java.memory_info().rss)
    seconds = time.monotonic() - start
    return f"{', '.join(got)}; {seconds:.1f} s, {rss / 1e6:.0f} MB, others {max(waits):.1f} s"
