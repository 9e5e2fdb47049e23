"""Read a page that catdog wrote as a browser would, without one."""

import base64
import hashlib
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any


class ParsedPage(HTMLParser):
    """A page's elements and texts.

    Attributes:
        title: The text of <title>.
        policy: The content security policy, directive -> sources.
        data: What its scripts read, from the JSON block.
        inline: The texts of <style> and of scripts that run, by tag.
        tags: Every start tag in order.
        texts: The texts of elements that hold nothing else, by id, spaces put together.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.title = ""
        self.policy: dict[str, list[str]] = {}
        self.data: dict[str, Any] = {}
        self.inline: dict[str, list[str]] = {"style": [], "script": []}
        self.tags: list[str] = []
        self.texts: dict[str, str] = {}
        self._open: tuple[str, dict[str, str | None]] = ("", {})
        self._text = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append(tag)
        self._open, self._text = (tag, attributes), ""
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy":
            directives = (attributes["content"] or "").split(";")
            self.policy = {d.split()[0]: d.split()[1:] for d in directives}

    def handle_data(self, data: str) -> None:
        self._text += data

    def handle_endtag(self, tag: str) -> None:
        open_tag, attributes = self._open
        if tag != open_tag:
            return
        if attributes.get("id"):
            self.texts[str(attributes["id"])] = " ".join(self._text.split())
        if tag == "title":
            self.title = self._text
        elif attributes.get("type") == "application/json":
            self.data = json.loads(self._text)
        elif tag in self.inline:
            self.inline[tag].append(self._text)


def policy_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
