"""What a caller may give as an image, and what of it goes to a server."""

import errno
from os import PathLike
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from catdog.invalid_image import InvalidImage
from catdog.results import Explanation, Prediction
from catdog_serving.errors import InvalidImageError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

ImageSource: TypeAlias = (
    "str | PathLike[str] | bytes | bytearray | IO[bytes] | Image.Image | np.ndarray[Any, Any]"
)
Answer = TypeVar("Answer", Prediction, Explanation)

# An image that is uploaded is made smaller first if its shorter side is longer: four times
# the network's resize, so that the second resizing loses nothing that the first kept.
_UPLOAD_SHORTER_SIDE = 1024


def read_source(image: ImageSource) -> bytes:
    """The bytes of an image file that shows what the caller gave.

    Args:
        image: A path (`~` is the home folder), a file's bytes, an open binary file, a PIL image,
            or an array of shape (H, W, 3), RGB, uint8.

    Raises:
        OSError: If a path cannot be read.
        InvalidImageError: If the pixels of a PIL image or an array cannot be taken.
        TypeError: If it is something else.
    """
    if isinstance(image, str | PathLike):
        try:
            return Path(image).expanduser().read_bytes()
        except (ValueError, RuntimeError) as error:  # a NUL in it, or the home of nobody
            raise OSError(errno.EINVAL, str(error)) from error
    if isinstance(image, bytes | bytearray):
        return bytes(image)
    if hasattr(image, "read"):
        content = image.read()
        if not isinstance(content, bytes | bytearray):
            raise TypeError(f"the file gives {type(content).__name__}; open it in binary mode")
        return bytes(content)
    try:
        return _encode(image)
    except InvalidImage as error:
        raise InvalidImageError(error.message, kind="InvalidImage") from error


def unreadable(image: ImageSource, error: OSError) -> InvalidImageError:
    """What stands for an image of a stream that cannot be read."""
    named = image if isinstance(image, str | PathLike) else "an open file"
    return InvalidImageError(f"cannot read {named}: {error.strerror or error}", kind="Unreadable")


def _encode(image: "Image.Image | np.ndarray[Any, Any]") -> bytes:
    """A PIL image or an array as PNG, with the pixels that its own file would be classified by."""
    import numpy as np
    from PIL import Image

    from catdog.decode import to_upright_rgb
    from catdog.transforms import encode_png

    if isinstance(image, np.ndarray):
        _check_array(image)
        return encode_png(Image.fromarray(image))
    if isinstance(image, Image.Image):
        return encode_png(to_upright_rgb(image))
    raise TypeError(
        f"got a {type(image).__name__}; an image is a path, bytes, an open binary file, "
        "a PIL image, or a numpy array of shape (H, W, 3)"
    )


def _check_array(array: "np.ndarray[Any, Any]") -> None:
    from catdog.invalid_image import InvalidReason

    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != "uint8" or not array.size:
        raise InvalidImage(
            InvalidReason.WRONG_FORM,
            f"got an array of shape {array.shape} and type {array.dtype}; "
            "give RGB as (H, W, 3) and uint8, 0 to 255",
        )


class Upload(NamedTuple):
    """An image as it goes to the server.

    Attributes:
        content: The file's bytes, or a PNG.
        upload_size, own_size: Width and height upright, as uploaded and of the file itself, where
            they differ: boxes of the answer are in pixels of the first.
    """

    content: bytes
    upload_size: tuple[int, int] | None = None
    own_size: tuple[int, int] | None = None

    def in_own_pixels(self, answer: Answer) -> Answer:
        """The answer with its boxes and maps in pixels of the file's own image."""
        if self.upload_size is None or self.own_size is None:
            return answer
        if isinstance(answer, Explanation):
            return answer.scaled(self.own_size)
        return answer.scaled(self.upload_size, self.own_size)


def to_upload(content: bytes) -> Upload:
    """A file's content as the server takes it: HEIC, AVIF and TIFF as PNG, all else as it is.

    Raises:
        InvalidImage: If it is one of the former, and cannot be decoded here.
    """
    from catdog.decode import HTTP_FORMATS
    from catdog.structure import detect_format

    if detect_format(content) in (None, *HTTP_FORMATS):
        return Upload(content)

    from PIL import Image

    from catdog.transforms import encode_png, fit_size
    from catdog_serving.image_formats import folder_decoder, missing_decoder

    missing = missing_decoder(content)
    if missing:
        raise missing
    with folder_decoder().decoded(content) as (image, own_size):
        upload_size = fit_size(own_size, shorter_side=_UPLOAD_SHORTER_SIDE)
        if upload_size != own_size:
            image = image.resize(upload_size, Image.Resampling.BILINEAR)
        return Upload(encode_png(image), upload_size, own_size)
