"""A request's body as the row that TorchServe would make of it: plain bytes, or a form's fields.

In memory and in one pass: a form is no larger than `max_request_size`, and has few fields.
"""

import re
from email.message import Message
from urllib.parse import parse_qsl

from catdog.structure import detect_format

_MAX_FIELDS = 16
_MAX_URL_ENCODED = 100_000  # bytes; no image is sent like that
_NAME = re.compile(rb'^content-disposition:[^\r\n]*?\bname="?([^"\r\n;]*)', re.I | re.M)


def to_row(body: bytearray, content_type: str) -> dict[str, bytes | bytearray]:
    """The fields of a form by name, the last of two of one name; else the body as "body".

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
    _, *parts = (b"\r\n" + body).split(b"\r\n--" + boundary, _MAX_FIELDS + 1)
    if not parts or not parts[-1].startswith(b"--"):
        return {}
    fields: dict[str, bytes | bytearray] = {}
    for part in parts[:-1]:
        head, _, content = part.partition(b"\r\n\r\n")
        if found := _NAME.search(head):
            fields[found[1].decode("latin-1")] = content
    return fields


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
