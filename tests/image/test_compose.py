"""config/docker/compose.yaml, run by podman-compose as far as there are images: server and nginx.

Those of Prometheus and Grafana could not be had. Their files are tried elsewhere
(tests/integration/test_prometheus.py), Grafana's are compared with what they refer to.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.containers import Container, Engine
from tests.support.isolation import USER
from tests.support.paths import SAMPLES
from tests.support.pods import Secrets
from tests.support.processes import wait_until

SERVICES = ("pod", "catdog", "nginx")


@pytest.fixture(scope="module")
def composed(engine: Engine, image: str, checkout: Path) -> Iterator[dict[str, Container]]:
    for name in ("api-keys.map", "certificate.key"):
        os.chown(checkout / "config" / "nginx" / name, USER, USER)
        (checkout / "config" / "nginx" / name).chmod(0o400)
    file = checkout / "config" / "docker" / "compose.yaml"
    compose = ("podman-compose", f"--podman-path={engine.wrapper}", f"--file={file}")
    secret = {"GRAFANA_PASSWORD": "unused"}
    try:
        engine.run(*compose, "up", "--detach", "--no-build", *SERVICES, timeout_s=300, **secret)
        names = engine.podman("ps", "--format", "{{.Names}}").stdout.split()
        found = {
            service: Container(engine, name, 0)
            for service in SERVICES
            for name in names
            if service in name.replace("-", "_").split("_")[1:]
        }
        wait_until(found["catdog"].is_healthy, "the server's health", timeout_s=180)
        yield found
    finally:
        engine.run(*compose, "down", "--volumes", check=False, timeout_s=120, **secret)


def test_the_edge_answers_on_its_published_port(
    composed: dict[str, Container], engine: Engine, given: Secrets
) -> None:
    enter = ("nsenter", f"--target={engine.holder}", "--net")
    key = ("--header", f"Authorization: Bearer {given.keys[1]}")
    ask = ("curl", "--silent", "--show-error", "--cacert", str(given.certificate), *key)
    url = "https://localhost:8443/predictions/catdog"
    answer = engine.run(*enter, *ask, "-T", str(SAMPLES / "chelsea.png"), url).stdout
    assert json.loads(answer)["label"]
