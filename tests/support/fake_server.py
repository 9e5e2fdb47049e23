"""A stand-in for TorchServe's management and metrics ports."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from tests.support.http_servers import send

FACTS = {
    "network": "resnet152",
    "weights": "IMAGENET1K_V1",
    "untrained": False,
    "runtime": "onnx",
    "precision": "fp32",
    "device": "cpu",
    "engine": "onnxruntime",
    "computed_precision": "fp32",
}


def described(
    version: str = "1.0",
    workers: Mapping[str, str] = {"9000": "READY"},
    *,
    pid: int = -1,
    pending: int = 0,
    facts: Mapping[str, object] | None = None,
    gpu_ids: Mapping[str, int] = {},
) -> dict[str, object]:
    """A version as the describe API has it; its workers are states by their ids, and GPUs too."""
    return {
        "modelVersion": version,
        "batchSize": 8,
        "maxBatchDelay": 5,
        "responseTimeout": 2,
        "startupTimeout": 120,
        "workers": [
            {
                "id": id,
                "status": status,
                "pid": pid,
                "gpu": id in gpu_ids,
                "memoryUsage": 0,
                "gpuUsage": f"gpuId::{gpu_ids[id]} usage::see" if id in gpu_ids else "N/A",
            }
            for id, status in workers.items()
        ],
        "jobQueueStatus": {"remainingCapacity": 48, "pendingRequests": pending},
        "customizedMetadata": facts,
    }


def metrics(requests: int, answered: int, batches: int) -> str:
    """As a server writes it after some traffic: 0.2 s in the server each, half of it waiting."""
    slow = batches - batches // 2
    return f"""
ts_inference_requests_total{{model_name="catdog",hostname="h",}} {requests}
ts_inference_latency_microseconds{{model_name="catdog",hostname="h",}} {answered * 2e5}
ts_queue_latency_microseconds{{model_name="catdog",hostname="h",}} {answered * 1e5}
catdog_invalid_total{{reason="empty",version="1.0",Hostname="h",}} {answered / 4}
catdog_invalid_total{{reason="undecodable",version="1.0",Hostname="h",}} {answered / 4}
catdog_batch_pictures_count{{Hostname="h",}} {batches}
catdog_batch_pictures_sum{{Hostname="h",}} {answered}
catdog_stage_seconds_bucket{{stage="inference",Hostname="h",le="0.1",}} {batches // 2}
catdog_stage_seconds_bucket{{stage="inference",Hostname="h",le="0.25",}} {batches // 2 + slow}
catdog_stage_seconds_bucket{{stage="inference",Hostname="h",le="+Inf",}} {batches}
catdog_stage_seconds_sum{{stage="preprocess",Hostname="h",}} {batches * 0.02}
catdog_stage_seconds_sum{{stage="inference",Hostname="h",}} {batches * 0.1}
Requests2XX{{Level="Host",Hostname="h",}} {requests * 100}
"""


@dataclass
class FakeServer:
    """TorchServe's management and metrics ports in one; counts who asked for facts."""

    url: str = ""
    down: bool = False
    unloaded: bool = False
    pending: int = 0
    pid: int = -1
    state: str = "READY"
    text: str = metrics(50, 40, 10)
    facts_asked: int = field(default=0)
    gpu_ids: Mapping[str, int] = field(default_factory=dict)

    def answer(self, request: BaseHTTPRequestHandler, _: bytes) -> None:
        if self.down:
            send(request, 503, b"{}")
        elif self.unloaded:
            send(request, 404, b'{"code": 404, "type": "ModelNotFoundException", "message": ""}')
        elif request.path == "/metrics":
            send(request, 200, self.text.encode())
        else:
            self.facts_asked += "customized" in request.path
            entry = described(
                workers=dict.fromkeys(self.gpu_ids or ["9000"], self.state),
                pid=self.pid,
                pending=self.pending,
                facts=FACTS,
                gpu_ids=self.gpu_ids,
            )
            send(request, 200, json.dumps([entry]).encode())
