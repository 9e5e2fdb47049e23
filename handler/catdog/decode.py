"""Bytes to an upright RGB image, safely: work, pixels, shape and memory are bounded.

    decoder = Decoder(Limits(max_pixels=52_000_000, max_aspect_ratio=20))
    image, full_size = decoder.decode(path.read_bytes())

Palette, grey and 16-bit images become 8-bit RGB, transparency goes over white, CMYK uses its
own colour profile, animations give their first frame, and the EXIF orientation is applied.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

from PIL import Image, ImageChops, UnidentifiedImageError

from catdog.invalid_image import InvalidImage, InvalidReason
from catdog.memory_budget import DECODE_BYTES_PER_PIXEL, MemoryBudget, decoding_bytes
from catdog.rgb_conversion import to_rgb
from catdog.structure import CutOff, Essentials, TooComplex, detect_format, essentials
from catdog.structure.exif import ORIENTATION_TAG

HTTP_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
# The decoders of these are too large a target for strangers' bytes. "HEIF" (HEIC) is one more
# where pillow-heif is installed.
FOLDER_FORMATS = (*HTTP_FORMATS, "TIFF", "AVIF")

_RESTART_BYTES = 1 << 20  # between two of a JPEG's restart markers
# A progressive JPEG without an end marker is decoded twice up to so many pixels, and above only if
# it has at most a byte for each (photos have 0.1 to 0.6; noise has 2.9 and takes longest).
_MAX_COMPARED_PIXELS = 2_000_000
_OTHER_BITS = b"\x55\x2a" * 512  # in place of the zeros that libjpeg fills up with
_NAMES = {"WEBP": "WebP", "HEIF": "HEIC"}  # for people, where Pillow has another
_ORIENTATION = "catdog_orientation"  # in an image's `info`: found by `catdog.structure`
_UPRIGHT = {  # EXIF 2.32, tag 274: what makes an image of this orientation upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TURNS_SIDEWAYS = {
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Limits:
    """The largest image that is decoded; checked before any pixel is.

    Attributes:
        max_pixels: Width times height.
        max_aspect_ratio: Longer side over shorter side.
    """

    max_pixels: int
    max_aspect_ratio: float

    def of_each(self, count: int) -> "Limits":
        """The limits of each of `count` images of one request: all have the pixels of two."""
        return replace(self, max_pixels=min(self.max_pixels, 2 * self.max_pixels // count))


# Those of config/model-config.yaml, for whoever has no archive's settings.
DEFAULT_LIMITS = Limits(max_pixels=52_000_000, max_aspect_ratio=20)
DEFAULT_MEMORY_BYTES = 1_000_000_000


class DecodedImage(NamedTuple):
    """An image as it was decoded.

    Attributes:
        image: Upright, mode RGB; a large JPEG perhaps smaller than it is.
        full_size: Width and height of the upright original.
    """

    image: Image.Image
    full_size: tuple[int, int]


class Decoder:
    """Decodes images for many threads, which share one budget of memory.

    Args:
        limits: The largest image; checked on the header, before the pixels are decoded.
        formats: Pillow's names of the formats to accept.
        memory: What all threads together may take, also those of other decoders that have the
            same budget; by default what one image of the largest size needs, so that large ones
            take turns.
    """

    def __init__(
        self,
        limits: Limits,
        formats: Sequence[str] = HTTP_FORMATS,
        memory: MemoryBudget | None = None,
    ) -> None:
        self._limits = limits
        self._formats = tuple(formats)
        self._memory = memory or MemoryBudget(limits.max_pixels * DECODE_BYTES_PER_PIXEL)

    def decode(self, data: bytes | bytearray, smallest_side: int | None = None) -> DecodedImage:
        """Decode an image and turn it upright; its memory does not count as taken any more.

        Args:
            data: The file's content.
            smallest_side: In pixels. A large JPEG is decoded at 1/2, 1/4 or 1/8 of its size,
                which costs less, as long as no side gets smaller than this; None: never.

        Raises:
            InvalidImage: If the bytes are not an image within the limits.
        """
        with self.decoded(data, smallest_side) as decoded:
            return decoded

    @contextmanager
    def decoded(
        self, data: bytes | bytearray, smallest_side: int | None = None, count: int = 1
    ) -> Iterator[DecodedImage]:
        """Like `decode`; the image's memory counts as taken until the `with` ends.

        Args:
            data, smallest_side: As of `decode`.
            count: Of how many images of one request it is one, see `Limits.of_each`.
        """
        with ExitStack() as stack:
            with self._invalid_image(data):
                image, found = _open_essentials(data, self._formats)
                stack.enter_context(image)
                _check_size(image.size, self._limits.of_each(count), count)
                full_size = image.size
                if smallest_side is not None:
                    _scale_jpeg(image, smallest_side)
                needed = decoding_bytes(image, full_size, found.working_bytes)
                stack.enter_context(self._memory.reserve(min(needed, self._memory.total_bytes)))
                if found.lacks_end:
                    _check_rows(image, found, smallest_side)
                # Its pixels first: a TIFF is turned when it is loaded.
                rgb = _apply_orientation(image, to_rgb(image))
                decoded = DecodedImage(rgb, _upright_size(image, full_size))
            yield decoded

    @contextmanager
    def _invalid_image(self, data: bytes | bytearray) -> Iterator[None]:
        """What the decoders raise inside the `with` becomes `InvalidImage`."""
        try:
            yield
        except InvalidImage:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise InvalidImage(
                InvalidReason.TOO_MANY_PIXELS,
                f"the image has more than the {self._limits.max_pixels} pixels allowed; "
                "send a smaller one",
            ) from error
        except TooComplex as error:
            raise InvalidImage(
                InvalidReason.TOO_COMPLEX,
                f"the image takes too long to decode: {error}; save it again with another program",
            ) from error
        except MemoryError:  # ours, not the sender's
            raise
        except Exception as error:
            if _is_cut_off(error):
                name = format_name(detect_format(data) or "image")
                raise InvalidImage(
                    InvalidReason.CUT_OFF,
                    f"the {name} is cut off: its last rows are missing; send the whole file",
                ) from error
            # Pillow's decoders and the walk over the structure raise nearly every type there is
            # on broken files (OSError, SyntaxError, struct.error, IndexError, KeyError ...).
            raise InvalidImage(
                InvalidReason.UNDECODABLE,
                f"cannot decode {len(data)} bytes as an image; send JPEG, PNG or WebP",
            ) from error


def format_name(name: str) -> str:
    """Pillow's name of a format, as people have it."""
    return _NAMES.get(name, name)


