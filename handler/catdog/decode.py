"""Bytes to an upright RGB image, safely: work, pixels, shape and memory are bounded.

    decoder = Decoder(Limits(max_pixels=52_000_000, max_aspect_ratio=20))
    image, full_size = decoder.decode(path.read_bytes())

Palette, grey and 16-bit images become 8-bit RGB, transparency goes over white, CMYK uses its
own colour profile, animations give their first frame, and the EXIF orientation is applied.
"""

import io
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import IO, NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageCms, ImageFile, UnidentifiedImageError

from catdog.memory_budget import DECODE_BYTES_PER_PIXEL, MemoryBudget, decoding_bytes
from catdog.structure import CutOff, Essentials, TooComplex, detect_format, essentials
from catdog.structure.exif import ORIENTATION_TAG

HTTP_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
# The decoders of these are too large a target for strangers' bytes. "HEIF" (HEIC) is one more
# where pillow-heif is installed.
FOLDER_FORMATS = (*HTTP_FORMATS, "TIFF", "AVIF")

# No CMYK profile in use is larger (ICC.1:2010, 7.2 and 7.3: header and number of tags first).
_MAX_PROFILE_BYTES = 4 << 20
_PROFILE_HEADER_BYTES = 132
_MAX_PROFILE_TAGS = 100  # as Little CMS has it

_RESTART_BYTES = 1 << 20  # between two of a JPEG's restart markers
# A progressive JPEG without an end marker is decoded twice up to so many pixels, and above only if
# it has at most a byte for each (photos have 0.1 to 0.6; noise has 2.9 and takes longest).
_MAX_COMPARED_PIXELS = 2_000_000
_OTHER_BITS = b"\x55\x2a" * 512  # in place of the zeros that libjpeg fills up with
_NAMES = {"WEBP": "WebP", "HEIF": "HEIC"}  # for people, where Pillow has another
_GREY_STEPS = {"L;2": (2, 85), "L;4": (4, 17)}  # a PNG's: bits, and 8-bit levels for each
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


class InvalidReason(StrEnum):
    """Why an image was refused; the names are stable, metrics count by them."""

    EMPTY = "empty"
    WRONG_FORM = "wrong_form"
    UNDECODABLE = "undecodable"
    TOO_MANY_PIXELS = "too_many_pixels"
    EXTREME_SHAPE = "extreme_shape"
    TOO_COMPLEX = "too_complex"
    CUT_OFF = "cut_off"
    UNSUPPORTED_FORMAT = "unsupported_format"


class InvalidImage(Exception):
    """This input cannot be classified. The one error that is the sender's fault.

    It is raised by `Decoder` and travels as a value after that, so that
    one bad image never disturbs its neighbours in a batch.
    """

    def __init__(self, reason: InvalidReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True)
