"""config/kubernetes and config/docker: valid, and their commands run as they stand.

No container engine and no cluster takes part: docs/containers.md says what that leaves open.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from catdog.results import ModelId
from catdog_serving.folder.merge import make_state
from catdog_serving.torchserve.serving_config import ServingConfig
from tests.support.isolation import give
from tests.support.paths import ROOT, SAMPLES
from tests.support.pods import KUBERNETES, Secrets, containers, manifest, pod_of
from tests.support.state_rows import image

CLUSTERS = ("1.31", "1.37")  # all between the two have what both have
KUBECTL = shutil.which("kubectl")


def kustomized(folder: str) -> list[dict[str, object]]:
    if KUBECTL is None:
        pytest.skip("kubectl, which brings kustomize, is not installed")
    result = subprocess.run(
        [KUBECTL, "kustomize", str(KUBERNETES / folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return list(yaml.safe_load_all(result.stdout))


@pytest.mark.parametrize(
    "path", sorted(p.relative_to(KUBERNETES).as_posix() for p in KUBERNETES.rglob("*.yaml"))
)
def test_a_manifest_is_valid(path: str) -> None:
    for document in yaml.safe_load_all((KUBERNETES / path).read_text()):
        if document["kind"] in ("Kustomization", "ServiceMonitor"):
            continue  # not Kubernetes' own: the two tests below
        if path == "gpu/deployment.yaml":
            continue  # a patch, not a whole object
        for cluster in CLUSTERS:
            kubernetes_validate.validate(document, cluster, strict=True)


@pytest.mark.parametrize("folder", ["base", "gpu", "folder-job"])
def test_what_kustomize_makes_is_valid(folder: str) -> None:
    made = kustomized(folder)
    for document in made:
        for cluster in CLUSTERS if document["kind"] != "ServiceMonitor" else ():
            kubernetes_validate.validate(document, cluster, strict=True)
    kinds = [document["kind"] for document in made]
    if folder != "folder-job":
        assert sorted(kinds) == [
            *("ConfigMap", "Deployment", "HorizontalPodAutoscaler", "Namespace", "NetworkPolicy"),
            *("PodDisruptionBudget", "Service", "Service", "ServiceMonitor"),
        ]


def test_the_gpu_overlay_asks_for_a_gpu_and_keeps_the_rest() -> None:
    made = next(d for d in kustomized("gpu") if d["kind"] == "Deployment")
    spec = made["spec"]["template"]["spec"]  # type: ignore[index]
    server, nginx = spec["containers"]
    assert server["resources"]["limits"] == {"cpu": "2", "memory": "10Gi", "nvidia.com/gpu": "1"}
    assert (server["image"], nginx["image"]) == ("catdog:1-gpu", "catdog:1-gpu")
    assert server["lifecycle"]
    assert nginx["lifecycle"]


def test_the_service_monitor_finds_the_metrics_service() -> None:
    """Its kind's schema is not in Kubernetes: what it refers to is what can be checked."""
    monitor = manifest("base/service-monitor.yaml")
    services = list(yaml.safe_load_all((KUBERNETES / "base/service.yaml").read_text()))
    (metrics,) = [
        service
        for service in services
        if service["metadata"].get("labels", {}).items()
        >= monitor["spec"]["selector"]["matchLabels"].items()
    ]
    ports = {port["name"] for port in metrics["spec"]["ports"]}
    assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= ports
    # The rules and the dashboard ask for that job.
    job = metrics["metadata"]["labels"][monitor["spec"]["jobLabel"]]
    prometheus = yaml.safe_load((ROOT / "config/prometheus/prometheus.yml").read_text())
    assert [job] == [scraped["job_name"] for scraped in prometheus["scrape_configs"]]


