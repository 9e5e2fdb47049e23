"""Metrics text: Prometheus' text format, as far as TorchServe writes it.

https://prometheus.io/docs/instrumenting/exposition_formats/, version 0.0.4.
"""

import re
from collections import defaultdict
from dataclasses import dataclass

import requests

from catdog_serving.errors import ServerUnavailableError

_LABEL = r'([a-zA-Z_]\w*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(?:,\s*|(?=\}))'
_SAMPLE = re.compile(
    r"(?P<name>[a-zA-Z_:][\w:]*)\s*"
    rf"(?:\{{\s*(?P<labels>(?:{_LABEL})*)\}})?\s*"
    r"(?P<value>\S+)(?:\s+-?\d+)?"  # then maybe a time stamp
)
_LABELS = re.compile(_LABEL.replace(r"(?=\})", "$"))
_ESCAPES = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


@dataclass(frozen=True)
class Sample:
    """Value of one time series, which is a name with labels: one line."""

    name: str
    labels: dict[str, str]
    value: float


@dataclass(frozen=True)
class Metrics:
    """All samples of one scrape."""

    samples: tuple[Sample, ...]

    def total(self, name: str, **labels: str) -> float:
        """The sum over every sample of that name that has those labels; 0 if there is none."""
        return sum(
            sample.value
            for sample in self.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def buckets(self, name: str, **labels: str) -> dict[float, float]:
        """A histogram's cumulative counts by upper bound, the lowest first."""
        counts: dict[float, float] = defaultdict(float)
        for sample in self.samples:
            if sample.name == f"{name}_bucket" and labels.items() <= sample.labels.items():
                counts[float(sample.labels["le"])] += sample.value
        return dict(sorted(counts.items()))


def parse_metrics(text: str) -> Metrics:
    """Parse an answer of a metrics address.

    Raises:
        ValueError: If a line is neither a sample nor a comment.
    """
    return Metrics(
        tuple(
            _parse_sample(line)
            for line in text.split("\n")
            if line.strip() and not line.lstrip().startswith("#")
        )
    )


def scrape(session: requests.Session, url: str, timeout_s: float) -> Metrics:
    """Ask a metrics address.

    Raises:
        ServerUnavailableError: If nothing answers there, or something else than metrics.
    """
    try:
        response = session.get(f"{url.rstrip('/')}/metrics", timeout=timeout_s)
        response.raise_for_status()
        return parse_metrics(response.text)
    except (requests.RequestException, ValueError) as error:
        raise ServerUnavailableError(f"no metrics at {url}/metrics: {error}") from error


def _parse_sample(line: str) -> Sample:
    match = _SAMPLE.fullmatch(line.strip())
    if match is None:
        raise ValueError(f"this is no line of Prometheus' text format: {line!r}")
    labels = {
        name: re.sub(r"\\[\\\"n]", lambda escape: _ESCAPES[escape[0]], value)
        for name, value in _LABELS.findall(match["labels"] or "")
    }
    return Sample(match["name"], labels, float(match["value"]))
