"""A pod of config/kubernetes that ends under load."""

import ssl
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path

import pytest

from catdog_serving.client import CatDogClient
from catdog_serving.errors import CatDogError
from tests.support.archive_cache import with_handler
from tests.support.kubernetes_service import Service, service
from tests.support.operators import CLOCK
from tests.support.paths import SAMPLES
from tests.support.pods import Pod, Secrets, running_pods
from tests.support.processes import wait_until

CAT = (SAMPLES / "chelsea.png").read_bytes()
ONE_SHOT, KEEPING = 20, 4  # clients; each always has a request under way
ENDPOINTS_S = 4.0  # until every Service has heard of a pod's end; the hook waits for 5


def test_a_pod_that_ends_under_load_loses_no_request(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hooks run as they stand; the Service sends new connections elsewhere 4 s later.

    Clients that keep their connection are CatDogClients, and may try again; the others may not.
    """
    given = Secrets(tmp_path)
    # Batches take a second longer, so that requests are under way at any time.
    slow = with_handler(
        archive,
        tmp_path / "slow.mar",
        CLOCK,
        "        import time\n        time.sleep(1)\n" + CLOCK,
    )
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(given.certificate))
    with running_pods(slow, given, 2) as (old, new):
        end_one_under_load(old, new, given)


def end_one_under_load(old: Pod, new: Pod, given: Secrets) -> None:
    answers: list[str] = []
    stop = threading.Event()
    clients = []
    with (
        service(int(old.ports["8443"])) as front,
        CatDogClient(f"https://localhost:{front.port}", token=given.keys[0]) as keeping,
        ThreadPoolExecutor(ONE_SHOT + KEEPING + 2) as pool,
    ):
        url = f"https://localhost:{front.port}"

        def client(ask: Callable[[], str]) -> None:
            while not stop.is_set():
                answers.append(ask())

        try:
            for number in range(ONE_SHOT + KEEPING):
                key = given.keys[1 + number % 15]
                again = number < KEEPING
                ask = again_and_again(keeping) if again else once(url, key, given)
                clients.append(pool.submit(client, ask))
            wait_until(lambda: len(answers) > ONE_SHOT, "answers of the first pod")
            ends = [pool.submit(old.end, container) for container in ("nginx", "catdog")]
            moving = threading.Timer(ENDPOINTS_S, move, (front, new))
            moving.start()
            assert [each.result() for each in ends] == [0, 0]
            before = len(answers)
            wait_until(lambda: len(answers) > before + ONE_SHOT, "answers of the second pod")
        finally:
            stop.set()
        for ended in clients:
            ended.result()
    first, second = (front.connections[int(pod.ports["8443"])] for pod in (old, new))
    print(f"\n{len(answers)} requests; {first} connections to the pod that ended, {second} after")
    assert Counter(answers) == {"200": len(answers)}


def once(url: str, key: str, given: Secrets) -> Callable[[], str]:
    """A request on a connection of its own, without a second try."""
    context = ssl.create_default_context(cafile=str(given.certificate))
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "image/png"}
    request = urllib.request.Request(f"{url}/predictions/catdog", CAT, headers)

    def ask() -> str:
        try:
            with urllib.request.urlopen(request, timeout=60, context=context) as answer:
                answer.read()
                return str(answer.status)
        except (OSError, HTTPException) as error:  # HTTPError, too, and an answer that is cut
            return repr(error)

    return ask


def again_and_again(client: CatDogClient) -> Callable[[], str]:
    """A request on a connection that is kept, with as many tries as the client makes."""

    def ask() -> str:
        try:
            client.classify(CAT)
            return "200"
        except CatDogError as error:
            return repr(error)

    return ask


def move(front: Service, pod: Pod) -> None:
    front.endpoint = int(pod.ports["8443"])
