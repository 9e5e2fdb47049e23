"""Any mode of an opened image to 8-bit RGB: palettes, 16 bits, transparency, CMYK.

Transparency goes over white, and CMYK through the image's own colour profile if that is a table.
"""

import io
import struct
from typing import IO

import numpy as np
from PIL import Image, ImageCms, ImageFile

from catdog.invalid_image import InvalidImage, InvalidReason

# No CMYK profile in use is larger (ICC.1:2010, 7.2 and 7.3: header and number of tags first).
_MAX_PROFILE_BYTES = 4 << 20
_PROFILE_HEADER_BYTES = 132
_MAX_PROFILE_TAGS = 100  # as Little CMS has it

_GREY_STEPS = {"L;2": (2, 85), "L;4": (4, 17)}  # a PNG's: bits, and 8-bit levels for each


def to_rgb(image: Image.Image) -> Image.Image:
    """An opened image of any mode as 8-bit RGB, as it lies in the file.

    Raises:
        InvalidImage: If its pixels have no known range. Pillow, which decodes it here, raises more.
    """
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
