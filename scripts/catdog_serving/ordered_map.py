"""Ordered map: run a function over a stream in threads, with the results in its order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], concurrency: int
) -> Iterator[Result]:
    """Like `map`, but `concurrency` calls are under way at once.

    Items are taken as they are needed: at most twice `concurrency` are started or
    finished and not yet given out, so that one slow call does not stop the others,
    and memory does not depend on the stream's length.

    Whatever ends it early (an exception of `function`, `close`, Ctrl-C) cancels the
    calls that have not begun, and waits for none.
    """
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="ordered-map")
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= 2 * concurrency:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
