"""What an operator watches: metrics, the log's lines, and the names in alerts and panels."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from tests.support.paths import ROOT
from tests.support.wire.api import REFUSED, REQUESTS
from tests.support.wire.worker import Request, Worker, bmp

CONFIG = ROOT / "config"
_EMITTED = re.compile(r"\[METRICS\](\w+)\.(\w+):[^|]*\|#([^|]*)\|")

# What is no metric's name in an expression: strings, matchers, ranges, functions, operators.
_NO_NAMES = re.compile(
    r'"[^"]*"|\{[^}]*\}|\[[^]]*\]|\w+ by \([^)]*\)|\w+(?=\()|\b(?:and|or|unless|\d\w*)\b'
)


def render_monitoring(tmp_path: Path) -> dict[str, str]:
    """The folder "monitoring"."""
    worker = Worker(tmp_path)
    rows = ({"body": bmp("lime")}, *REFUSED.values())
    worker.ask(*REQUESTS.values(), *map(Request, rows))
    return {
        "metrics.txt": metrics(worker.log),
        "log.txt": log(worker.log),
        "rules.txt": rules(),
        "dashboard.txt": dashboard(),
    }


def metrics(lines: list[str]) -> str:
    """What config/metrics.yaml declares, and what a worker really writes with which labels."""
    declared = yaml.safe_load((CONFIG / "metrics.yaml").read_text(encoding="utf-8"))
    text = ""
    for writer in ("ts_metrics", "model_metrics"):
        text += f"declared in {writer}:\n" + _sorted(
            f"  {kind:9}  {entry['name']}{{{', '.join(entry['dimensions'])}}}  {entry['unit']}"
            for kind, entries in declared[writer].items()
            for entry in entries
        )
    found = [match.groups() for line in lines if (match := _EMITTED.match(line))]
    return f"{text}written by a worker:\n" + _sorted(
        {f"  {name}{{{_labels(labels)}}}  {unit}" for name, unit, labels in found}
    )


def _labels(emitted: str) -> str:
    pairs = (pair.partition(":") for pair in emitted.split(",") if pair)
    return ", ".join(f'{name}="{value}"' for name, _, value in pairs)


def log(lines: list[str]) -> str:
    """A line per request, without its times."""
    shown = (line for line in lines if line.startswith("request="))
    return "".join(re.sub(r"=\d+\.\d\b", "=0.0", line) + "\n" for line in shown)


def rules() -> str:
    """The recorded metrics and the alerts, each with the metrics that it is computed from."""
    document = yaml.safe_load((CONFIG / "prometheus" / "rules.yml").read_text(encoding="utf-8"))
    found = [rule for group in document["groups"] for rule in group["rules"]]
    return _sorted(f"{_rule(rule)} <- {', '.join(sorted(_names(rule['expr'])))}" for rule in found)


def _rule(rule: dict[str, Any]) -> str:
    if "record" in rule:
        return f"record {rule['record']}"
    return f"alert {rule['alert']} ({rule['labels']['severity']}, for {rule.get('for', '0m')})"


def dashboard() -> str:
    """The metrics that the dashboard shows."""
    document = json.loads((CONFIG / "grafana" / "catdog.json").read_text(encoding="utf-8"))
    targets = [target for panel in document["panels"] for target in panel.get("targets", ())]
    return _sorted(set().union(*(_names(target["expr"]) for target in targets)))


def _names(expression: str) -> set[str]:
    """The metrics in a PromQL expression."""
    return set(re.findall(r"[a-zA-Z_][\w:]*", _NO_NAMES.sub(" ", expression)))


def _sorted(lines: Any) -> str:
    return "".join(f"{line}\n" for line in sorted(lines))
