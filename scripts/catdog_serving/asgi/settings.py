"""What one server without Java runs on, passed from `catdog serve` to its process as JSON."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class AsgiSettings:
    """The values of one config.properties and its archive.

    Attributes:
        model_dir: The unpacked archive, whose code serves.
        model_url: The archive's file name, as the describe API has it.
        inference_address: http://HOST:PORT, like `metrics_address`.
        management_address: The same, or unix:/PATH.
        metrics_config: The file that declares the metrics.
        log_folder: Where access.log and model.log go.
        key_file: Where the tokens go, or None if none are wanted.
        token_expiration_min: Minutes that a token is good for.
        batch_size: Images of the largest batch.
        max_batch_delay_ms: How long a batch that is not full waits for more.
        job_queue_size: Requests that may wait; more are answered 503.
        max_request_size: The largest body, in bytes.
        response_timeout_s: How long a batch may take.
        startup_timeout_s: For the describe API alone.
        gpu_id: 0 for cuda:0; None for the CPU.
    """

    model_dir: str
    model_url: str
    inference_address: str
    management_address: str
    metrics_address: str
    metrics_config: str
    log_folder: str
    key_file: str | None
    token_expiration_min: float
    batch_size: int
    max_batch_delay_ms: int
    job_queue_size: int
    max_request_size: int
    response_timeout_s: int
    startup_timeout_s: int
    gpu_id: int | None

    @classmethod
    def read(cls, path: Path) -> "AsgiSettings":
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")
