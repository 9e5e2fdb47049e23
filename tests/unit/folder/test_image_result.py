"""What a row says of a file that was refused."""

import pytest
from PIL import Image

from catdog.decode import Limits
from catdog.invalid_image import InvalidImage
from catdog_serving.folder.image_result import INVALID_IMAGE, ImageFailure
from tests.support.images import decode_image, encode, noise


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (encode(noise(), "JPEG")[:-3000], "the JPEG is cut off: its last rows are missing"),
        (b"hello, world", "cannot decode 12 bytes as an image"),
        (
            encode(Image.new("RGB", (200, 301)), "PNG"),
            "the image is 200 x 301 = 60200 pixels, at most 60000 are allowed",
        ),
        (
            encode(Image.new("F", (4, 4)), "TIFF"),
            "the image has floating-point pixels, whose range is unknown",
        ),
    ],
    ids=["empty", "cut off", "text", "too large", "numbers"],
)
def test_who_has_the_file_is_not_told_to_send_another(content: bytes, said: str) -> None:
    with pytest.raises(InvalidImage, match="; send ") as raised:
        decode_image(content, Limits(60_000, 20), ("JPEG", "PNG", "TIFF"))
    assert ImageFailure.refused(raised.value.message) == ImageFailure(INVALID_IMAGE, said)
