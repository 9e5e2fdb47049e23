"""The metrics that config/metrics.yaml declares, by the names and labels that TorchServe gives."""

import socket
from pathlib import Path

import yaml
from prometheus_client import CollectorRegistry, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import generate_latest

_HOST = socket.gethostname()


class Series:
    """One metric, as the handler adds to it."""

    def __init__(
        self, name: str, kind: str, labels: list[str], registry: CollectorRegistry
    ) -> None:
        self._names_host = labels[-1:] == ["hostname"]
        if not self._names_host and "Hostname" not in labels:
            labels = [*labels, "Hostname"]
        self._kind = kind
        # Counters are Gauges here, as Counter would add _total to TorchServe's names.
        of_kind = Histogram if kind == "histogram" else Gauge
        self._metric = of_kind(name, "catdog", labels, registry=registry)

    def add_or_update(self, value: float, dimensions: list[str]) -> None:
        """Add to a counter, set a gauge, or observe for a histogram."""
        child = self._metric.labels(*dimensions, _HOST)
        if isinstance(child, Histogram):
            child.observe(value)
        elif self._kind == "counter":
            child.inc(value)
        else:
            child.set(value)


class Metrics:
    """The metrics of one server; one that is not declared is dropped, as by TorchServe."""

    def __init__(self, declarations: Path) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        declared = yaml.safe_load(declarations.read_text(encoding="utf-8"))
        self._series = {
            entry["name"]: Series(entry["name"], kind, entry["dimensions"], self._registry)
            for group in ("ts_metrics", "model_metrics")
            for kind, entries in declared[group].items()
            for entry in entries
        }

    def get_metric(self, name: str, _: object = None) -> Series:
        """What the handler's telemetry asks for.

        Raises:
            KeyError: If it is not declared.
        """
        return self._series[name]

    def add(self, name: str, value: float, *dimensions: str) -> None:
        if name in self._series:
            self._series[name].add_or_update(value, list(dimensions))

    def text(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self._registry)
