"""The one worker: its queue, its thread, and the archive's own handler in it.

A batch leaves as soon as the handler is free: a lone request goes at once, and batches fill
while the one before them is computed. Only behind another batch does one that is not full wait
until its first request is `max_batch_delay_ms` old.
"""

import asyncio
import importlib
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from catdog_serving.asgi.http_server import NO_MEMORY, Answer
from catdog_serving.asgi.metrics import Metrics
from catdog_serving.asgi.settings import AsgiSettings

log = logging.getLogger(__name__)


LOST = Answer.error(500, "InternalServerException", "Worker died.")
FAILED = Answer.error(503, "InternalServerException", "Prediction failed")


@dataclass(eq=False)
class Job:
    """One request: what the handler calls a row, its headers, and who waits for the answer."""

    id: str
    row: dict[str, Any]
    headers: dict[str, str]
    answer: "asyncio.Future[Answer]"
    came: float = field(default_factory=time.perf_counter)


class BatchContext:
    """What the handler asks TorchServe's context for, of a batch or of the worker."""

    def __init__(self, jobs: Sequence[Job] = (), **of_worker: Any) -> None:
        self.statuses = [200] * len(jobs)
        self.headers: list[dict[str, str]] = [{} for _ in jobs]
        self._jobs = jobs
        self.__dict__ |= of_worker

    def get_request_id(self, index: int) -> str:
        return self._jobs[index].id

    def get_all_request_header(self, index: int) -> dict[str, str]:
        return self._jobs[index].headers

    def get_request_header(self, index: int, name: str) -> str | None:
        return self._jobs[index].headers.get(name.lower())

    def get_response_status(self, index: int) -> tuple[int, str]:
        return self.statuses[index], ""

    def set_response_status(self, code: int, phrase: str, index: int) -> None:
        self.statuses[index] = code

    def set_response_header(self, index: int, name: str, value: str) -> None:
        self.headers[index][name] = value

    def set_response_content_type(self, index: int, value: str) -> None:
        self.headers[index]["content-type"] = value


class Worker:
    """Loads the archive's handler and answers jobs in a thread of its own.

    Attributes:
        version: The archive's.
        overdue: Whether a batch takes longer than the response time-out.
    """

    def __init__(self, settings: AsgiSettings, metrics: Metrics) -> None:
        model = json.loads(Path(settings.model_dir, "MAR-INF/MANIFEST.json").read_text())["model"]
        self.name, self.version = str(model["modelName"]), str(model["modelVersion"])
        self.overdue = False
        self._settings = settings
        self._metrics = metrics
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._timer: asyncio.TimerHandle | None = None
        started = time.perf_counter()
        # By name: it is the archive's, which is first on this process's path.
        self._handler = importlib.import_module("catdog_handler").CatDogHandler()
        properties = {
            "model_dir": settings.model_dir,
            "gpu_id": settings.gpu_id,
            "batch_size": settings.batch_size,
        }
        self._handler.initialize(
            BatchContext(manifest={"model": model}, system_properties=properties, metrics=metrics)
        )
        self.id = str(self._handler.telemetry.worker)
        load_ms = (time.perf_counter() - started) * 1000
        metrics.add("WorkerLoadTime", load_ms, f"W-{self.id}-{self.name}_{self.version}", "Host")

    def start(self) -> None:
        threading.Thread(target=self._run, name="worker", daemon=True).start()

    @property
    def pending(self) -> int:
        return len(self._waiting)

    def facts(self) -> dict[str, Any]:
        """model.json, with the device and the worker's id."""
        describe = Job("", {}, {"describe": "True"}, asyncio.Future())
        facts: dict[str, Any] = json.loads(self._handler.handle([{}], BatchContext([describe]))[0])
        return facts

    def submit(self, job: Job) -> bool:
        """Let a job wait for its batch; False if the queue is full, or a batch is overdue."""
        with self._changed:
            if self.overdue or len(self._waiting) >= self._settings.job_queue_size:
                return False
            self._waiting.append(job)
            self._changed.notify()
        return True

    def drop(self, job: Job) -> None:
        """Forget a job that still waits: its client went away."""
        with self._changed, suppress(ValueError):
            self._waiting.remove(job)

    def _run(self) -> None:
        while True:
            if batch := self._next_batch():
                self._compute(batch)

    def _next_batch(self) -> list[Job]:
        """Empty if all that waited were dropped."""
        size = self._settings.batch_size
        with self._changed:
            is_behind_another = bool(self._waiting)
            while not self._waiting:
                self._changed.wait()
            due = self._waiting[0].came + self._settings.max_batch_delay_ms / 1000
            while is_behind_another and 0 < len(self._waiting) < size:
                if (left_s := due - time.perf_counter()) <= 0:
                    break
                self._changed.wait(left_s)
            return [self._waiting.popleft() for _ in range(min(size, len(self._waiting)))]

    def _compute(self, batch: list[Job]) -> None:
        loop = batch[0].answer.get_loop()
        began = time.perf_counter()
        loop.call_soon_threadsafe(self._watch, loop, batch)
        context = BatchContext(batch)
        try:
            bodies = self._handler.handle([job.row for job in batch], context)
            made = zip(context.statuses, context.headers, bodies, strict=True)
            answers = [Answer(*one) for one in made]
        except MemoryError:
            answers = [NO_MEMORY] * len(batch)
        except Exception:  # a bug, whatever it raises: the next batch may go well
            log.exception("a batch of %d failed", len(batch))
            answers = [FAILED] * len(batch)
        loop.call_soon_threadsafe(self._deliver, batch, answers, began)

    # --- in the event loop ----------------------------------------------------------------------

    def _watch(self, loop: asyncio.AbstractEventLoop, batch: list[Job]) -> None:
        """A thread cannot be ended: whoever watches /ping may restart a server that is overdue."""
        self._timer = loop.call_later(self._settings.response_timeout_s, self._expire, batch)

    def _expire(self, batch: list[Job]) -> None:
        """Answer the batch, and what waits behind it: TorchServe would begin anew by now."""
        with self._changed:
            self.overdue = True
            lost = [*batch, *self._waiting]
            self._waiting.clear()
        self._deliver(lost, [LOST] * len(lost), None)

    def _deliver(self, batch: list[Job], answers: list[Answer], began: float | None) -> None:
        """Answer those that have no answer yet; `began` is None while the handler goes on."""
        now = time.perf_counter()
        if began is not None and self._timer is not None:
            self._timer.cancel()
            self.overdue = False
            of_model = (self.name, self.version)
            for job in batch:
                self._metrics.add(
                    "ts_queue_latency_microseconds", (began - job.came) * 1e6, *of_model
                )
                self._metrics.add(
                    "ts_inference_latency_microseconds", (now - job.came) * 1e6, *of_model
                )
            self._metrics.add("QueueTime", (began - batch[0].came) * 1000, "Host")
            self._metrics.add("WorkerThreadTime", (now - began) * 1000, "Host")
            self._metrics.add("PredictionTime", (now - began) * 1000, self.name, "Model")
        for job, answer in zip(batch, answers, strict=True):
            if not job.answer.done():
                job.answer.set_result(answer)