def to_upright_rgb(image: Image.Image) -> Image.Image:
    """An image that somebody else opened or made, as `Decoder` would give it.

    Args:
        image: Of any mode; its EXIF orientation is applied. Mode I is 16-bit grey.

    Raises:
        InvalidImage: If its pixels cannot be read, or have no known range (mode F).
    """
    try:
        return _apply_orientation(image, to_rgb(image))
    except (InvalidImage, MemoryError):
        raise
    except Exception as error:  # Pillow reads a file's pixels only now, and raises nearly anything
        raise InvalidImage(
            InvalidReason.UNDECODABLE, f"cannot read the pixels of the image: {error}"
        ) from error


def _is_cut_off(error: Exception) -> bool:
    """Whether a file ended too early, as the walks and Pillow say it."""
    return isinstance(error, CutOff) or (
        isinstance(error, OSError) and "truncated" in str(error).casefold()
    )


def _open_essentials(
    data: bytes | bytearray, formats: Sequence[str]
) -> tuple[Image.Image, Essentials]:
    """Open an image by its header alone, giving Pillow only what makes the pixels."""
    if not data:
        raise InvalidImage(InvalidReason.EMPTY, "got no bytes; send the image's bytes")
    name = detect_format(data)
    if name is None:
        raise UnidentifiedImageError("it begins as no image")
    if name not in formats:
        raise InvalidImage(
            InvalidReason.UNSUPPORTED_FORMAT,
            f"the image is {format_name(name)}, which is not read here; send JPEG, PNG or WebP",
        )
    found = essentials(data, name)
    image = Image.open(io.BytesIO(found.content), formats=(name,))
    if name != "AVIF":  # whose orientation Pillow makes of its items' properties
        image.info[_ORIENTATION] = found.orientation
    return image, found


