"""A request's row and its answer: images in, and for each a status and what its sender is told.

A row is one image, as bytes or in a form, or a JSON document with one or up to 16 of them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from catdog.classifier import Answer
from catdog.invalid_image import InvalidImage, InvalidReason
from catdog.overlay import draw_overlay
from catdog.results import ANIMALS_HEADER, Explanation
from catdog.structure import detect_format
from catdog.transforms import ModelInput, Task, encode_png
from catdog_json import ImageList, read_json
from catdog_telemetry import request_header

IMAGE_FIELDS = ("data", "file", "image")  # of a multipart form; a plain body is "body"

# Constant ASCII phrases: another one hangs TorchServe's connection till the time-out.
OK = (200, "OK")
BAD_REQUEST = (400, "Bad Request")
NO_MEMORY = (503, "Service Unavailable")
STATUSES = {
    InvalidReason.EMPTY: BAD_REQUEST,
    InvalidReason.WRONG_FORM: BAD_REQUEST,
    InvalidReason.UNDECODABLE: BAD_REQUEST,
    InvalidReason.CUT_OFF: BAD_REQUEST,
    InvalidReason.UNSUPPORTED_FORMAT: (415, "Unsupported Media Type"),
    InvalidReason.TOO_MANY_PIXELS: (413, "Content Too Large"),
    InvalidReason.EXTREME_SHAPE: (413, "Content Too Large"),
    InvalidReason.TOO_COMPLEX: (413, "Content Too Large"),
}


class RowRequest(NamedTuple):
    """What a row asks for.

    Attributes:
        images: One, or those of `listed`; each its bytes, or why there are none.
        task: For all of them.
        listed: The list that they came in, or None.
    """

    images: Sequence[bytes | bytearray | InvalidImage]
    task: Task
    listed: ImageList | None = None


class ImageAnswer(NamedTuple):
    """What a client is told of an image.

    Attributes:
        status: Code and phrase.
        content: The values of its JSON; bytes are the PNG that was asked for.
    """

    status: tuple[int, str]
    content: Any


def read_request(row: dict[str, Any], context: Any, index: int) -> RowRequest:
    """What a row asks for; an explanation is of one image, as each takes a pass of its own."""
    found = find_image(row, request_header(context, index, "content-type"))
    task = find_task(context, index)
    if not isinstance(found, ImageList):
        return RowRequest((found,), task)
    if task is Task.PREDICTION:
        return RowRequest(found.images, task, found)
    message = f'got {found.key}; an explanation takes one image, as {{"data": "<base64>"}}'
    return RowRequest((InvalidImage(InvalidReason.WRONG_FORM, message),), task)


def find_task(context: Any, index: int) -> Task:
    """What a row asks for: TorchServe itself says which of its paths the request came by.

    It does so in the header `explain`, spelled like that: a client's own `Explain` is no answer.
    """
    if context.get_all_request_header(index).get("explain") != "True":
        return Task.PREDICTION
    accepted = (request_header(context, index, "accept") or "").split(",")
    types = [entry.partition(";")[0].strip().lower() for entry in accepted]
    drawing = "image/png" in types and "application/json" not in types
    if drawing:
        return Task.DRAWING
    with_animals = request_header(context, index, ANIMALS_HEADER) == "true"
    return Task.ANIMALS if with_animals else Task.EXPLANATION


def find_image(
    row: dict[str, Any], content_type: str | None = None
) -> bytes | bytearray | ImageList | InvalidImage:
    """The image's bytes in a request row: the body, or one field of a multipart form; or a list.

    Bodies come as bytes, whatever their type is: config.properties has
    `decode_input_request=false`, or TorchServe would parse a stranger's JSON first. Where it
    does (under its own launcher, with another configuration), such a row is refused.
    """
    present = [name for name in ("body", *IMAGE_FIELDS) if name in row]
    value = row[present[0]] if len(present) == 1 else None
    if isinstance(value, bytes | bytearray):
        media_type = (content_type or "").partition(";")[0].strip().lower()
        is_text = media_type.startswith(("application/json", "text/")) and "body" in row and value
        if not is_text or detect_format(value) is not None:
            return value
        if media_type == "application/json":
            return read_json(value)
        problem = "got text and not an image"
    elif len(present) > 1:
        problem = f"found {len(present)} images in one request: {', '.join(present)}"
    elif present:
        kind = "text" if isinstance(value, str) else "JSON"
        problem = f"got {kind}, parsed by TorchServe as decode_input_request is not false"
    else:
        problem = "found no image in the form"
    return InvalidImage(
        InvalidReason.WRONG_FORM,
        f"{problem}; send the image's bytes as the body with Content-Type image/jpeg, "
        f"or as the multipart field {', '.join(IMAGE_FIELDS[:-1])} or {IMAGE_FIELDS[-1]}",
    )


def to_answer(
    model_input: ModelInput | InvalidImage, result: Answer | None, with_map: bool
) -> ImageAnswer:
    """What a client is told of one image."""
    if result is None:
        message = "the GPU has no memory left for this batch; try again"
        return ImageAnswer(NO_MEMORY, _error(NO_MEMORY[0], "OutOfDeviceMemory", message))
    if isinstance(result, InvalidImage):
        status = STATUSES[result.reason]
        return ImageAnswer(status, _error(status[0], "InvalidImage", result.message))
    if isinstance(result, Explanation):
        canvas = model_input.canvas if isinstance(model_input, ModelInput) else None
        if canvas is not None:
            return ImageAnswer(OK, encode_png(draw_overlay(canvas, result.map, result.box)))
        return ImageAnswer(OK, result.to_dict())
    return ImageAnswer(OK, result.to_dict(with_map))


def join_answers(listed: ImageList, answers: Sequence[ImageAnswer], version: str) -> ImageAnswer:
    """The answer to a list: an entry for each image; an error if there is nothing else in it."""
    entries = [
        answer.content if answer.status == OK else {"error": answer.content} for answer in answers
    ]
    joined = listed.to_answer(entries, version)
    if any(answer.status == OK for answer in answers):
        return ImageAnswer(OK, joined)
    worst = next((answer for answer in answers if answer.status == NO_MEMORY), answers[0])
    status = NO_MEMORY if worst.status == NO_MEMORY else BAD_REQUEST
    message = f"no image of {len(answers)} was classified; {worst.content['message']}"
    error = _error(status[0], worst.content["type"], message)
    return ImageAnswer(status, error | {"error": message} | joined)


def _error(code: int, kind: str, message: str) -> dict[str, Any]:
    """An error in TorchServe's shape."""
    return {"code": code, "type": kind, "message": message}
