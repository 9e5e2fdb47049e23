"""One image for the page: asked of the server, and made small enough for a browser."""

import base64
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from threading import BoundedSemaphore

from PIL import Image

from catdog.decode import HTTP_FORMATS, format_name
from catdog.invalid_image import InvalidImage
from catdog.overlay import decode_to_draw, draw_map
from catdog.results import Explanation
from catdog.structure import detect_format
from catdog.transforms import encode_png, fit_size
from catdog_serving.client import CatDogClient
from catdog_serving.folder.backends import explain_content
from catdog_serving.folder.image_result import INVALID_IMAGE, UNREADABLE, ImageFailure, ImageResult
from catdog_serving.folder.read_image import read_file
from catdog_serving.image_formats import folder_decoder
from catdog_serving.ordered_map import ordered_map

LARGE_SIDE = 1280  # of an image shown alone, in pixels
SMALL_SIDE = 384  # of one in a gallery
_MAP_SIDE = 192  # of a map; the browser enlarges it smoothly

# Images under way at once, of all visitors together: two batches of one worker. A few
# visitors with 16 each would fill the server's queue by themselves.
CONCURRENCY = 16


@dataclass(frozen=True)
class ShownImage:
    """What the page shows of one file.

    Attributes:
        name: The file's.
        row: As of a folder run; its box is the whole image's.
        explanation: None for a file that failed.
        image, map: Data URIs; None for a file that failed.
    """

    name: str
    row: ImageResult
    explanation: Explanation | None
    image: str | None
    map: str | None

    @property
    def label(self) -> str:
        """ "cat", "dog", "neither" or "failed"."""
        return self.explanation.prediction.label if self.explanation else "failed"


class Images:
    """Asks one server for the images of every visitor; they share its memory and its turns.

    Args:
        client: Of the running server.
    """

    def __init__(self, client: CatDogClient) -> None:
        self._client = client
        self._decoder = folder_decoder()
        self._turns = BoundedSemaphore(CONCURRENCY)

    def show(self, paths: Iterable[Path], side: int) -> Iterator[ShownImage]:
        """Ask for each image, several at once, and give them in order.

        Args:
            paths: The files.
            side: The longer side of what is shown, in pixels.

        Raises:
            ServerError: If the server does not answer; a file that is refused is no error.
        """
        return ordered_map(lambda path: self._in_turn(path, side), paths, CONCURRENCY)

    def _in_turn(self, path: Path, side: int) -> ShownImage:
        with self._turns:
            return self._show(path, side)

    def _show(self, path: Path, side: int) -> ShownImage:
        file, content = read_file(path)
        file = replace(file, path=Path(path.name))
        if isinstance(content, ImageFailure) and not path.exists():
            content = ImageFailure(UNREADABLE, "the upload is too long ago; drop the image again")
        outcome: Explanation | ImageFailure
        if isinstance(content, ImageFailure):
            outcome = content
        else:
            outcome = _not_taken(content) or explain_content(self._client, content)
        if isinstance(content, bytes) and isinstance(outcome, Explanation):
            try:
                image = decode_to_draw(self._decoder, content, side)
            except InvalidImage as invalid:
                outcome = ImageFailure.refused(invalid.message)
        if isinstance(outcome, ImageFailure):
            return ShownImage(path.name, ImageResult(file, outcome), None, None, None)
        row = ImageResult(file, replace(outcome.prediction, box=outcome.box))
        return ShownImage(path.name, row, outcome, _image_uri(image), _map_uri(outcome))


def _not_taken(content: bytes) -> ImageFailure | None:
    """Refuses what only folders read: their decoders are too large a target for strangers."""
    name = detect_format(content)
    if name is None or name in HTTP_FORMATS:
        return None
    return ImageFailure(
        INVALID_IMAGE, f"the page does not take {format_name(name)}; save it as JPEG"
    )


def _image_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=82, method=2)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _map_uri(explanation: Explanation) -> str:
    """The map in colours, as transparent as it is low."""
    drawn = draw_map(explanation.map, fit_size(explanation.map.size, longer_side=_MAP_SIDE))
    return "data:image/png;base64," + base64.b64encode(encode_png(drawn)).decode()