def test_the_autoscalers_metric_is_the_number_of_requests_that_wait(tmp_path: Path) -> None:
    """The adapter's rule as docs/containers.md has it, in a real Prometheus' own test."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("Prometheus is not installed (Debian's package: prometheus)")
    document = (ROOT / "docs/containers.md").read_text()
    (rule,) = yaml.safe_load(re.findall(r"```yaml\n(rules:\n.*?)```", document, re.DOTALL)[0])[
        "rules"
    ]
    (metric,) = manifest("base/autoscaler.yaml")["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
    query = rule["metricsQuery"]
    for name, value in {
        "Series": rule["seriesQuery"].partition("{")[0],
        "LabelMatchers": 'namespace="catdog",pod=~"a|b"',
        "GroupBy": "pod",
    }.items():
        query = query.replace(f"<<.{name}>>", value)
    records = [
        {"record": "found", "expr": f"count by (pod) ({rule['seriesQuery']})"},
        {"record": "asked", "expr": query},
    ]
    (tmp_path / "rules.yml").write_text(yaml.dump({"groups": [{"name": "x", "rules": records}]}))
    waited = 'ts_queue_latency_microseconds{namespace="catdog",pod="%s"}'
    test = {
        "interval": "15s",
        # Pod a: four requests wait at any time; b: none; a server outside: not asked for.
        "input_series": [
            {"series": waited % "a", "values": "0+60000000x20"},
            {"series": waited % "b", "values": "0x20"},
            {"series": "ts_queue_latency_microseconds", "values": "0+1x20"},
        ],
        "promql_expr_test": [
            {"expr": "found", "eval_time": "4m", "exp_samples": pod_values("found", 1, 1)},
            {"expr": "asked", "eval_time": "4m", "exp_samples": pod_values("asked", 4, 0)},
        ],
    }
    (tmp_path / "test.yml").write_text(yaml.dump({"rule_files": ["rules.yml"], "tests": [test]}))
    result = subprocess.run(
        [promtool, "test", "rules", tmp_path / "test.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def pod_values(name: str, *values: int) -> list[dict[str, object]]:
    pods = zip("ab", values, strict=True)
    return [{"labels": f'{name}{{pod="{pod}"}}', "value": value} for pod, value in pods]


def test_a_busy_or_restarting_server_is_never_killed() -> None:
    """TorchServe tries for 300 s to start a worker; a liveness probe must not cut in."""
    probe = containers()["catdog"]["livenessProbe"]
    assert probe["exec"]["command"] == ["catdog", "status"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 2 * 300
    assert "livenessProbe" not in containers()["nginx"]


def test_the_number_of_pods_is_the_autoscalers_alone() -> None:
    """A number in the Deployment would put them back to it with each apply."""
    assert "replicas" not in manifest("base/deployment.yaml")["spec"]
    assert manifest("base/autoscaler.yaml")["spec"]["minReplicas"] >= 2


def test_only_predictions_and_metrics_can_be_reached() -> None:
    services = list(yaml.safe_load_all((KUBERNETES / "base/service.yaml").read_text()))
    targets = {port["targetPort"] for service in services for port in service["spec"]["ports"]}
    ports = {p["name"] for c in containers().values() for p in c.get("ports", ())}
    assert targets == ports == {"https", "metrics"}
    assert ServingConfig.read(ROOT / "config" / "config.properties").is_loopback_only()
    confs = [path.read_text() for path in (ROOT / "config").rglob("*.conf")]
    assert not any("grpc" in conf or ":7070" in conf for conf in confs)
    policy = manifest("base/network-policy.yaml")["spec"]
    assert policy["egress"] == []
    assert {p["port"] for rule in policy["ingress"] for p in rule["ports"]} == {"https", "metrics"}


@pytest.mark.parametrize("name", ["base/deployment.yaml", "folder-job/job.yaml"])
def test_containers_may_do_nothing_that_they_need_not(name: str) -> None:
    spec = manifest(name)["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers(name).values():
        allowed = container["securityContext"]
        assert allowed["readOnlyRootFilesystem"] is True
        assert allowed["allowPrivilegeEscalation"] is False
        assert allowed["capabilities"] == {"drop": ["ALL"]}


def test_the_dockerfile_passes_its_linter() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    result = subprocess.run(
        [hadolint, ROOT / "config/docker/Dockerfile"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout


def test_the_job_does_its_part_of_a_folder_and_goes_on_with_it(
    archive: Path, tmp_path: Path
) -> None:
    """Two of the parts, one of them by two pods, of the samples and a file that is none."""
    (command,) = [container["command"] for container in containers("folder-job/job.yaml").values()]
    count = manifest("folder-job/job.yaml")["spec"]["completions"]
    assert f'/{count}"' in command[2]
    given = Secrets(tmp_path)
    seen = []
    with pod_of(archive, given) as pod:
        shutil.copytree(SAMPLES, pod.root / "images")
        (pod.root / "images" / "bad.png").write_bytes(b"no image")
        for index, pods in (("0", 2), ("4", 1)):
            for _ in range(pods):
                pod.start("catdog", command, "run/catdog", "results", JOB_COMPLETION_INDEX=index)
                assert pod.processes["catdog"].wait(timeout=120) == 0, pod.log("catdog")
            rows = (pod.root / "results" / f"shard-{index}.jsonl").read_text().splitlines()[1:]
            seen += [json.loads(row)["path"] for row in rows]
        state = pod.root / "results" / "shard-1.jsonl.catdog"
        make_state(state, ModelId("other", "ids", "fp32"), [image("/images/a.png")])
        give(state, 0o660)
        pod.start("catdog", command, "run/catdog", "results", JOB_COMPLETION_INDEX="1")
        refused = pod.processes["catdog"].wait(timeout=120)
        assert refused == 4, pod.log("catdog")  # which the podFailurePolicy knows
        assert len(seen) == len(set(seen)) > 0
        assert {Path(path).parent for path in seen} == {pod.root / "images"}
