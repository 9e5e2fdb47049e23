"""Bytes to pixels: decode a picture safely, then resize and crop it.

For upright 8-bit RGB pictures the pixels are bit-equal to torchvision's
`Resize(256)` + `CenterCrop(224)` on a PIL image; large JPEGs are decoded at a half,
a quarter or an eighth of their size first. Normalising is the runtime's work,
because it is cheaper inside the network's own graph.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from catdog.geometry import CenterCrop, center_crop
from catdog.structure import TooComplex, detect_format, essentials

HTTP_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
FOLDER_FORMATS = (
    *HTTP_FORMATS,
    "TIFF",
)  # TIFF's decoder is too large a target for strangers' bytes

# The most that decoding and turning takes at once: four copies at Pillow's 4 bytes a pixel
# (WebP; JPEG and PNG take one to three). Measured by tests/stress/test_decode_memory.py.
DECODE_BYTES_PER_PIXEL = 16

# A progressive JPEG keeps 2-byte coefficients of its three channels at full size, whatever
# size it is decoded to (libjpeg, jdcoefct.c).
_PROGRESSIVE_BYTES_PER_PIXEL = 6

# JPEG's scaled decoding is used only while the shorter side stays at least so many times
# the size that it is resized to: below, it shows in the masses.
_SCALED_DECODING_MARGIN = 2

_EXIF_ORIENTATION = 0x0112
_ORIENTATION = "catdog_orientation"  # in an image's `info`: found by `catdog.structure`
_UPRIGHT = {  # EXIF 2.32, tag 274: what makes a picture of this orientation upright
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
    """Why a picture was refused; the names are stable, metrics count by them."""

    EMPTY = "empty"
    WRONG_FORM = "wrong_form"
    UNDECODABLE = "undecodable"
    TOO_MANY_PIXELS = "too_many_pixels"
    EXTREME_SHAPE = "extreme_shape"
    TOO_COMPLEX = "too_complex"


class InvalidImage(Exception):
    """This input cannot be classified. The one error that is the sender's fault.

    It is raised by `decode_image` and travels as a value after that, so that
    one bad picture never disturbs its neighbours in a batch.
    """

    def __init__(self, reason: InvalidReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True)
class Limits:
    """The largest picture that is decoded; checked before any pixel is.

    Attributes:
        max_pixels: Width times height.
        max_aspect_ratio: Longer side over shorter side.
    """

    max_pixels: int
    max_aspect_ratio: float


@dataclass(frozen=True)
class Preprocessing:
    """The numbers of one set of weights, as torchvision's presets have them.

    Attributes:
        resize_size: The shorter side after resizing, in pixels.
        crop_size: The side of the square cut from the middle, in pixels.
        mean: Mean per channel (RGB) of pixels in [0, 1].
        std: Standard deviation per channel (RGB) of pixels in [0, 1].
    """

    resize_size: int
    crop_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        if not 0 < self.crop_size <= self.resize_size:
            raise ValueError(
                f"crop_size must be in 1..resize_size ({self.resize_size}), got {self.crop_size}"
            )


def decode_image(
    data: bytes | bytearray, limits: Limits, formats: Sequence[str] = HTTP_FORMATS
) -> Image.Image:
    """Decode a picture's bytes to an upright RGB image.

    Palette, grey and 16-bit pictures become 8-bit RGB, transparency goes over
    white, CMYK uses its own colour profile, animations give their first frame,
    and the EXIF orientation is applied.

    Args:
        data: The file's content.
        limits: Checked on the header, before the pixels are decoded.
        formats: Pillow's names of the formats to try.

    Returns:
        An image of mode RGB.

    Raises:
        InvalidImage: If the bytes are not a picture within the limits.
    """
    with opened_image(data, limits, formats) as image:
        return upright_rgb(image)


@contextmanager
def opened_image(
    data: bytes | bytearray, limits: Limits, formats: Sequence[str] = HTTP_FORMATS
) -> Iterator[Image.Image]:
    """Open a picture by its header alone; its pixels are decoded inside the `with`.

    Pillow is given only what makes the pixels (`catdog.structure`).
    `image.size` is known and within the limits, and nothing large is allocated yet.
    What Pillow raises inside the `with` becomes `InvalidImage` too.

    Raises:
        InvalidImage: If the bytes are not a picture within the limits.
    """
    if not data:
        raise InvalidImage(InvalidReason.EMPTY, "got no bytes; send the picture's bytes")
    try:
        with _open_essentials(data, formats) as image:
            _check_size(image.size, limits)
            yield image
    except InvalidImage:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InvalidImage(
            InvalidReason.TOO_MANY_PIXELS,
            f"the picture has more than the {limits.max_pixels} pixels allowed; send a smaller one",
        ) from error
    except TooComplex as error:
        raise InvalidImage(
            InvalidReason.TOO_COMPLEX,
            f"the picture takes too long to decode: {error}; save it again with another program",
        ) from error
    except Exception as error:
        # Only Pillow's decoders and the walk over the structure run above. On broken files they
        # raise nearly every type there is (OSError, SyntaxError, struct.error, MemoryError ...).
        raise InvalidImage(
            InvalidReason.UNDECODABLE,
            f"cannot decode {len(data)} bytes as an image; send JPEG, PNG or WebP",
        ) from error


def scale_large_jpeg(image: Image.Image, resize_size: int) -> None:
    """Have an opened large JPEG decoded smaller: its inverse DCT gives 1/2, 1/4 or 1/8 for less.

    Pictures whose shorter side is below four times `resize_size`, and other formats, stay
    as they are, bit for bit.

    Args:
        image: As `opened_image` gives it; its `size` becomes the smaller one.
        resize_size: The shorter side that it will be resized to, in pixels.
    """
    if image.format != "JPEG":
        return
    smallest = _SCALED_DECODING_MARGIN * resize_size
    for factor in (8, 4, 2):
        if min(image.size) >= factor * smallest:
            image.draft(None, (image.width // factor, image.height // factor))
            return


def decoding_bytes(image: Image.Image, full_size: tuple[int, int]) -> int:
    """The most memory that decoding an opened picture and turning it upright takes.

    Args:
        image: The picture, perhaps scaled.
        full_size: Width and height as its header has them.
    """
    needed = image.width * image.height * DECODE_BYTES_PER_PIXEL
    if image.size != full_size and "progressive" in image.info:
        needed += full_size[0] * full_size[1] * _PROGRESSIVE_BYTES_PER_PIXEL
    return needed


def upright_rgb(image: Image.Image) -> Image.Image:
    """Decode an opened picture into 8-bit RGB and turn it upright.

    It never holds more than `DECODE_BYTES_PER_PIXEL` a pixel at once.
    """
    return _apply_orientation(image, _to_rgb(image))


def preprocess_image(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    """Resize the shorter side, crop the middle.

    Args:
        image: An RGB image of any size.
        preprocessing: `resize_size` and `crop_size` are used.

    Returns:
        Pixels, uint8, shape (3, crop_size, crop_size), contiguous.
    """
    return cut_out(
        image, center_crop(image.size, preprocessing.resize_size, preprocessing.crop_size)
    )


def cut_out(image: Image.Image, crop: CenterCrop) -> np.ndarray:
    """Resize an RGB image and cut a square out: uint8, shape (3, side, side), contiguous."""
    resized = image.resize(crop.resized, Image.Resampling.BILINEAR)
    square = resized.crop((crop.left, crop.top, crop.left + crop.side, crop.top + crop.side))
    return to_pixels(square)


def to_pixels(image: Image.Image) -> np.ndarray:
    """An RGB image as the network takes it: uint8, shape (3, height, width), contiguous."""
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def upright_size(image: Image.Image, full_size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of a decoded picture when it is upright.

    Args:
        image: The picture, decoded: some formats have their EXIF after the pixels.
        full_size: Width and height as its header has them.
    """
    width, height = full_size
    return (height, width) if _UPRIGHT.get(_orientation(image)) in _TURNS_SIDEWAYS else full_size


