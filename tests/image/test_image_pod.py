"""The image as config/kubernetes runs it: both containers in one network, with the mounts, limits,
probes and hooks of deployment.yaml."""

import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.containers import Container, Engine, options_of
from tests.support.isolation import USER
from tests.support.paths import SAMPLES
from tests.support.pods import KUBERNETES, Secrets, containers, hook
from tests.support.processes import wait_until

CAT = SAMPLES / "chelsea.png"
GB = 1e9


@dataclass(frozen=True)
class Pod:
    server: Container
    nginx: Container
    certificate: Path

    def ask(self, key: str, path: str = "/predictions/catdog") -> str:
        authorized = ("--header", f"Authorization: Bearer {key}")
        trusted = ("--cacert", self.certificate)
        return self.server.curl(*trusted, *authorized, "-T", CAT, f"https://localhost:8443{path}")


@pytest.fixture(scope="module")
def volumes(given: Secrets, engine: Engine) -> dict[str, Path]:
    """The manifest's volumes, as the kubelet makes them for an fsGroup."""
    folder = engine.folder / "volumes"
    shutil.rmtree(folder, ignore_errors=True)
    found = {name: folder / name for name in ("run", "edge", "site", "api-keys", "tls")}
    for path in found.values():
        path.mkdir(parents=True)
    shutil.copy(KUBERNETES / "base" / "site.conf", found["site"])
    shutil.copy(given.folder / "api-keys.map", found["api-keys"])
    for name in ("tls.crt", "tls.key"):
        shutil.copy(given.folder / name, found["tls"])
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 0, USER)
        path.chmod(0o2777 if path in (found["run"], found["edge"]) else 0o750)
    for file in (path for path in folder.rglob("*") if path.is_file()):
        file.chmod(0o640)
    return found


@pytest.fixture(scope="module")
def pod(
    engine: Engine, image: str, given: Secrets, volumes: dict[str, Path], figures: dict[str, str]
) -> Iterator[Pod]:
    server, nginx = containers().values()
    first = options_of(server, volumes)
    second = options_of(nginx, volumes)
    shared = "--network=container:pod-server"
    with engine.running("pod-server", "--network=none", *first, image) as started:
        figures["healthy in a pod after"] = f"{started.wait_healthy():.1f} s"
        with engine.running("pod-nginx", shared, *second, image, *nginx["args"]) as edge:
            wait_until((volumes["edge"] / "nginx.pid").exists, f"nginx: {edge.log}")
            yield Pod(started, edge, given.certificate)


def test_its_probes_pass(pod: Pod) -> None:
    for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = containers()["catdog"][kind]["exec"]["command"]
        result = pod.server.run(*probe)
        assert result.returncode == 0, result.stdout + result.stderr


def test_nginx_lets_a_key_through_and_no_other(pod: Pod, given: Secrets) -> None:
    assert json.loads(pod.ask(given.keys[0]))["label"]
    assert json.loads(pod.ask("0" * 64))["code"] == 401
    assert json.loads(pod.ask(given.keys[0], "/models"))["code"] == 404


def test_metrics_are_on_their_port(pod: Pod) -> None:
    shown = pod.server.curl("http://localhost:9145/metrics")
    assert "\nts_queue_latency_microseconds" in shown


def test_each_container_has_what_the_manifest_allows(pod: Pod) -> None:
    for container, name in ((pod.server, "catdog"), (pod.nginx, "nginx")):
        status = container.run("cat", "/proc/1/status").stdout
        assert f"\nUid:\t{USER}\t" in status
        assert "\nCapBnd:\t0000000000000000\n" in status
        assert "\nNoNewPrivs:\t1\n" in status
        assert "Read-only file system" in container.run("touch", "/tmp/written").stderr
        limit = containers()[name]["resources"]["limits"]["memory"]
        found = container.control_group("memory.max", "memory.limit_in_bytes")
        assert found == int(limit[:-2]) * 1024 ** {"Gi": 3, "Mi": 2}[limit[-2:]]


def test_its_memory_stays_below_what_the_manifest_asks_for(
    pod: Pod, figures: dict[str, str]
) -> None:
    """After 200 images, four at a time; the limit is nearly twice as much."""
    urls = ["http://127.0.0.1:8080/predictions/catdog"] * 50
    many = [word for url in urls for word in ("-T", str(CAT), url)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: pod.server.curl(*many), range(4)))
    assert "".join(answers).count('"label"') == 200
    peak = pod.server.control_group("memory.peak", "memory.max_usage_in_bytes")
    figures["peak memory of the server"] = f"{peak / GB:.2f} GB after 200 images"
    edge = pod.nginx.control_group("memory.peak", "memory.max_usage_in_bytes")
    figures["peak memory of nginx"] = f"{edge / GB:.3f} GB"
    asked = containers()["catdog"]["resources"]["requests"]["memory"]
    assert peak < int(asked.removesuffix("Gi")) * 1024**3


def test_its_hooks_end_it_with_0(pod: Pod, figures: dict[str, str]) -> None:
    """Both at once, as the kubelet does. (The last test of the module: its pod is gone then.)"""

    def end(container: Container, name: str) -> tuple[int, float]:
        container.run(*hook(name), timeout_s=120)  # nginx's end takes its hook along
        return container.end()

    with ThreadPoolExecutor(2) as pool:
        ends = list(pool.map(end, (pod.nginx, pod.server), ("nginx", "catdog")))
    assert [code for code, _ in ends] == [0, 0], pod.server.log + pod.nginx.log
    figures["SIGTERM to the end in a pod"] = f"{ends[1][1]:.1f} s"
