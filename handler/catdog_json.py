"""Images in a JSON document: base64 of one, or a list of them in one of KServe's protocols.

    {"data": BASE64}                                    answered as the image's bytes would be
    {"instances": [{"data": BASE64}, ...]}              KServe v1
    {"inputs": [{"name": "images", "shape": [2],        KServe v2, the Open Inference Protocol
                 "datatype": "BYTES", "data": [BASE64, BASE64]}]}

The document's own key says which it is, as TorchServe does not tell a handler by which of its paths
a request came. A stranger's document is looked over before it is parsed: 26 MB of `[],` would take
4 s and 720 MB.
"""

import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from catdog.invalid_image import InvalidImage, InvalidReason
from catdog.results import MODEL_NAME

MAX_IMAGES = 16  # of one document
# What 16 images need at most: 150 marks and 34 lists and objects. So many more are for parameters.
MAX_MARKS = 4096  # brackets that open, commas, colons and quotes, those in texts too
MAX_OPENED = 256  # lists and objects, and so the depth
# It comes back in the answer, and one that is too long for TorchServe would cost a whole batch.
MAX_ID = 256

_NOT_MARKS = bytes(set(range(256)) - set(b'[{,:"'))
_KEYS = ("data", "instances", "inputs")
_OUTPUT = "predictions"


@dataclass(frozen=True)
class ImageList:
    """The images of a document with a list, and the shape of its answer.

    Attributes:
        images: 1 to 16, each its bytes, or why there are none.
        key: "instances" (v1) or "inputs" (v2).
        id: What a client of v2 calls its request.
    """

    images: tuple[bytes | InvalidImage, ...]
    key: str
    id: str | None = None

    def to_answer(self, entries: Sequence[dict[str, Any]], version: str) -> dict[str, Any]:
        """The protocol's answer.

        Args:
            entries: For each image its answer, or {"error": ...}.
            version: The model's.
        """
        if self.key == "instances":
            return {"predictions": list(entries)}
        tensor = {
            "name": _OUTPUT,
            "datatype": "BYTES",
            "shape": [len(entries)],
            "data": [
                json.dumps(entry, separators=(",", ":"), ensure_ascii=False) for entry in entries
            ],
        }
        named = {} if self.id is None else {"id": self.id}
        return {"model_name": MODEL_NAME, "model_version": version, **named, "outputs": [tensor]}


def read_json(body: bytes | bytearray) -> bytes | ImageList | InvalidImage:
    """The images of a document: of {"data": ...} its bytes, else a list."""
    try:
        return _images_of(_parse(body))
    except InvalidImage as invalid:
        # A new one: a raised exception keeps the frames, and the document, alive.
        return InvalidImage(invalid.reason, invalid.message)


def _wrong(problem: str) -> InvalidImage:
    return InvalidImage(
        InvalidReason.WRONG_FORM,
        f'{problem}; send {{"data": "<base64>"}}, a list as docs/api.md has it, '
        "or the image's bytes as the body with Content-Type image/jpeg",
    )


def _parse(body: bytes | bytearray) -> dict[str, Any]:
    """A document of few parts; parsing it takes as long as its texts are.

    Raises:
        InvalidImage: If it has more, or is no object.
    """
    marks = body.translate(None, _NOT_MARKS)
    if len(marks) > MAX_MARKS or marks.count(b"[") + marks.count(b"{") > MAX_OPENED:
        raise _wrong(f"the JSON has more lists, objects or texts than {MAX_IMAGES} images need")
    try:
        document = json.loads(
            body.decode(),
            object_pairs_hook=_to_object,
            parse_int=_to_int,
            parse_float=lambda _: None,  # nobody reads it, and it may have millions of digits
            parse_constant=_refuse_constant,
        )
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError name a place, not the text
        raise _wrong(f"the JSON cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise _wrong("the JSON is no object")
    return document


def _to_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has a key twice")
    return found


def _to_int(digits: str) -> int | None:
    return int(digits) if len(digits) < 20 else None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _images_of(document: dict[str, Any]) -> bytes | ImageList | InvalidImage:
    found = [key for key in _KEYS if key in document]
    if len(found) != 1:
        raise _wrong(f"got JSON with {' and '.join(found) or 'none of data, instances, inputs'}")
    (key,) = found
    if key == "data":
        return _to_image(document["data"])
    if key == "instances":
        return ImageList(_to_images(document["instances"], "instances"), key)
    request_id = document.get("id")
    if request_id is not None and not _is_id(request_id):
        raise _wrong(f"the id is no text of at most {MAX_ID} characters")
    return ImageList(_to_images(_tensor_of(document["inputs"]), "data"), key, request_id)


def _is_id(value: Any) -> bool:
    """Half a surrogate pair, which JSON can write, cannot be sent back."""
    is_short = isinstance(value, str) and len(value) <= MAX_ID
    return is_short and not any("\ud800" <= character <= "\udfff" for character in value)


def _tensor_of(inputs: Any) -> Any:
    """The texts of v2's one input tensor.

    Raises:
        InvalidImage: If it is none of images: its datatype and shape say what it is.
    """
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise _wrong("inputs is no list of one tensor")
    (tensor,) = inputs
    datatype, shape, data = (tensor.get(name) for name in ("datatype", "shape", "data"))
    if datatype != "BYTES":
        got = ascii(datatype[:20]) if isinstance(datatype, str) else "no text"
        raise _wrong(f"the datatype is {got} and not 'BYTES', each an image in base64")
    count = len(data) if isinstance(data, list) else 0
    if shape not in ([count], [count, 1], [-1], [-1, 1]):  # -1 is in TorchServe's own example
        raise _wrong(f"the shape is not [{count}], as data has {count} images")
    return data


def _to_images(entries: Any, key: str) -> tuple[bytes | InvalidImage, ...]:
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_IMAGES:
        count = f"has {len(entries)}" if isinstance(entries, list) else "is no list"
        raise _wrong(f"{key} {count}, and not 1 to {MAX_IMAGES} images")
    return tuple(map(_to_image, entries))


def _to_image(entry: Any) -> bytes | InvalidImage:
    """The bytes of one image: base64, alone or in {"data": ...} or {"b64": ...} (TF Serving's)."""
    if isinstance(entry, dict):
        values = [entry[key] for key in ("data", "b64") if key in entry]
        entry = values[0] if len(values) == 1 else None
    if not isinstance(entry, str):
        return _wrong("an image is no text in base64")
    try:
        return binascii.a2b_base64(entry, strict_mode=True)
    except ValueError:  # binascii's own, or what is not ASCII
        return _wrong("an image is not base64 (RFC 4648: no line ends, its padding at the end)")
