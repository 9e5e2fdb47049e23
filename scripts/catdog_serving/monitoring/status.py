"""What a running server says of itself, for a person and for JSON."""

from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from catdog.model_info import Agreement
from catdog.results import ModelId
from catdog_serving.torchserve.management import ModelStatus
from catdog_serving.torchserve.serving_config import ServingConfig


@dataclass(frozen=True)
class ServerStatus:
    """State of a server at one moment, as its management API has it.

    Attributes:
        url: Where it answers predictions.
        models: Its versions, the default first.
        facts: The default version's model.json, with "device"; None while no
            worker is READY, and if the queue was too full or too slow to ask.
        failure: While none is, the last line of the traceback that ended a worker.
    """

    url: str
    models: tuple[ModelStatus, ...]
    facts: dict[str, Any] | None
    failure: str | None

    @property
    def is_ready(self) -> bool:
        """Whether a prediction would be answered: a worker of the default version is READY."""
        return bool(self.models) and self.models[0].ready_workers > 0

    @property
    def model_line(self) -> str:
        """Network, weights, runtime and device in one line."""
        if self.facts is None and self.is_ready:
            return "not known while the queue is full"
        if self.facts is None:
            return "unknown until a worker is READY"
        line = (
            f"{ModelId.from_dict(self.facts).name}, "
            f"runtime {self.facts['runtime']} {self.facts['precision']} on {self.facts['device']}"
        )
        if self.facts["device"] == "cpu" and any(w.gpu for m in self.models for w in m.workers):
            line += " (a GPU was given and is not used: see the worker's log)"
        return line

    @property
    def agreement(self) -> Agreement | None:
        """With fp32, if the model is int8."""
        found = (self.facts or {}).get("agreement")
        return found and Agreement(**found)

    def to_dict(self) -> dict[str, Any]:
        facts = self.facts and {k: v for k, v in self.facts.items() if k != "categories"}
        return {
            "url": self.url,
            "ready": self.is_ready,
            "failure": self.failure,
            "versions": [asdict(model) for model in self.models],
            "model": facts,
        }


def print_status(status: ServerStatus, console: Console) -> None:
    """The model, then a row per version."""
    console.print(f"address  {status.url}", highlight=False, soft_wrap=True)
    console.print(f"model    {status.model_line}", highlight=False, soft_wrap=True)
    if status.agreement:
        console.print(f"int8     {status.agreement}", highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("version", "workers", "batch", "max delay", "queued", "queue free"):
        table.add_column(column, justify="left" if column == "version" else "right")
    for model in status.models:
        table.add_row(
            f"{model.version}{' (default)' if model.default else ''}",
            f"{model.ready_workers} of {len(model.workers)} READY",
            str(model.batch_size),
            f"{model.max_batch_delay_ms} ms",
            str(model.pending_requests),
            str(model.queue_free),
        )
    console.print(table)


def curl_line(config: ServingConfig, key_file: str | None, image: str) -> str:
    """The command to go on with; it carries the token where the server asks for one."""
    token = ""
    if key_file:
        token = f" -H \"Authorization: Bearer $(jq -r .inference.key '{key_file}')\""
    return f"curl -T {image}{token} {config.inference_url}/predictions/catdog"
