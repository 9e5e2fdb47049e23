"""The requests that docs/api.md tells of: one for each line of its table, and its examples'."""

from dataclasses import dataclass, field

import requests
from PIL import Image

from tests.support import bombs
from tests.support.images import encode
from tests.support.json_bodies import JSON, one, v1, v2
from tests.support.paths import SAMPLES

CAT = (SAMPLES / "chelsea.png").read_bytes()
OCTETS = {"Content-Type": "application/octet-stream"}


@dataclass(frozen=True)
class Case:
    """A request, and the line of api.md's table that its answer must be."""

    status: int
    kind: str = ""
    body: bytes = CAT
    headers: dict[str, str] = field(default_factory=lambda: OCTETS)
    fields: tuple[str, ...] = ()  # of a multipart form; each has the body

    def send(self, url: str) -> requests.Response:
        if not self.fields:
            return requests.post(url, data=self.body, headers=self.headers, timeout=60)
        files = [(name, self.body) for name in self.fields]
        return requests.post(url, files=files, timeout=60)


def cat_as(image_format: str) -> bytes:
    with Image.open(SAMPLES / "chelsea.png") as image:
        return encode(image, image_format)


def refused(body: bytes, headers: dict[str, str] | None = None, status: int = 400) -> Case:
    return Case(status, "InvalidImage", body, headers or OCTETS)


CASES = {
    **{f"a {name}": Case(200, body=cat_as(name)) for name in ("JPEG", "WEBP", "GIF", "BMP")},
    "a PNG without a type": Case(200, headers={}),
    "a PNG as image/jpeg": Case(200, headers={"Content-Type": "image/jpeg"}),
    "a PNG as text": Case(200, headers={"Content-Type": "text/plain"}),
    **{f"field {name}": Case(200, fields=(name,)) for name in ("data", "file", "image")},
    "a client's id": Case(200, headers=OCTETS | {"X-Request-Id": "order-4711"}),
    "a client's id that is none": Case(200, headers=OCTETS | {"X-Request-Id": "two words"}),
    "with the map": Case(200, headers=OCTETS | {"Catdog-Map": "true"}),
    "a drawing": Case(200, headers=OCTETS | {"Accept": "image/png"}),
    "a client's explain": Case(200, headers=OCTETS | {"explain": "True"}),
    "a client's describe": Case(200, headers=OCTETS | {"describe": "True"}),
    "no bytes": refused(b""),
    "no image": refused(b"hello, world"),
    "cut off": refused(CAT[:9999]),
    "a zip": refused(b"PK\x03\x04" + bytes(60)),
    "JSON": Case(200, body=one(CAT), headers=JSON),
    "other JSON": refused(b'{"image": "AAAA"}', JSON),
    "JSON of a TIFF": refused(one(cat_as("TIFF")), JSON, 415),
    "text": refused(b"a cat, please", {"Content-Type": "text/plain"}),
    "gzip": refused(b"\x1f\x8b" + bytes(60), OCTETS | {"Content-Encoding": "gzip"}),
    "two fields": Case(400, "InvalidImage", fields=("data", "image")),
    "another field": Case(400, "InvalidImage", fields=("photo",)),
    "a field that is no image": Case(400, "InvalidImage", b"hello", fields=("data",)),
    "a TIFF": refused(cat_as("TIFF"), status=415),
    "an AVIF": refused(cat_as("AVIF"), status=415),
    "too many pixels": refused(encode(Image.new("1", (10_000, 8_000))), status=413),
    "too long": refused(encode(Image.new("L", (1, 60_000))), status=413),
    "more work than its pixels are worth": refused(
        next(iter(bombs.refused().values())), status=413
    ),
    "a body that is too large": Case(413, "(empty body)", bytes(26_214_401)),
    "headers over 8 KB": Case(400, "BadRequestException", headers=OCTETS | {"X-Long": "x" * 9000}),
}
OTHER_PATHS = {
    "/predictions/dogcat": (404, "ModelNotFoundException"),
    "/explanations/dogcat": (404, "ModelNotFoundException"),
    "/predictions/catdog/9": (404, "ModelVersionNotFoundException"),
    "/explanations/catdog/9": (404, "ModelVersionNotFoundException"),
    "/predictions": (404, "ResourceNotFoundException"),
    "/nope": (404, "ResourceNotFoundException"),
    "/models": (404, "ResourceNotFoundException"),
    "/v1/models/dogcat:predict": (404, "ModelNotFoundException"),
    "/v2/models/dogcat/infer": (404, "ModelNotFoundException"),
    "/v1/models": (404, "ResourceNotFoundException"),
    "/v2/models/catdog/versions/1.0/infer": (404, "ResourceNotFoundException"),
    "/v2/health/ready": (404, "ResourceNotFoundException"),
}


def prepared(url: str, kind: str) -> requests.PreparedRequest:
    """The request that a line of api.md names."""
    images = {
        "chelsea.png": CAT,
        "text": b"hello, world",
        "nothing": b"",
        "10,000 x 8,000": encode(Image.new("1", (10_000, 8_000))),
        "1 x 60,000": encode(Image.new("L", (1, 60_000))),
        "26,214,401 bytes": bytes(26_214_401),
    }
    shape, _, names = kind.partition(" ")
    if shape in ("data", "v1", "v2"):
        sent = [images[name] for name in names.split(", ") if name]
        document = one(*sent) if shape == "data" else (v1 if shape == "v1" else v2)(*sent)
        request = requests.Request("POST", url, data=document, headers=JSON)
    elif kind == "FP32":
        request = requests.Request("POST", url, data=v2(CAT, datatype="FP32"), headers=JSON)
    elif kind == "json":
        request = requests.Request("POST", url, json={"image": "AAAA"})
    elif kind == "form photo":
        request = requests.Request("POST", url, files={"photo": CAT})
    else:
        request = requests.Request("POST", url, data=images[kind], headers=OCTETS)
    return request.prepare()
