"""A pod of config/kubernetes: what it may do, what passes, and how it ends."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from catdog_serving.monitoring.metrics import Scrape
from tests.support.isolation import ISOLATED, USER
from tests.support.paths import ROOT, SAMPLES
from tests.support.pods import HEALTHCHECK, Pod, Secrets, containers, running_pods

CAT = (SAMPLES / "chelsea.png").read_bytes()

needs_isolation = pytest.mark.skipif(
    not ISOLATED, reason="this user may not make Linux namespaces; run as root, with util-linux"
)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Secrets:
    return Secrets(tmp_path_factory.mktemp("secrets"))


@pytest.fixture(scope="module")
def pod(archive: Path, given: Secrets) -> Iterator[Pod]:
    with running_pods(archive, given, 1) as (running,):
        yield running


def test_probes_and_health_check_pass(pod: Pod) -> None:
    server = containers()["catdog"]
    for kind in ("readinessProbe", "livenessProbe"):
        result = pod.run("catdog", server[kind]["exec"]["command"])
        assert result.returncode == 0, result.stderr
    assert pod.run("catdog", HEALTHCHECK).returncode == 0


def test_the_management_api_is_on_a_socket_alone(pod: Pod) -> None:
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{pod.ports['8081']}", timeout=10)
    shown = pod.run("catdog", ["catdog", "status"]).stdout
    assert "manage   curl --unix-socket " in shown


@needs_isolation
@pytest.mark.parametrize("container", ["catdog", "nginx"])
def test_a_container_may_write_to_its_volume_and_nowhere_else(pod: Pod, container: str) -> None:
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


def test_metrics_and_nothing_else_pass_on_the_metrics_port(pod: Pod) -> None:
    url = f"http://localhost:{pod.ports['9145']}"
    answer = requests.get(f"{url}/metrics", timeout=10)
    assert Scrape.parse(answer.text).total("ts_queue_latency_microseconds") > 0
    assert requests.post(f"{url}/metrics", timeout=10).status_code == 403
    for path in ("/", "/models", "/metrics/../models", "/predictions/catdog"):
        assert requests.get(url + path, timeout=10).status_code == 404


def test_its_hooks_end_it_with_0(pod: Pod) -> None:
    """Under load: tests/stress. (The last test of the module: its pod is gone then.)"""
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(pod.end, ("nginx", "catdog"))) == [0, 0]
