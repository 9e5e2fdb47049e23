"""A request's body as the row that TorchServe would make of it: plain bytes, or a form's fields.

In memory and in one pass: a form is no larger than `max_request_size`, and has few fields.
"""

import re
from collections.abc import Iterator
from email.message import Message
from itertools import pairwise
from urllib.parse import parse_qsl

from catdog.structure import detect_format

_MAX_FIELDS = 16
_MAX_URL_ENCODED = 100_000  # bytes; no image is sent like that
_NAME = re.compile(rb'^content-disposition:[^\r\n]*?\bname="?([^"\r\n;]*)', re.I | re.M)


def to_row(body: bytearray, content_type: str) -> dict[str, bytes | bytearray]:
    """The fields of a form by name, the last of two of one name; else the body as "body".

    Nothing is copied of a form with one field: `body` is cut to it.

    A form that is broken, or has too many fields, has none. What curl's `--data-binary` calls a
    form is taken as the image that it begins as.
    """
    header = Message()
    header["content-type"] = content_type
    kind = header.get_content_type()
    if kind == "multipart/form-data" and isinstance(boundary := header.get_param("boundary"), str):
        return _multipart(body, boundary.encode("latin-1", "replace"))
    if kind == "application/x-www-form-urlencoded" and detect_format(body) is None:
        return _url_encoded(body)
    return {"body": body}


def _multipart(body: bytearray, boundary: bytes) -> dict[str, bytes | bytearray]:
    """The fields of a form; of one that is alone the body itself, cut to it."""
    places = dict(_places(body, b"--" + boundary))
    if len(places) == 1:
        ((name, (start, end)),) = places.items()
        del body[end:], body[:start]
        return {name: body}
    return {name: body[start:end] for name, (start, end) in places.items()}


def _places(body: bytearray, mark: bytes) -> Iterator[tuple[str, tuple[int, int]]]:
    """The name of each field, and where its content begins and ends; none of a broken form."""
    marks = [0] if body.startswith(mark) else []
    while len(marks) <= _MAX_FIELDS and (
        found := body.find(b"\r\n" + mark, marks[-1] + len(mark) if marks else 0)
    ) >= 0:  # fmt: skip
        marks.append(found + 2)
    if not marks or not body.startswith(b"--", marks[-1] + len(mark)):
        return
    for begin, following in pairwise(marks):
        start, end = body.find(b"\r\n\r\n", begin, following) + 4, following - 2
        if start >= 4 and (name := _NAME.search(body, begin, start)):
            yield name[1].decode("latin-1"), (start, max(start, end))


def _url_encoded(body: bytearray) -> dict[str, bytes | bytearray]:
    if len(body) > _MAX_URL_ENCODED:
        return {}
    try:
        return dict(_pairs(bytes(body)))
    except ValueError:
        return {}


def _pairs(text: bytes) -> list[tuple[str, bytes]]:
    fields = parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    return [(name.decode("latin-1"), value) for name, value in fields]
