"""The HTTP API: docs/openapi.yaml without its prose, and what the handler really answers."""

import json
from pathlib import Path
from typing import Any

import yaml

from catdog.invalid_image import InvalidReason
from tests.support.paths import ROOT
from tests.support.wire.worker import Answer, Request, Worker, bmp

IMAGE = {"body": bmp("red")}
NEITHER = {"body": bmp("blue")}
EXPLAIN = {"explain": "True"}  # as TorchServe itself writes it for /explanations
REQUESTS = {
    "prediction": Request(IMAGE, {"X-Request-Id": "abc-1"}),
    "prediction-neither": Request(NEITHER),
    "prediction-with-map": Request(IMAGE, {"Catdog-Map": "true"}),
    "explanation": Request(IMAGE, EXPLAIN),
    "explanation-neither": Request(NEITHER, EXPLAIN),
    "explanation-with-animals": Request(IMAGE, EXPLAIN | {"Catdog-Animals": "true"}),
}
REFUSED = {
    "empty": {"body": b""},
    "wrong_form": {},
    "undecodable": {"body": b"hello, world"},
    "too_many_pixels": {"body": bmp("black", (8000, 7000), mode="1")},
    "extreme_shape": {"body": bmp("black", (1, 60_000), mode="1")},
    "too_complex": {"body": b"\xff\xd8" + b"\xff\xfe\0\2" * 10_001},
    "cut_off": {"body": bmp("red")[:-1]},
    "unsupported_format": {"body": b"II*\0" + bytes(100)},
}


def render_api(tmp_path: Path) -> dict[str, str]:
    """The folder "api"."""
    worker = Worker(tmp_path)
    answers = dict(zip(REQUESTS, worker.ask(*REQUESTS.values()), strict=True))
    answers |= {f"describe-{kind}": worker.describe(kind) for kind in ("fp32", "int8")}
    return {
        "openapi.yaml": openapi(),
        "refused.txt": refused(worker),
        **{f"{name}.txt": transcript(answer) for name, answer in answers.items()},
    }


def openapi() -> str:
    """docs/openapi.yaml with its references and repetitions filled in, sorted."""
    document = yaml.safe_load((ROOT / "docs" / "openapi.yaml").read_text(encoding="utf-8"))
    del document["info"]
    shapes: str = yaml.dump(_shapes(document), default_flow_style=None, width=98)
    return shapes


def _shapes(node: Any) -> Any:
    """A part of the document without prose; a reference is the name it leads to."""
    if isinstance(node, list):
        return [_shapes(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return node["$ref"].rpartition("/")[2]
    prose = ("summary", "description")
    shapes = {k: _shapes(v) for k, v in node.items() if not (k in prose and isinstance(v, str))}
    return shapes["schema"] if set(shapes) == {"schema"} else shapes


def transcript(answer: Answer) -> str:
    """An answer's status and headers, a blank line, and the shape of its body."""
    values = json.loads(answer.body)
    compact = json.dumps(values, separators=(",", ":"), ensure_ascii=False)
    assert answer.body == compact.encode(), "it is not one line without spaces"
    headers = (f"{name}: {value}" for name, value in sorted(answer.headers.items()))
    return "\n".join([answer.status, *headers, "", shape(values), ""])


def shape(value: Any, indent: str = "", in_list: bool = False) -> str:
    """JSON with the types of its numbers, and of strings in lists, instead of their values."""
    inner = indent + "  "
    if isinstance(value, dict):
        entries = (f'\n{inner}"{k}": {shape(v, inner, in_list)}' for k, v in value.items())
        return f"{{{','.join(entries)}\n{indent}}}"
    if isinstance(value, list):
        kinds = dict.fromkeys(shape(entry, indent, in_list=True) for entry in value)
        return f"[{len(value)} x {' or '.join(kinds)}]" if value else "[]"
    if isinstance(value, str) and in_list:
        return "string"
    if value is None or isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False)
    return {int: "integer", float: "number"}[type(value)]


def refused(worker: Worker) -> str:
    """The status and the body of an image that is refused, by the reason in log and metrics."""
    answers = worker.ask(*map(Request, REFUSED.values()))
    reasons = [answer.result for answer in answers]
    assert reasons == list(REFUSED) == [reason.value for reason in InvalidReason]
    return (
        "".join(f"{a.result}: {a.status}\n{a.body.decode()}\n\n" for a in answers).rstrip() + "\n"
    )
