"""config/kubernetes and config/docker: valid, and their commands run as they stand.

No container engine and no cluster takes part: docs/operations.md says what that leaves open.
"""

import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from catdog_serving.operate.serving_config import ServingConfig
from tests.conftest import ROOT, SAMPLES
from tests.pods import HEALTHCHECK, KUBERNETES, Pod, containers, hook, manifest, running_pod

CLUSTER = "1.34"
KUBECTL = shutil.which("kubectl")
CAT = (SAMPLES / "chelsea.png").read_bytes()
RATE_PER_S = 12  # one worker answers 50 and more
ENDPOINTS_S = 2.0  # until every Service has heard of a pod's end; the hook waits for 5


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
        kubernetes_validate.validate(document, CLUSTER, strict=True)


@pytest.mark.parametrize("folder", ["base", "gpu", "folder-job"])
def test_what_kustomize_makes_is_valid(folder: str) -> None:
    made = kustomized(folder)
    for document in made:
        if document["kind"] != "ServiceMonitor":
            kubernetes_validate.validate(document, CLUSTER, strict=True)
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
    assert server["resources"]["limits"] == {"cpu": "2", "memory": "7Gi", "nvidia.com/gpu": "1"}
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


def test_only_predictions_and_series_can_be_reached() -> None:
    services = list(yaml.safe_load_all((KUBERNETES / "base/service.yaml").read_text()))
    targets = {port["targetPort"] for service in services for port in service["spec"]["ports"]}
    ports = {p["name"] for c in containers().values() for p in c.get("ports", ())}
    assert targets == ports == {"https", "metrics"}
    assert ServingConfig.read(ROOT / "config" / "config.properties").is_loopback_only()
    policy = manifest("base/network-policy.yaml")["spec"]
    assert policy["egress"] == []
    assert {p["port"] for rule in policy["ingress"] for p in rule["ports"]} == {"https", "metrics"}


@pytest.mark.parametrize("name", ["base/deployment.yaml", "folder-job/job.yaml"])
def test_containers_may_do_nothing_that_they_need_not(name: str) -> None:
    spec = manifest(name)["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
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
    """Its command line, with the folder of samples for /pictures, in every part."""
    (command,) = [c["command"] for c in containers("folder-job/job.yaml").values()]
    count = manifest("folder-job/job.yaml")["spec"]["completions"]
    assert f'/{count}"' in command[2]
    pod = Pod(tmp_path / "pod", archive)
    pictures, results = tmp_path / "pictures", tmp_path / "results"
    results.mkdir()
    shutil.copytree(SAMPLES, pictures)
    (pictures / "bad.png").write_bytes(b"no picture")
    mapped = [
        word.replace("/pictures", str(pictures)).replace("/results", str(results))
        for word in command
    ]
    seen = []
    for index in range(0, count, 4):  # a start takes 3 s: two of the parts
        exported = [mapped[0], mapped[1], f"export JOB_COMPLETION_INDEX={index}; {mapped[2]}"]
        for _ in range(2):
            result = pod.run(exported, timeout_s=120)
            assert result.returncode == 0, result.stderr
        lines = (results / f"shard-{index}.jsonl").read_text().splitlines()[1:]
        seen += [re.findall(r'"path":"([^"]+)"', line)[0] for line in lines]
    assert len(seen) == len(set(seen))
    assert all(path.startswith(str(pictures)) for path in seen)


def test_a_pod_that_ends_under_load_loses_no_request(archive: Path, tmp_path: Path) -> None:
    """Two pods; the hooks of one run as they stand, and the Service hears of it 2 s later."""
    with running_pod(tmp_path / "a", archive) as old, running_pod(tmp_path / "b", archive) as new:
        for pod in (old, new):
            readiness = containers()["catdog"]["readinessProbe"]["exec"]["command"]
            assert pod.run(readiness).returncode == 0
            assert pod.run(HEALTHCHECK).returncode == 0
        endpoints = [old]
        answers: list[tuple[Pod, int]] = []
        stop = threading.Event()
        clients = [
            threading.Thread(target=_ask, args=(endpoints, number, answers, stop))
            for number in range(RATE_PER_S)
        ]
        for client in clients:
            client.start()
        try:
            time.sleep(3)
            hooks = [
                threading.Thread(target=_end, args=(old, name)) for name in ("nginx", "catdog")
            ]
            for each in hooks:
                each.start()
            time.sleep(ENDPOINTS_S)
            endpoints[0] = new
            for each in hooks:
                each.join(timeout=60)
            time.sleep(2)
        finally:
            stop.set()
            for client in clients:
                client.join(timeout=60)
        assert [old.processes[name].poll() for name in ("nginx", "catdog")] == [0, 0]
    statuses = [status for _, status in answers]
    shares = [sum(pod is one for pod, _ in answers) for one in (old, new)]
    print(f"\n{len(answers)} requests, {shares[0]} to the pod that ended, {shares[1]} after it")
    assert min(shares) > RATE_PER_S
    assert set(statuses) == {200}


def _ask(
    endpoints: list[Pod], number: int, answers: list[tuple[Pod, int]], stop: threading.Event
) -> None:
    """One request a second on a connection of its own, and no second try."""
    while not stop.wait(1):
        pod = endpoints[0]
        request = urllib.request.Request(
            f"{pod.url}/predictions/catdog",
            CAT,
            {"Authorization": f"Bearer {pod.key[:-1]}{number:x}", "Content-Type": "image/png"},
        )
        context = ssl.create_default_context(cafile=str(pod.certificate))
        try:
            with urllib.request.urlopen(request, timeout=60, context=context) as answer:
                answers.append((pod, answer.status))
        except urllib.error.HTTPError as error:
            answers.append((pod, error.code))
        except OSError:
            answers.append((pod, 0))


def _end(pod: Pod, name: str) -> None:
    """What the kubelet does with a container: its preStop hook, then SIGTERM."""
    assert pod.run(hook(name), timeout_s=120).returncode == 0
    pod.processes[name].send_signal(signal.SIGTERM)
    pod.processes[name].wait(timeout=60)
