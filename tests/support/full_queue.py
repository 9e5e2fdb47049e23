"""Fill the queue of a server that takes three requests: one under way, two that wait."""

from concurrent.futures import Future, ThreadPoolExecutor

from catdog_serving.torchserve.server import TorchServe
from tests.support.processes import wait_until
from tests.support.raw_requests import Answer, send_one


def fill_queue(
    server: TorchServe, pool: ThreadPoolExecutor, image: bytes, headers: dict[str, str]
) -> list[Future[Answer]]:
    """Ask three times, while the worker is stopped.

    The third is sent when one of the others waits. Sent at once, two may be in the queue before
    the worker's thread has taken the first, and the third is refused: 4 of 150 times.
    """

    def ask() -> Future[Answer]:
        return pool.submit(send_one, server.config.inference_url, image, headers)

    asked = [ask(), ask()]
    wait_until(lambda: server.versions()[0].queue_free == 1, "a request that waits")
    asked.append(ask())
    wait_until(lambda: server.versions()[0].queue_free == 0, "a full queue")
    return asked
