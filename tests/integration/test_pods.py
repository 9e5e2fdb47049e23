"""Pods of config/kubernetes: what they may do, what passes, and how they end under load."""

import ssl
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path

import pytest
import requests

from catdog_serving.client import CatDogClient
from catdog_serving.errors import CatDogError
from catdog_serving.operate.series import parse_series
from tests.support.archives import with_handler
from tests.support.isolation import ISOLATED, USER
from tests.support.operators import CLOCK
from tests.support.paths import ROOT, SAMPLES
from tests.support.pods import HEALTHCHECK, Pod, Secrets, containers, hook, running_pods
from tests.support.processes import wait_until
from tests.support.services import Service, service

CAT = (SAMPLES / "chelsea.png").read_bytes()
ONE_SHOT, KEEPING = 20, 4  # clients; each always has a request under way
ENDPOINTS_S = 4.0  # until every Service has heard of a pod's end; the hook waits for 5

needs_isolation = pytest.mark.skipif(
    not ISOLATED, reason="this user may not make Linux namespaces; run as root, with util-linux"
)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Secrets:
    made = Secrets(tmp_path_factory.mktemp("secrets"))
    made.write()
    return made


@pytest.fixture(scope="module")
def pods(
    archive: Path, given: Secrets, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Pod]]:
    """Two, whose batches take a second longer, so that requests are under way at any time."""
    slow = with_handler(
        archive,
        tmp_path_factory.mktemp("slow") / "slow.mar",
        CLOCK,
        "        import time\n        time.sleep(1)\n" + CLOCK,
    )
    with running_pods(slow, given, 2) as running:
        yield running


def test_probes_and_health_check_pass(pods: list[Pod]) -> None:
    server = containers()["catdog"]
    for kind in ("readinessProbe", "livenessProbe"):
        result = pods[0].run("catdog", server[kind]["exec"]["command"])
        assert result.returncode == 0, result.stderr
    assert pods[0].run("catdog", HEALTHCHECK).returncode == 0


@needs_isolation
@pytest.mark.parametrize("container", ["catdog", "nginx"])
def test_a_container_may_write_to_its_volume_and_nowhere_else(
    pods: list[Pod], container: str
) -> None:
    pod = pods[0]
    first = pod.first[container]
    assert set(first.uids()) == {USER}
    status = Path(f"/proc/{first.pid}/status").read_text()
    assert "\nCapEff:\t0000000000000000\n" in status
    assert "\nNoNewPrivs:\t1\n" in status
    assert "\t1\n" in next(line for line in status.splitlines(True) if line[:6] == "NSpid:")
    own = {"catdog": "/run/catdog", "nginx": "/run/edge"}[container]
    assert pod.run(container, ["touch", f"{own}/written"]).returncode == 0
    for folder in ("/tmp", "/var/tmp", pod.workdir, pod.workdir / "model-store", ROOT):
        refused = pod.run(container, ["touch", f"{folder}/written"])
        assert "Read-only file system" in refused.stderr, folder


def test_series_and_nothing_else_pass_on_the_metrics_port(pods: list[Pod]) -> None:
    url = f"http://localhost:{pods[0].ports['9145']}"
    answer = requests.get(f"{url}/metrics", timeout=10)
    assert parse_series(answer.text).total("ts_queue_latency_microseconds") > 0
    assert requests.post(f"{url}/metrics", timeout=10).status_code == 403
    for path in ("/", "/models", "/metrics/../models", "/predictions/catdog"):
        assert requests.get(url + path, timeout=10).status_code == 404


def test_a_pod_that_ends_under_load_loses_no_request(
    pods: list[Pod], given: Secrets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hooks run as they stand; the Service sends new connections elsewhere 4 s later.

    Clients that keep their connection are CatDogClients, and may try again; the others may not.
    (The last test of the module: its first pod is gone then.)
    """
    old, new = pods
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(given.certificate))
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
            ends = [pool.submit(end, old, container) for container in ("nginx", "catdog")]
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


def end(pod: Pod, container: str) -> int:
    """What the kubelet does with a container: its preStop hook, then SIGTERM; its exit code.

    The end of nginx takes its hook along, in whatever state.
    """
    result = pod.run(container, hook(container), timeout_s=120)
    assert result.returncode == 0 or container == "nginx", result.stderr
    return pod.terminate(container)