def _check_rows(image: Image.Image, found: Essentials, smallest_side: int | None) -> None:
    """Refuse a JPEG without an end marker whose last rows are missing.

    libjpeg fills up what is missing with zeros, and Pillow does not hear of it: the rows are all
    there if other bits behind the last ones change no pixel.

    Args:
        image: Opened, and to be decoded smaller as `smallest_side` allows.
        found: Its parts; all of its scans have begun.
        smallest_side: As of `Decoder.decode`.
    """
    content = bytes(found.content[:-2])
    tail = content[-_RESTART_BYTES:]
    restarts = {tail.rfind(bytes((0xFF, 0xD0 + number))): number for number in range(8)}
    last = max(restarts)  # behind a whole interval only the next number is read on
    restart = bytes((0xFF, 0xD0 + (restarts[last] + 1) % 8 if last >= 0 else 0xD0))
    other_end = _OTHER_BITS + restart + _OTHER_BITS + b"\xff\xd9"
    with Image.open(io.BytesIO(content + other_end), formats=("JPEG",)) as other:
        pixels = other.width * other.height
        if found.working_bytes and len(content) > pixels > _MAX_COMPARED_PIXELS:
            return  # it would take twice as long as any other
        if smallest_side is not None:
            _scale_jpeg(other, smallest_side)
        if ImageChops.difference(image, other).getbbox() is not None:
            raise CutOff("other bits behind its last ones change pixels")


def _scale_jpeg(image: Image.Image, smallest_side: int) -> None:
    """Have an opened large JPEG decoded smaller: its inverse DCT gives 1/2, 1/4 or 1/8 for less."""
    if image.format != "JPEG":
        return
    for factor in (8, 4, 2):
        if min(image.size) >= factor * smallest_side:
            image.draft(None, (image.width // factor, image.height // factor))
            return


def _upright_size(image: Image.Image, full_size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of a decoded image when it is upright.

    Args:
        image: The image, decoded: some formats have their EXIF after the pixels.
        full_size: Width and height as its header has them.
    """
    width, height = full_size
    return (height, width) if _UPRIGHT.get(_orientation(image)) in _TURNS_SIDEWAYS else full_size


def _check_size(size: tuple[int, int], limits: Limits, count: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise InvalidImage(InvalidReason.UNDECODABLE, f"the image is {width} x {height} pixels")
    if width * height > limits.max_pixels:
        of_many = f" with {count} in a request" if count > 2 else ""
        raise InvalidImage(
            InvalidReason.TOO_MANY_PIXELS,
            f"the image is {width} x {height} = {width * height} pixels, "
            f"at most {limits.max_pixels} are allowed{of_many}; send a smaller one",
        )
    if max(size) > limits.max_aspect_ratio * min(size):
        raise InvalidImage(
            InvalidReason.EXTREME_SHAPE,
            f"the image is {width} x {height}, its longer side may be at most "
            f"{limits.max_aspect_ratio:g} times the shorter; crop it",
        )


def _apply_orientation(source: Image.Image, rgb: Image.Image) -> Image.Image:
    """Turn `rgb` upright by the EXIF orientation of `source`."""
    transpose = _UPRIGHT.get(_orientation(source))
    return rgb if transpose is None else rgb.transpose(transpose)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; broken EXIF counts as upright."""
    if _ORIENTATION in image.info:
        return image.info[_ORIENTATION] or 1
    try:
        orientation = image.getexif().get(ORIENTATION_TAG)
    except Exception:  # Pillow's EXIF parser raises any type on garbage; the pixels are fine
        return 1
    return orientation if isinstance(orientation, int) else 1
