"""JSON requests: images in base64 by each shape, and what hostile clients send instead."""

import base64
import json
from collections.abc import Iterator
from typing import Any

JSON = {"Content-Type": "application/json"}


def text_of(image: bytes | bytearray | str) -> str:
    """base64; a text stays what it is."""
    return image if isinstance(image, str) else base64.b64encode(image).decode()


def one(image: bytes | bytearray | str) -> bytes:
    return json.dumps({"data": text_of(image)}).encode()


def v1(*images: bytes | bytearray | str) -> bytes:
    return json.dumps({"instances": [{"data": text_of(image)} for image in images]}).encode()


def v2(*images: bytes | bytearray | str, **changed: Any) -> bytes:
    """`changed` are the tensor's values; those of the document are `id` and `parameters`."""
    document = {name: changed.pop(name) for name in ("id", "parameters") if name in changed}
    data = [text_of(image) for image in images]
    tensor = {"name": "images", "shape": [len(data)], "datatype": "BYTES"}
    return json.dumps(document | {"inputs": [tensor | {"data": data} | changed]}).encode()


def hostile(image: bytes | bytearray) -> Iterator[tuple[str, bytes, str]]:
    """Name, body, and what is said of it: each a 400, whatever it costs to read."""
    few = "more lists, objects or texts"
    not_base64 = "an image is not base64"
    good = text_of(image)
    yield "no JSON", b"hello", "cannot be read"
    yield "half of it", one(image)[:-2], "cannot be read"
    yield "depth 100,000", b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}", few
    yield "depth 200", b"[" * 200 + b"]" * 200, "is no object"
    yield "1,000,000 elements", b'{"instances":[' + b"1," * 1_000_000 + b"1]}", few
    yield "1,000,000 keys", b"{" + b'"":1,' * 1_000_000 + b'"data":""}', few
    yield "26 MB of lists", b"[" + b"[]," * 8_700_000 + b"[]]", few
    yield "26 MB of open lists", b"[" * 26_000_000, few
    yield "26 MB of spaces", b" " * 26_000_000, "cannot be read"
    yield "26 MB of backslashes", b'{"data":"' + b"\\" * 26_000_000 + b'"}', not_base64
    yield "26 MB of escapes", b'{"data":"' + b"\\u0041" * 4_300_000 + b'!"}', not_base64
    yield (
        "26 MB, one of them wide",
        b'{"data":"' + b"A" * 26_000_000 + "\N{CAT}".encode() + b'"}',
        not_base64,
    )
    yield "25 MB of id", v2(image, id="x" * 25_000_000), "the id is no text"
    yield "a number of 26 MB", b'{"data":' + b"1" * 26_000_000 + b"}", "no text in base64"
    yield "a fraction of 26 MB", b'{"data":0.' + b"1" * 26_000_000 + b"}", "no text in base64"
    yield "1e999999", b'{"data":1e999999}', "no text in base64"
    yield "NaN", b'{"data":NaN}', "NaN is no JSON"
    yield "no UTF-8", b'{"data":"\xff\xfe"}', "cannot be read"
    yield "UTF-16", '{"data":""}'.encode("utf-16"), "cannot be read"
    yield "a key twice", f'{{"data":"{good}","data":"{good}"}}'.encode(), "a key twice"
    yield "two shapes", f'{{"data":"{good}","instances":[]}}'.encode(), "data and instances"
    yield "neither", b'{"image":"AAAA"}', "got JSON with none of data, instances, inputs"
    yield "a list", b"[]", "is no object"
    yield "null", b'{"data":null}', "no text in base64"
    yield "a list for a text", json.dumps({"data": [good]}).encode(), "no text in base64"
    yield "garbage in base64", one(good[:100] + "!" + good[100:]), not_base64
    yield "base64 on lines", one(good[:76] + "\n" + good[76:]), not_base64
    yield "base64 without its padding", one("iVBORw0"), not_base64
    yield "base64 with more behind it", one("iVBORw0=iVBO"), not_base64
    yield "base64 for URLs", one("_-_-"), not_base64
    yield "a data URL", one("data:image/png;base64," + good), not_base64
    yield "half a surrogate pair", b'{"data":"\\ud800"}', not_base64
    yield "v1, no list", b'{"instances":{"data":"AAAA"}}', "instances is no list"
    yield "v1, 0 images", v1(), "instances has 0"
    yield "v1, 17 images", v1(*[image] * 17), "instances has 17, and not 1 to 16 images"
    yield (
        "v1, two in one",
        json.dumps({"instances": [{"data": good, "b64": good}]}).encode(),
        "no text in base64",
    )
    yield "v2, 0 images", v2(), "data has 0"
    yield "v2, 17 images", v2(*[image] * 17), "data has 17"
    yield "v2, no tensor", b'{"inputs":[]}', "no list of one tensor"
    yield "v2, two tensors", b'{"inputs":[{},{}]}', "no list of one tensor"
    yield "v2, FP32", v2(image, datatype="FP32"), "'FP32' and not 'BYTES'"
    yield "v2, UINT8", v2(image, datatype="UINT8"), "'UINT8' and not 'BYTES'"
    yield "v2, half a pair for a type", v2(image, datatype="\ud800"), "'\\ud800' and not"
    yield "v2, no type", v2(image, datatype=None), "no text and not 'BYTES'"
    yield "v2, another shape", v2(image, shape=[2]), "the shape is not [1]"
    yield "v2, a huge shape", v2(image, shape=[10**30]), "the shape is not [1]"
    yield "v2, no shape", v2(image, shape=None), "the shape is not [1]"
    yield "v2, an id that is none", v2(image, id=7), "the id is no text"
    yield "v2, half a pair for an id", v2(image, id="\ud800"), "the id is no text"
