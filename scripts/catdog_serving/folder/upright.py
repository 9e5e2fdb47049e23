"""Decode pictures for people to look at: upright, no larger than needed, in bounded memory."""

from PIL import Image

from catdog.memory_budget import MemoryBudget
from catdog.preprocess import (
    DECODE_BYTES_PER_PIXEL,
    Limits,
    decoding_bytes,
    opened_image,
    upright_rgb,
)
from catdog_serving.folder.picture_formats import folder_formats

# Where Pillow itself begins to warn. JPEG is decoded at an eighth of its size where that
# is enough, so that only other formats need much memory; they take turns for what one of
# the largest needs.
_LIMITS = Limits(max_pixels=89_000_000, max_aspect_ratio=1000)
_MEMORY_BYTES = _LIMITS.max_pixels * DECODE_BYTES_PER_PIXEL


class UprightReader:
    """Decodes for many threads; they share its memory."""

    def __init__(self) -> None:
        self._memory = MemoryBudget(_MEMORY_BYTES)

    def read(self, content: bytes, side: int) -> Image.Image:
        """Decode one picture.

        Args:
            content: The file's bytes, in any format that a folder may hold.
            side: In pixels; a large JPEG is decoded smaller, but no side below this.

        Returns:
            An upright RGB picture.

        Raises:
            InvalidImage: If it is not a picture within the limits.
        """
        with opened_image(content, _LIMITS, folder_formats()) as image:
            full_size = image.size
            image.draft(None, (side, side))
            with self._memory.reserve(decoding_bytes(image, full_size)):
                return upright_rgb(image)