class Limits:
    """The largest image that is decoded; checked before any pixel is.

    Attributes:
        max_pixels: Width times height.
        max_aspect_ratio: Longer side over shorter side.
    """

    max_pixels: int
    max_aspect_ratio: float


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
        self, data: bytes | bytearray, smallest_side: int | None = None
    ) -> Iterator[DecodedImage]:
        """Like `decode`; the image's memory counts as taken until the `with` ends."""
        with ExitStack() as stack:
            with self._invalid_image(len(data)):
                image, found = _open_essentials(data, self._formats)
                stack.enter_context(image)
                _check_size(image.size, self._limits)
                full_size = image.size
                if smallest_side is not None:
                    _scale_jpeg(image, smallest_side)
                needed = decoding_bytes(image, full_size, found.working_bytes)
                stack.enter_context(self._memory.reserve(min(needed, self._memory.total_bytes)))
                if found.lacks_end:
                    _check_rows(image, found, smallest_side)
                rgb = _apply_orientation(
                    image, _to_rgb(image)
                )  # a TIFF is turned when it is loaded
                decoded = DecodedImage(rgb, _upright_size(image, full_size))
            yield decoded

    @contextmanager
    def _invalid_image(self, size: int) -> Iterator[None]:
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
                raise InvalidImage(
                    InvalidReason.CUT_OFF,
                    "the image is cut off: its last rows are missing; send the whole file",
                ) from error
            # Pillow's decoders and the walk over the structure raise nearly every type there is
            # on broken files (OSError, SyntaxError, struct.error, IndexError, KeyError ...).
            raise InvalidImage(
                InvalidReason.UNDECODABLE,
                f"cannot decode {size} bytes as an image; send JPEG, PNG or WebP",
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
        return _apply_orientation(image, _to_rgb(image))
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


def _check_size(size: tuple[int, int], limits: Limits) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise InvalidImage(InvalidReason.UNDECODABLE, f"the image is {width} x {height} pixels")
    if width * height > limits.max_pixels:
        raise InvalidImage(
            InvalidReason.TOO_MANY_PIXELS,
            f"the image is {width} x {height} = {width * height} pixels, "
            f"at most {limits.max_pixels} are allowed; send a smaller one",
        )
    if max(size) > limits.max_aspect_ratio * min(size):
        raise InvalidImage(
            InvalidReason.EXTREME_SHAPE,
            f"the image is {width} x {height}, its longer side may be at most "
            f"{limits.max_aspect_ratio:g} times the shorter; crop it",
        )


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _grey16_to_rgb(image)
    if image.mode == "CMYK":
        return _cmyk_to_rgb(image)
    if image.mode == "F":
        raise InvalidImage(
            InvalidReason.UNDECODABLE,
            "the image has floating-point pixels, whose range is unknown; send 8-bit RGB",
        )
    is_keyed_png = image.format == "PNG" and "transparency" in image.info
    if is_keyed_png and isinstance(image, ImageFile.ImageFile) and image.tile and image.fp:
        kind = image.tile[0].args
        if kind == "RGB;16B":
            return _keyed_rgb16_to_rgb(image, image.fp)
        if kind in _GREY_STEPS:  # Pillow compares the key with levels of 8 bits
            bits, step = _GREY_STEPS[kind]
            image.info["transparency"] = (image.info["transparency"] & (1 << bits) - 1) * step
    if _has_empty_alpha(image):
        return image.convert("RGB")
    if image.has_transparency_data:
        if image.mode == "La":  # which Pillow converts to nothing else
            image = image.convert("LA")
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(rgba, mask=rgba)
        return white
    if image.mode == "RGB":  # `convert` would copy it
        image.load()
        return image
    return image.convert("RGB")


def _grey16_to_rgb(image: Image.Image) -> Image.Image:
    """16-bit grey to RGB by the high byte, as Pillow itself reads 16-bit RGB.

    Pillow's own `convert` would clip everything above 255 to white.
    """
    levels = np.asarray(image)  # (h, w), 0..65535
    if image.mode == "I" and (levels.min() < 0 or levels.max() > 0xFFFF):
        raise InvalidImage(InvalidReason.UNDECODABLE, "the image has 32-bit pixels; send 8-bit RGB")
    grey = (levels >> 8).astype(np.uint8)
    transparent_level = image.info.get("transparency")
    if transparent_level is not None:
        grey[levels == transparent_level] = 255
    return Image.fromarray(grey).convert("RGB")


def _has_empty_alpha(image: Image.Image) -> bool:
    """Whether it is a BMP whose alpha is 0 everywhere: written by programs that mean none by it."""
    is_bmp = image.format == "BMP" and image.mode == "RGBA"
    return is_bmp and image.getchannel("A").getextrema() == (0, 0)


def _keyed_rgb16_to_rgb(image: Image.Image, file: IO[bytes]) -> Image.Image:
    """A 16-bit RGB PNG whose pixels of one colour are transparent, over white.

    Pillow keeps the high bytes, and compares the low bytes of the colour with them; so its
    low bytes are decoded too.

    Args:
        image: Opened and not yet decoded.
        file: What it is read from.
    """
    key = np.array(image.info["transparency"], np.uint16)  # (3,)
    place = file.tell()
    file.seek(0)
    content = file.read()
    file.seek(place)
    high = np.array(image)  # (h, w, 3)
    with Image.open(io.BytesIO(content), formats=("PNG",)) as low:
        low.tile = [tile._replace(args="RGB;16L") for tile in low.tile]
        is_key = (np.asarray(low) == (key & 0xFF)).all(axis=2) & (high == (key >> 8)).all(axis=2)
    high[is_key] = 255
    return Image.fromarray(high)


def _cmyk_to_rgb(image: Image.Image) -> Image.Image:
    """CMYK inks to RGB, through the image's own colour profile where it has a usable one."""
    profile = image.info.get("icc_profile")
    if profile and _is_table_profile(profile):
        try:
            converted = ImageCms.profileToProfile(
                image,
                ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                ImageCms.createProfile("sRGB"),
                outputMode="RGB",
            )
        except (ImageCms.PyCMSError, OSError):
            converted = None  # a broken profile: the plain formula below is the best guess
        if converted is not None:
            return converted
    return image.convert("RGB")


def _is_table_profile(profile: bytes) -> bool:
    """Whether a profile's colours are looked up in tables, as those of every CMYK press are.

    Profiles of ICC.1:2010 may be programs of any length instead ("mpet", D2B and B2D).
    """
    if len(profile) < _PROFILE_HEADER_BYTES or len(profile) > _MAX_PROFILE_BYTES:
        return False
    (count,) = struct.unpack_from(">I", profile, _PROFILE_HEADER_BYTES - 4)
    if count > _MAX_PROFILE_TAGS:
        return False
    tags = profile[_PROFILE_HEADER_BYTES : _PROFILE_HEADER_BYTES + 12 * count]
    kinds = [  # a list: which of two tags of one name counts is for the library to choose
        (name, profile[at : at + 4])
        for name, at, _ in struct.iter_unpack(">4sII", tags[: len(tags) - len(tags) % 12])
    ]
    if any(kind == b"mpet" or name[:3] in (b"D2B", b"B2D") for name, kind in kinds):
        return False
    tables = [kind in (b"mft1", b"mft2", b"mAB ") for name, kind in kinds if name == b"A2B0"]
    return bool(tables) and all(tables)


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
