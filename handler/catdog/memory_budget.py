"""Bound what many threads take together: small images side by side, large ones in turn."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class MemoryBudget:
    """A number of bytes that threads reserve parts of, and wait for.

    Waiting threads are served in any order; a reservation that fits at once may
    pass a larger one that waits.

    Attributes:
        total_bytes: All there is.
    """

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        self._free = total_bytes
        self._changed = Condition()

    @contextmanager
    def reserve(self, size: int) -> Iterator[None]:
        """Hold `size` bytes inside the `with`, after waiting until they are free.

        Raises:
            ValueError: If it is more than there will ever be.
        """
        if size > self.total_bytes:
            raise ValueError(f"cannot reserve {size} bytes of {self.total_bytes}")
        with self._changed:
            self._changed.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            with self._changed:
                self._free += size
                self._changed.notify_all()
