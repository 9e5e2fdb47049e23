"""`catdog autoscale`: take a snapshot, decide, change the number of workers, say why; without end.

TorchServe's own `maxWorkers` does not scale by itself. What is decided is the policy's
(autoscale_policy.py); how workers come and go without losing a request is the caller's.
"""

import time
from collections.abc import Callable
from datetime import datetime

from catdog.cpu import usable_cores
from catdog_serving.errors import CatDogError, ServerError
from catdog_serving.monitoring.status import Snapshot, take_snapshots
from catdog_serving.rollout.autoscale_policy import Decision, Load, Policy
from catdog_serving.rollout.autoscale_settings import PolicySettings
from catdog_serving.rollout.switch import available_bytes
from catdog_serving.torchserve.server import TorchServe

_HEARTBEAT_S = 60.0


class Autoscaler:
    """Follows one server.

    Args:
        policy: Decides.
        change: Brings the server to that many workers and returns when they are READY; what
            it cannot finish it undoes, and raises.
        on_step: Gets each line.
        dry_run: Decide and report, but change nothing.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        policy: Policy,
        change: Callable[[int], object],
        on_step: Callable[[str], None],
        *,
        dry_run: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policy = policy
        self._change = change
        self._on_step = on_step
        self._dry_run = dry_run
        self._clock = clock
        self._is_away = False
        self._was_warned = False
        self._told_s: dict[str, float] = {}  # when a line of that kind was last told

    def act_on(self, snapshot: Snapshot | ServerError) -> None:
        """Decide on what one snapshot shows, and carry it out."""
        if isinstance(snapshot, ServerError):
            self._away(snapshot)
            return
        if self._is_away:
            self._is_away = False
            self._say("the server is back")
        if not self._was_warned and snapshot.status.facts:
            self._was_warned = True
            for warning in warnings(snapshot, self._policy.settings):
                self._say(f"warning: {warning}")
        load = load_of(snapshot)
        if isinstance(load, str):
            self._policy.forget()
            self._say_once_a_minute(load, f"waiting: {load}")
            return
        workers = len(snapshot.status.models[0].workers)
        decision = self._policy.decide(load, workers, self._clock())
        if decision.workers == workers:
            self._say_once_a_minute("steady", f"{_count(workers)}: {decision.reason}")
        else:
            self._carry_out(decision, workers)

    def _carry_out(self, decision: Decision, workers: int) -> None:
        words = f"scale {workers} -> {decision.workers}: {decision.reason}"
        if self._dry_run:
            self._say_once_a_minute(f"{workers} -> {decision.workers}", f"would {words}")
            return
        self._say(words)
        start_s = self._clock()
        try:
            self._change(decision.workers)
        except CatDogError as error:
            self._say(f"not scaled: {_one_line(error)}")
            self._policy.failed(self._clock())
        else:
            self._say(f"{_count(decision.workers)} READY after {self._clock() - start_s:.1f} s")
            self._policy.applied(decision.workers - workers, self._clock())

    def _away(self, error: ServerError) -> None:
        self._policy.forget()
        if not self._is_away:
            self._is_away = True
            self._say(f"the server is away, waiting for it: {_one_line(error)}")

    def _say_once_a_minute(self, kind: str, line: str) -> None:
        now_s = self._clock()
        if now_s - self._told_s.get(kind, -_HEARTBEAT_S) >= _HEARTBEAT_S:
            self._told_s[kind] = now_s
            self._say(line)

    def _say(self, line: str) -> None:
        self._on_step(f"{datetime.now().isoformat(timespec='seconds')} {line}")


def autoscale(
    server: TorchServe,
    policy: Policy,
    change: Callable[[int], object],
    on_step: Callable[[str], None],
    *,
    interval_s: float,
    dry_run: bool,
) -> None:
    """Follow a server until the process is told to end; `change` undoes what it cannot finish."""
    scaler = Autoscaler(policy, change, on_step, dry_run=dry_run)
    for snapshot in take_snapshots(server, interval_s):
        scaler.act_on(snapshot)


def load_of(snapshot: Snapshot) -> Load | str:
    """The load of one snapshot, or why nothing can be said or done now."""
    if snapshot.rates is None:
        return "measuring"
    if not snapshot.status.models:
        return "catdog is not loaded; see: catdog status"
    default, *others = snapshot.status.models
    loaded = [model.version for model in others if model.workers]
    if loaded:
        return f"version {', '.join(loaded)} is loaded beside {default.version}, as in a deploy"
    if default.ready_workers < len(default.workers):
        return f"{default.ready_workers} of {len(default.workers)} workers are READY"
    images = snapshot.rates.batch_images
    return Load(
        requests_per_s=snapshot.rates.requests_per_s,
        answers_per_s=snapshot.rates.answers_per_s,
        busy_workers=snapshot.rates.busy_workers,
        batch_fill=images and images / default.batch_size,
        queue_s=snapshot.rates.queue_s,
        waiting=default.pending_requests,
    )


def warnings(snapshot: Snapshot, settings: PolicySettings) -> list[str]:
    """What an operator should know before the load comes."""
    found = []
    workers = [worker for model in snapshot.status.models for worker in model.workers]
    more = settings.max_workers - len(workers)
    each, left = max(snapshot.memory_bytes.values(), default=0), available_bytes()
    if more * each > left:
        found.append(
            f"--max {settings.max_workers} is more than memory allows: {more} more workers take "
            f"about {more * each / 1e9:.1f} GB, and {left / 1e9:.1f} GB is free; choose a smaller "
            "--max, or free memory"
        )
    cores = usable_cores()
    threads = (snapshot.status.facts or {}).get("threads", 1)
    if settings.max_workers * threads > cores and not any(worker.gpu for worker in workers):
        what_to_do = f"choose a --max of up to {cores}"
        if settings.max_workers <= cores:
            what_to_do = (
                f"with threads: auto, set maxWorkers to {settings.max_workers} in "
                "config.properties, by which they are shared out, and restart the server"
            )
        found.append(
            f"--max {settings.max_workers} workers with a thread count of {threads} share this "
            f"machine's {cores} cores, and more of them answer hardly more; {what_to_do}"
        )
    return found


def _count(workers: int) -> str:
    return f"{workers} worker{'' if workers == 1 else 's'}"


def _one_line(error: CatDogError) -> str:
    return " ".join(str(error).split())
