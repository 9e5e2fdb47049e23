"""docs/openapi.yaml as one page for people: static, its own style inside, no scripts.

nginx serves it at /docs (config/nginx/routes.conf). After a change of openapi.yaml:

    python -m catdog_serving.torchserve.api_page docs/openapi.yaml docs/api.html

It knows the parts of OpenAPI that openapi.yaml uses, and fails on a schema that it does not know.
"""

import html
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

Node = dict[str, Any]

STYLE = """
body { max-width: 58rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff;
  font: 16px/1.5 system-ui, sans-serif; }
h1 { margin-bottom: 0; }
h2 { margin-top: 2.5rem; padding-top: 1rem; border-top: 1px solid #ccc; }
code { font: 0.9em ui-monospace, monospace; }
h2 code { font-size: 0.85em; }
table { width: 100%; border-collapse: collapse; margin: 0.5rem 0 1rem; }
th, td { padding: 0.3rem 0.8rem 0.3rem 0; border-bottom: 1px solid #e4e4e4; text-align: left;
  vertical-align: top; }
@media (prefers-color-scheme: dark) {
  body { color: #ddd; background: #1b1b1b; }
  a { color: #8ab4f8; }
  h2, th, td { border-color: #444; }
}
"""


def render(document: Node) -> str:
    """The whole page.

    Args:
        document: A parsed OpenAPI 3.1 document.

    Raises:
        ValueError: If a schema is of a kind that this module does not know.
    """
    info = document["info"]
    title = html.escape(info["title"])
    body = [
        f"<h1>{title}</h1>",
        f"<p>{_text(info['summary'])} Version {html.escape(info['version'])}, "
        '<a href="/docs/openapi.yaml">openapi.yaml</a>.</p>',
        f"<p>{_text(info['description'])}</p>",
        _table(
            ("Server", ""),
            [
                (_code(server["url"]), _text(server["description"]))
                for server in document["servers"]
            ],
        ),
        *(
            f"<p>API key: {_text(scheme['description'])}</p>"
            for scheme in document["components"]["securitySchemes"].values()
        ),
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method != "servers":
                body += _operation(document, f"{method.upper()} {path}", operation)
    for name, schema in document["components"]["schemas"].items():
        if schema.get("type") == "object":
            body += [f'<h2 id="{html.escape(name)}">{html.escape(name)}</h2>']
            body += [_table(("Field", "Type", ""), list(_fields(document, schema, "")))]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}: the API</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _operation(document: Node, title: str, operation: Node) -> Iterator[str]:
    yield f"<h2>{_code(title)}</h2>"
    yield f"<p>{_text(operation['summary'] + ' ' + operation.get('description', ''))}</p>"
    parameters = [_resolved(document, parameter) for parameter in operation.get("parameters", ())]
    if parameters:
        rows = [
            (_code(p["name"]), html.escape(p["in"]), _text(p.get("description", "")))
            for p in parameters
        ]
        yield _table(("Parameter", "In", ""), rows)
    if "requestBody" in operation:
        yield f"<p>Body: {', '.join(map(_code, operation['requestBody']['content']))}</p>"
    rows = []
    for status, response in operation["responses"].items():
        answers = [
            _type(document, content["schema"]) if "schema" in content else _code(media_type)
            for media_type, content in response.get("content", {}).items()
        ]
        described = [_text(response["description"])]
        described += [
            f"{_code(name)}: {_text(header['description'])}"
            for name, header in response.get("headers", {}).items()
        ]
        rows.append((_code(status), "<br>".join(described), ", ".join(answers)))
    yield _table(("Status", "", "Answer"), rows)


def _fields(document: Node, schema: Node, prefix: str) -> Iterator[tuple[str, str, str]]:
    """A row per field; those of objects inside follow as `outer.inner` and `outer[].inner`."""
    for name, field in schema.get("properties", {}).items():
        yield _code(prefix + name), _type(document, field), _text(field.get("description", ""))
        for inner in (field, *field.get("oneOf", ())):
            yield from _fields(document, inner, f"{prefix}{name}.")
        yield from _fields(document, field.get("items", {}), f"{prefix}{name}[].")


def _type(document: Node, schema: Node) -> str:
    """A schema in a few words; objects with a name of their own are links."""
    if "$ref" in schema:
        target = _resolved(document, schema)
        if target["type"] != "object":
            return _type(document, target)
        name = html.escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if "enum" in schema:
        return " or ".join(_code(str(value)) for value in schema["enum"])
    if "const" in schema:
        return _code(str(schema["const"]))
    if "oneOf" in schema:
        return " or ".join(_type(document, choice) for choice in schema["oneOf"])
    match schema.get("type"):
        case "array":
            counts = sorted({schema["minItems"], schema["maxItems"]})
            return f"{' to '.join(map(str, counts))} times {_type(document, schema['items'])}"
        case "integer" | "number" as kind:
            bounds = [str(schema[key]) for key in ("minimum", "maximum") if key in schema]
            return " ".join([kind, *(["from", " to ".join(bounds)] if bounds else [])])
        case "object":
            fields = ", ".join(_code(name) for name in schema["properties"])
            return f"object of {fields}"
        case "string":
            return "string"
        case "null":
            return "null"
    raise ValueError(f"no words for the schema {schema}; teach them to {__name__}._type")


def _resolved(document: Node, node: Node) -> Node:
    """What a `$ref` of this document stands for; anything else as it is."""
    if "$ref" not in node:
        return node
    for key in node["$ref"].removeprefix("#/").split("/"):
        document = document[key]
    return document


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the cells are HTML already."""
    lines = [f"<tr>{''.join(f'<th>{head}</th>' for head in heads)}</tr>"]
    lines += [f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows]
    return "<table>\n" + "\n".join(lines) + "\n</table>"


def _text(text: str) -> str:
    """Escaped; what stands between backquotes becomes code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(" ".join(text.split())))


def _code(text: str) -> str:
    return f"<code>{html.escape(text)}</code>"


def main(source: Path, target: Path) -> None:
    """Write the page of an OpenAPI document."""
    document = yaml.safe_load(source.read_text(encoding="utf-8"))
    target.write_text(render(document), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
