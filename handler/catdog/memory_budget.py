"""Bound what many threads take together: small images side by side, large ones in turn."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition

from PIL import Image

# The most that decoding and turning takes at once: four copies at Pillow's 4 bytes a pixel
# (WebP; JPEG and PNG take one to three). Measured by tests/stress/test_decode_memory.py.
DECODE_BYTES_PER_PIXEL = 16


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


def decoding_bytes(image: Image.Image, full_size: tuple[int, int], working_bytes: int) -> int:
    """The most memory that decoding an opened image and turning it upright takes.

    Args:
        image: The image, perhaps scaled.
        full_size: Width and height as its header has them.
        working_bytes: What its decoder takes beside the pixels; at full size a JPEG's is less
            than what `DECODE_BYTES_PER_PIXEL` allows for.
    """
    needed = image.width * image.height * DECODE_BYTES_PER_PIXEL
    fits = image.format == "JPEG" and image.size == full_size
    return needed if fits else needed + working_bytes
