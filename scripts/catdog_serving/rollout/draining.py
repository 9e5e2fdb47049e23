"""Wait until a version of catdog has nothing to do any more, so that it can be removed.

DELETE does not wait: the batches under way are answered 500, and what is queued never.
"""

import time

from catdog_serving.errors import NotReadyError, ServerError
from catdog_serving.torchserve.management import ManagementClient, ModelStatus

# Requests that had looked up the old default when it changed are in its queue by then.
GRACE_S = 1.0
# Only requests that name the old version themselves can make a drain last that long.
DRAIN_TIMEOUT_S = 300.0
# Nobody will answer what waits for workers that are gone for so long: a worker that died is
# READY again within 10 s.
NO_WORKER_S = 30.0
_POLL_S = 0.2


def drain(management: ManagementClient, version: str) -> None:
    """Wait until a version that is not the default any more has nothing to do.

    First its queue is empty, and a second later again. That says nothing about the batches
    under way, so then each worker has to answer a question, which it does after its batch.

    Raises:
        NotReadyError: If it keeps getting requests.
    """
    last_ready = time.monotonic()
    deadline = last_ready + DRAIN_TIMEOUT_S
    empty_since: float | None = None
    while True:
        found = management.version(version)
        now = time.monotonic()
        if found and found.ready_workers:
            last_ready = now
        if not found or now - last_ready > NO_WORKER_S:
            return
        if found.pending_requests > 0:
            empty_since = None
        elif empty_since is None:
            empty_since = now
        elif now - empty_since >= GRACE_S:
            _wait_for_batches(management, found)
            return
        if now > deadline:
            raise NotReadyError(
                f"version {version} still gets requests after {DRAIN_TIMEOUT_S:g} s: clients "
                f"ask for /predictions/catdog/{version}, and must leave out the version"
            )
        time.sleep(_POLL_S)


def _wait_for_batches(management: ManagementClient, model: ModelStatus) -> None:
    """Wait until each READY worker answered a question, at most as long as a batch may take.

    Archives of catdog 0.1.0 do not say which worker answers; two workers of such a one are
    waited for as long as a batch may take.
    """
    busy = {worker.id for worker in model.ready}
    end = time.monotonic() + model.response_timeout_s + GRACE_S
    while busy and (left_s := end - time.monotonic()) > 0:
        try:
            facts = management.facts(model.version, timeout_s=left_s)
        except ServerError:
            # The worker died of its batch, or the server did, which the next line finds.
            current = management.version(model.version)
            busy &= {worker.id for worker in current.ready} if current else set()
            continue
        if facts is not None:
            busy.discard(facts.get("worker", next(iter(busy)) if len(busy) == 1 else ""))
        if busy:
            time.sleep(_POLL_S)
