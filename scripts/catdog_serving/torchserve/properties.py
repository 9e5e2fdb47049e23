"""Java properties (java.util.Properties.load), read and written as Java reads them."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

_LINE = re.compile(r"((?:\\.|[^\\=:\s])*\\?)(?:\s*[=:]\s*|\s+|$)(.*)", re.DOTALL)
_CONTROLS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


def parse_properties(text: str) -> dict[str, str]:
    """The keys and values of a file: with comments, continued lines and escapes.

    Blanks at the end of a value are dropped, which Java would keep.
    """
    values = {}
    for line in _logical_lines(text):
        found = _LINE.fullmatch(line.rstrip())
        assert found is not None  # noqa: S101 (every line is a key and a rest)
        values[_unescaped(found[1])] = _unescaped(found[2])
    return values


def write_properties(target: Path, values: Mapping[str, str]) -> None:
    """Write a file. Java reads it as Latin-1, so all but ASCII is escaped.

    Raises:
        OSError: If it cannot be written.
    """
    lines = (f"{key}={_escaped(value)}\n" for key, value in values.items())
    target.write_text("".join(lines), encoding="ascii")


def _logical_lines(text: str) -> Iterator[str]:
    """Lines that are no comments, each with those that a backslash at its end adds."""
    pending = ""
    for line in text.split("\n"):
        line = line.lstrip()
        if not pending and (not line or line[0] in "#!"):
            continue
        pending += line
        backslashes = len(pending) - len(pending.rstrip("\\"))
        if backslashes % 2:
            pending = pending[:-1]
        else:
            yield pending
            pending = ""
    if pending:
        yield pending


def _escaped(value: str) -> str:
    return re.sub(r"^ | $", r"\\u0020", "".join(map(_escaped_character, value)))


def _escaped_character(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if " " <= character <= "~":
        return character
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _unescaped(text: str) -> str:
    def plain(found: re.Match[str]) -> str:
        name = found[1]
        return chr(int(name[1:], 16)) if len(name) == 5 else _CONTROLS.get(name, name)

    units = re.sub(r"\\(u[0-9a-fA-F]{4}|.?)", plain, text, flags=re.DOTALL)
    return units.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