def _open_essentials(data: bytes | bytearray, formats: Sequence[str]) -> Image.Image:
    name = detect_format(data)
    if name is None:  # no format of ours, but Pillow may have learned it from a plug-in (HEIF)
        return Image.open(io.BytesIO(data), formats=tuple({*formats} - {*FOLDER_FORMATS}))
    if name not in formats:
        raise UnidentifiedImageError(name)
    content, orientation = essentials(data, name)
    image = Image.open(io.BytesIO(content), formats=(name,))
    if name != "TIFF":  # whose orientation Pillow applies itself
        image.info[_ORIENTATION] = orientation
    return image


def _check_size(size: tuple[int, int], limits: Limits) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise InvalidImage(InvalidReason.UNDECODABLE, f"the picture is {width} x {height} pixels")
    if width * height > limits.max_pixels:
        raise InvalidImage(
            InvalidReason.TOO_MANY_PIXELS,
            f"the picture is {width} x {height} = {width * height} pixels, "
            f"at most {limits.max_pixels} are allowed; send a smaller one",
        )
    if max(size) > limits.max_aspect_ratio * min(size):
        raise InvalidImage(
            InvalidReason.EXTREME_SHAPE,
            f"the picture is {width} x {height}, its longer side may be at most "
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
            "the picture has floating-point pixels, whose range is unknown; send 8-bit RGB",
        )
    if image.has_transparency_data:
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
        raise InvalidImage(
            InvalidReason.UNDECODABLE, "the picture has 32-bit pixels; send 8-bit RGB"
        )
    grey = (levels >> 8).astype(np.uint8)
    transparent_level = image.info.get("transparency")
    if transparent_level is not None:
        grey[levels == transparent_level] = 255
    return Image.fromarray(grey).convert("RGB")


def _cmyk_to_rgb(image: Image.Image) -> Image.Image:
    """CMYK inks to RGB, through the picture's own colour profile where it has a usable one."""
    profile = image.info.get("icc_profile")
    if profile:
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


def _apply_orientation(source: Image.Image, rgb: Image.Image) -> Image.Image:
    """Turn `rgb` upright by the EXIF orientation of `source`."""
    transpose = _UPRIGHT.get(_orientation(source))
    return rgb if transpose is None else rgb.transpose(transpose)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; broken EXIF counts as upright."""
    if _ORIENTATION in image.info:
        return image.info[_ORIENTATION] or 1
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # Pillow's EXIF parser raises any type on garbage; the pixels are fine
        return 1
    return orientation if isinstance(orientation, int) else 1
