"""The rules and the dashboard against a real Prometheus that scrapes a real server."""

import functools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests
import yaml

from catdog_serving.torchserve.private_config import free_ports
from catdog_serving.torchserve.properties import parse_properties
from catdog_serving.torchserve.server import TorchServe
from tests.support.paths import ROOT, SAMPLES
from tests.support.processes import wait_until
from tests.support.raw_requests import send_all

FOLDER = ROOT / "config" / "prometheus"
RULES = [
    rule
    for group in yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"]
    for rule in group["rules"]
]
RECORDS = {rule["record"]: rule["expr"] for rule in RULES if "record" in rule}
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
DASHBOARD = json.loads((ROOT / "config" / "grafana" / "catdog.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = {
    f"{panel['title']}-{target['refId']}": target["expr"]
    for panel in PANELS
    for target in panel["targets"]
}
EXPRESSIONS = QUERIES | {rule.get("record") or rule["alert"]: rule["expr"] for rule in RULES}

# The server declares it from the start, and writes its first sample with the first 5xx.
WITHOUT_SAMPLES = {"Requests5XX"}
_WORDS = {"by", "or", "unless", "and", "without", "on", "ignoring"}


@dataclass(frozen=True)
class Prometheus:
    url: str

    def get(self, path: str, **parameters: str) -> Any:
        answer = requests.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=10)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        result: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return result


@pytest.fixture(scope="module")
def tool() -> str:
    found = shutil.which("promtool")
    if found is None or shutil.which("prometheus") is None:
        pytest.skip("Prometheus is not installed (Debian's package: prometheus)")
    return found


