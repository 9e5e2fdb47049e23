"""Bodies that call themselves forms, as the server without Java reads them."""

import pytest

from catdog_serving.asgi.forms import to_row

TYPE = "multipart/form-data; boundary=b"


def part(name: str, content: bytes) -> bytes:
    return (
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + content + b"\r\n"
    )


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (part("data", b"image") + b"--b--\r\n", {"data": b"image"}),
        (b"before\r\n" + part("data", b"image") + b"--b--", {"data": b"image"}),
        (part("data", b"x--b in it\r\n\r\n--c") + b"--b--", {"data": b"x--b in it\r\n\r\n--c"}),
        (part("data", b"") + b"--b--", {"data": b""}),
        (part("a", b"1") + part("b", b"2") + part("a", b"3") + b"--b--", {"a": b"3", "b": b"2"}),
        (b"".join(part(f"{n}", b"x") for n in range(16)) + b"--b--",
         {f"{n}": b"x" for n in range(16)}),
        (b"".join(part(f"{n}", b"x") for n in range(17)) + b"--b--", {}),
        (part("data", b"image"), {}),  # without its end
        (b"--b--", {}),
        (b"no form", {}),
        (b"--b\r\nno header end\r\n--b--", {}),
        (b"", {}),
    ],
)  # fmt: skip
def test_a_form_gives_its_fields(body: bytes, fields: dict[str, bytes]) -> None:
    assert to_row(bytearray(body), TYPE) == fields


def test_a_form_of_one_field_is_not_copied() -> None:
    body = bytearray(part("data", b"image") + b"--b--")
    assert to_row(body, TYPE)["data"] is body


def test_what_is_no_form_is_a_body() -> None:
    body = bytearray(b"\xff\xd8\xff image")
    for kind in ("image/jpeg", "", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert to_row(body, kind) == {"body": body}
    assert to_row(bytearray(b"image=1&x"), "application/x-www-form-urlencoded") == {
        "image": b"1", "x": b"",
    }  # fmt: skip
