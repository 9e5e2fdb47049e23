"""Three minutes of tokens that end after one: nobody who asks notices."""

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from catdog_serving.client import CatDogClient
from catdog_serving.torchserve.private_config import free_ports
from catdog_serving.torchserve.server import TorchServe
from catdog_serving.torchserve.tokens import open_client
from tests.support.command_line import catdog
from tests.support.configs import MakeConfig
from tests.support.edge import TOKEN, Edge, running_edge
from tests.support.paths import SAMPLES

SECONDS = 180
PAUSE_S = 5  # between two commands
CAT = SAMPLES / "chelsea.png"


def test_no_answer_is_lost_while_tokens_end(
    archive: Path, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command line and four clients renew them; nginx gets them by `catdog token`."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    config = make_config(
        archive, inference_address=f"http://0.0.0.0:{port}", token_expiration_min="1"
    )
    with TorchServe(config) as server, running_edge(f"127.0.0.1:{port}") as edge:
        here = {"CONFIG": str(config.path)}
        edge.run(TOKEN, **here)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(edge.certificate))
        over = threading.Event()
        keys = set()

        def many(client: CatDogClient) -> int:
            count = 0
            with client:
                while not over.is_set():
                    assert client.classify(CAT).label == "cat"
                    count += 1
            return count

        def again_and_again(run: Callable[[], None]) -> int:
            count = 0
            while not over.wait(PAUSE_S):
                run()
                count += 1
            return count

        def command_line() -> None:
            options = ("--config", config.path)
            for words in (("classify", CAT, "--url", url), ("status",)):
                done = catdog(*words, *options)
                assert done.returncode == 0, done.stderr

        def hand_to_nginx() -> None:
            edge.run(TOKEN, **here)
            keys.add(json.loads(server.run.key_file.read_text())["inference"]["key"])

        clients = [open_client(url, config.path, retries=0) for _ in range(4)]
        clients.append(CatDogClient(edge.url, token=next(edge.keys)))
        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(many, client) for client in clients]
            asked += [pool.submit(again_and_again, run) for run in (command_line, hand_to_nginx)]
            end = time.monotonic() + SECONDS
            while time.monotonic() < end and not any(one.done() for one in asked):
                over.wait(0.5)
            over.set()
            counts = [one.result() for one in asked]
        waited = refused_once(edge)
    print(
        f"\n{SECONDS} s, {len(keys)} tokens: {counts[:4]} answers of four clients, {counts[4]} "
        f"through nginx ({waited} of them after a wait), {counts[5]} times the command line"
    )
    assert min(counts) > 0
    assert len(keys) >= SECONDS // 60


def refused_once(edge: Edge) -> int:
    """Requests that met nginx while it had the old token."""
    log = (edge.folder / "log" / "catdog-access.log").read_text().splitlines()
    return sum(json.loads(line)["status"] == "400" for line in log)
