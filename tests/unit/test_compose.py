"""config/docker/compose.yaml says what the manifests say, and opens nothing that they keep closed.

tests/image runs it.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from catdog_serving.torchserve.properties import parse_properties
from tests.support.paths import ROOT

FOLDER = ROOT / "config" / "docker"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DEPLOYMENT = yaml.safe_load((ROOT / "config/kubernetes/base/deployment.yaml").read_text())
CONTAINERS = {c["name"]: c for c in DEPLOYMENT["spec"]["template"]["spec"]["containers"]}
GITIGNORE = (ROOT / ".gitignore").read_text()
# What an operator makes.
MADE = {"../nginx/api-keys.map", "../nginx/certificate.pem", "../nginx/certificate.key"}


def mounts(service: str) -> dict[str, str]:
    """Where each file or volume is mounted."""
    words = (volume.split(":") for volume in SERVICES[service].get("volumes", ()))
    return {word[0]: word[1] for word in words}


def test_what_is_mounted_is_there() -> None:
    files = {source for name in SERVICES for source in mounts(name) if source.startswith(".")}
    assert files > MADE
    missing = {source for source in files - MADE if not (FOLDER / source).is_file()}
    assert missing == set()
    named = {source for name in SERVICES for source in mounts(name)} - files
    assert named == set(COMPOSE["volumes"])


def test_what_an_operator_makes_is_neither_committed_nor_built_in() -> None:
    ignored = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    for path in MADE:
        pattern = re.sub(r"certificate\..*", "certificate.*", f"config/nginx/{Path(path).name}")
        assert f"/{pattern}" in GITIGNORE
        assert pattern in ignored
    assert "/config/docker/.env" in GITIGNORE
    assert "config/docker" in ignored


def test_only_nginx_is_open_to_others() -> None:
    ports = {name: s["ports"] for name, s in SERVICES.items() if "ports" in s}
    assert ports == {"pod": ["8443:8443"], "grafana": ["127.0.0.1:3000:3000"]}
    site = (FOLDER / mounted_on("nginx", "/opt/catdog/config/nginx/site.conf")).read_text()
    assert "listen 8443 ssl" in site


def mounted_on(service: str, place: str) -> str:
    (source,) = [source for source, target in mounts(service).items() if target == place]
    return source


def test_no_container_may_do_what_it_need_not() -> None:
    for name, service in SERVICES.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert ":latest" not in service["image"], name
    text = (FOLDER / "compose.yaml").read_text()
    assert re.findall(r"PASSWORD: (.*?)[:?]", text) == ["${GRAFANA_PASSWORD"]


def test_nginx_and_server_are_the_manifests() -> None:
    nginx = SERVICES["nginx"]
    assert nginx["entrypoint"] == CONTAINERS["nginx"]["command"]
    assert nginx["command"] == CONTAINERS["nginx"]["args"]
    assert {"entrypoint", "command"} & SERVICES["catdog"].keys() == set()
    for name, container in CONTAINERS.items():
        limit = container["resources"]["limits"]["memory"]
        assert SERVICES[name]["mem_limit"] == limit.removesuffix("i").lower()
        manifests = {m["mountPath"] for m in container["volumeMounts"]}
        files = {"/etc/edge/tls/tls.crt", "/etc/edge/tls/tls.key"}
        own = {"/etc/edge/tls" if path in files else path for path in mounts(name).values()}
        # The server waits for nginx's pid file in Kubernetes; Compose ends nginx first.
        assert own == manifests - ({"/run/edge"} if name == "catdog" else set())


def test_prometheus_reads_the_server_on_the_loopback_that_they_share() -> None:
    assert SERVICES["catdog"]["network_mode"] == SERVICES["prometheus"]["network_mode"]
    config = yaml.safe_load(
        (FOLDER / mounted_on("prometheus", "/etc/prometheus/prometheus.yml")).read_text()
    )
    (job,) = config["scrape_configs"]
    properties = parse_properties((ROOT / "config/config.properties").read_text())
    assert f"http://{job['static_configs'][0]['targets'][0]}" == properties["metrics_address"]
    assert {mounted_on("prometheus", f"/etc/prometheus/{f}") for f in config["rule_files"]}


def test_grafana_finds_prometheus_and_the_dashboard() -> None:
    provisioning = "/etc/grafana/provisioning"
    source = mounted_on("grafana", f"{provisioning}/datasources/catdog.yaml")
    (datasource,) = yaml.safe_load((FOLDER / source).read_text())["datasources"]
    # Of the service whose network Prometheus has, at its ordinary port.
    shared = SERVICES["prometheus"]["network_mode"].removeprefix("service:")
    assert datasource["url"] == f"http://{shared}:9090"
    providers = mounted_on("grafana", f"{provisioning}/dashboards/catdog.yaml")
    (provider,) = yaml.safe_load((FOLDER / providers).read_text())["providers"]
    (dashboard,) = [
        s for s, t in mounts("grafana").items() if t.startswith(provider["options"]["path"])
    ]
    assert (FOLDER / dashboard).resolve() == ROOT / "config/grafana/catdog.json"
