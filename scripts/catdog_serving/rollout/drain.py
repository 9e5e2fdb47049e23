"""Wait until a version has nothing to do, before it goes: TorchServe itself would not."""

import time

from catdog_serving.errors import NotReadyError, ServerError
from catdog_serving.torchserve.management import ManagementClient, poll

# Requests that had looked up the old default when it changed are in its queue by then.
GRACE_S = 1.0
# Only requests that name the old version themselves can make a drain last that long.
DRAIN_TIMEOUT_S = 300.0
# Nobody will answer what waits for workers that are gone for so long: a worker that died is
# READY again within 10 s.
NO_WORKER_S = 30.0
_PAUSE_S = 0.2


def drain(management: ManagementClient, version: str) -> None:
    """Wait until a version that is not the default any more has nothing to do.

    DELETE does not wait: the batches under way are answered 500, and what is queued never.
    So first its queue is empty, and a second later again. That says nothing about the batches
    under way, so then each worker has to answer a question, which it does after its batch.

    Raises:
        NotReadyError: If it keeps getting requests.
    """
    last_ready = time.monotonic()
    empty_since: float | None = None

    def queue_stays_empty() -> bool:
        nonlocal last_ready, empty_since
        found = management.version(version)
        now = time.monotonic()
        if found and found.ready_workers:
            last_ready = now
        if not found or now - last_ready > NO_WORKER_S:
            return True
        if found.pending_requests:
            empty_since = None
            return False
        empty_since = empty_since or now
        return now - empty_since >= GRACE_S

    if not poll(queue_stays_empty, DRAIN_TIMEOUT_S, _PAUSE_S):
        raise NotReadyError(
            f"version {version} still gets requests after {DRAIN_TIMEOUT_S:g} s: clients "
            f"ask for /predictions/catdog/{version}, and must leave out the version"
        )
    _wait_for_batches(management, version)


def _wait_for_batches(management: ManagementClient, version: str) -> None:
    """Wait until each READY worker answered a question, at most as long as a batch may take."""
    found = management.version(version)
    if not found:
        return
    busy = {worker.id for worker in found.ready}
    timeout_s = found.response_timeout_s + GRACE_S

    def all_answered() -> bool:
        if not busy:
            return True
        try:
            facts = management.facts(version, timeout_s)
        except ServerError:
            # The worker died of its batch, or the server did, which the next line finds.
            current = management.version(version)
            busy.intersection_update(worker.id for worker in (current.ready if current else ()))
            return not busy
        busy.discard((facts or {}).get("worker", ""))
        return not busy

    poll(all_answered, timeout_s, _PAUSE_S)