@pytest.fixture(scope="module")
def prometheus(
    tool: str, server: TorchServe, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """Our configuration, but each second, and one alert that need not hold for 15 minutes.

    Half of the images that it sees the server answer are refused.
    """
    folder = tmp_path_factory.mktemp("prometheus")
    metrics = server.config.values["metrics_address"].removeprefix("http://")
    config = (FOLDER / "prometheus.yml").read_text()
    (folder / "prometheus.yml").write_text(
        config.replace("127.0.0.1:8082", metrics).replace("15s", "1s")
    )
    rules = (FOLDER / "rules.yml").read_text()
    (folder / "rules.yml").write_text(rules.replace("for: 15m", "for: 1s"))
    (port,) = free_ports(1)
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        running = Prometheus(f"http://127.0.0.1:{port}")
        wait_until(lambda: scraped(running), f"a scrape; the log is {log}")
        cat = (SAMPLES / "chelsea.png").read_bytes()
        send_all(server.config.inference_url, [(cat, {}), (b"junk", {})] * 8, 8)
        yield running
    finally:
        process.terminate()
        process.wait(30)


def scraped(prometheus: Prometheus) -> bool:
    """Whether it is up and has seen the server; at first it refuses, then answers 503."""
    try:
        if requests.get(f"{prometheus.url}/-/ready", timeout=10).status_code != 200:
            return False
    except requests.ConnectionError:
        return False
    return bool(prometheus.query('catdog_invalid_total and on (instance) up{job="catdog"} == 1'))


# --- as files -------------------------------------------------------------------------------


def test_promtool_accepts_configuration_and_rules_and_every_alert_fires_when_it_must(
    tool: str,
) -> None:
    for arguments in (("check", "config", "prometheus.yml"), ("test", "rules", "rules_test.yml")):
        result = subprocess.run(
            [tool, *arguments], cwd=FOLDER, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stdout + result.stderr
    tests = (FOLDER / "rules_test.yml").read_text()
    assert [name for name in ALERTS if f'alertname="{name}"' not in tests] == []
    assert [name for name in RECORDS if f"round({name}," not in tests] == []


def test_numbers_that_config_properties_owns_are_the_same_here() -> None:
    properties = parse_properties((ROOT / "config" / "config.properties").read_text())
    assert properties["metrics_mode"] == "prometheus"
    scrape = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"][0]
    (target,) = scrape["static_configs"][0]["targets"]
    assert properties["metrics_address"] == f"http://{target}"
    half = int(properties["job_queue_size"]) // 2
    assert ALERTS["CatdogSaturated"]["expr"].endswith(f"> {half}")


def test_an_alert_says_how_bad_it_is_and_where_its_runbook_is() -> None:
    for name, alert in ALERTS.items():
        assert alert["labels"]["severity"] in ("critical", "warning"), name
        assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}, name
        document, _, anchor = alert["annotations"]["runbook_url"].partition("#")
        headings = re.findall(r"^#+ (.+)$", (ROOT / document).read_text(), re.MULTILINE)
        assert anchor in [heading.lower().replace(" ", "-") for heading in headings], name


def test_the_dashboard_is_whole() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    assert [v["name"] for v in DASHBOARD["templating"]["list"]] == ["datasource", "instance"]
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not own & cells, f"{panel['title']} lies over another panel"
        assert place["x"] + place["w"] <= 24
        cells |= own
    for panel in PANELS:
        assert panel["description"]
        for part in (panel, *panel["targets"]):
            assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert all('instance=~"$instance"' in target["expr"] for target in panel["targets"])


# --- against the series of a real server ----------------------------------------------------


def test_names_and_labels_are_those_that_the_server_exports(
    prometheus: Prometheus, server: TorchServe
) -> None:
    address = server.config.values["metrics_address"]
    declared = re.findall(
        r"^# TYPE (\w+) ", requests.get(f"{address}/metrics", timeout=10).text, re.MULTILINE
    )
    for what, expression in EXPRESSIONS.items():
        names, labels = names_and_labels(expression)
        assert names, what
        known = {"instance", "job"}.union(
            *(labels_of(prometheus, name) for name in names - WITHOUT_SAMPLES)
        )
        assert names & WITHOUT_SAMPLES <= set(declared), what
        assert labels <= known, what


@functools.cache
def labels_of(prometheus: Prometheus, name: str) -> frozenset[str]:
    """The labels of a series, once it is there."""
    wait_until(lambda: prometheus.query(name) != [], name)
    return frozenset().union(*prometheus.get("series", **{"match[]": name}))


def names_and_labels(expression: str) -> tuple[set[str], set[str]]:
    """The names of series and of labels in a query."""
    text = re.sub(r'"[^"]*"', '""', substituted(expression))
    labels: set[str] = set()
    for inside in re.findall(r"\{(.*?)\}|\b(?:by|on|ignoring|without) *\((.*?)\)", text):
        labels |= set(re.findall(r"[a-zA-Z_]\w*", " ".join(inside)))
    bare = re.sub(r"\{.*?\}|\[.*?\]|\b(?:by|on|ignoring|without) *\(.*?\)|#.*", " ", text)
    identifiers = re.findall(r"(?<![\w.:])[a-zA-Z_][\w:]*(?![\w:]*\s*\()", bare)
    return set(identifiers) - _WORDS, labels


def test_names_and_labels_are_told_apart() -> None:
    query = 'sum by (a, b) (rate(x_total{c=~"d|e", f!="g{}"}[5m])) / on (h) (y:z > 1e6) or up # n'
    assert names_and_labels(query) == ({"x_total", "y:z", "up"}, {"a", "b", "c", "f", "h"})


def substituted(expression: str) -> str:
    """A dashboard's query with its variables as Grafana fills them in."""
    return expression.replace("$instance", ".+").replace("$__rate_interval", "5m")


def test_every_recording_rule_and_every_query_of_the_dashboard_has_a_value(
    prometheus: Prometheus,
) -> None:
    assert len(RECORDS) > 5
    assert len(QUERIES) > 20
    for expression in (*RECORDS, *map(substituted, QUERIES.values())):
        wait_until(lambda e=expression: finite(prometheus.query(e)), expression)  # type: ignore[misc]


def finite(result: list[dict[str, Any]]) -> bool:
    return bool(result) and all(sample["value"][1] not in ("NaN", "+Inf") for sample in result)


def test_every_rule_is_evaluated_without_an_error(prometheus: Prometheus) -> None:
    def evaluated() -> list[dict[str, Any]]:
        groups = prometheus.get("rules")["groups"]
        return [rule for group in groups for rule in group["rules"]]

    wait_until(lambda: all(rule["health"] != "unknown" for rule in evaluated()), "an evaluation")
    assert len(evaluated()) == len(RULES)
    errors = {rule["name"]: rule.get("lastError") for rule in evaluated()}
    assert errors == dict.fromkeys((*RECORDS, *ALERTS))


def test_refused_images_raise_their_alert_and_no_other(prometheus: Prometheus) -> None:
    def firing() -> dict[str, str]:
        alerts = prometheus.get("alerts")["alerts"]
        return {
            alert["labels"]["alertname"]: alert["annotations"]["summary"]
            for alert in alerts
            if alert["state"] == "firing"
        }

    wait_until(lambda: firing() != {}, "the alert")
    (name,) = firing()
    assert name == "CatdogInvalidImages"
    assert re.fullmatch(r"127\.0\.0\.1:\d+: [\d.]+% of images refused", firing()[name])
