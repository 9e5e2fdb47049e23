"""TorchServe's tokens: the same file, the same refusal, the same renewal."""

import hmac
import json
import os
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path


class Tokens:
    """The keys of one server, written to its key file; without a file none are wanted."""

    def __init__(self, path: Path | None, expiration_min: float) -> None:
        self._path = path
        self._lasts = timedelta(minutes=expiration_min)
        self._keys = {"API": {"key": secrets.token_urlsafe(32)}}
        self._keys |= {kind: self._made() for kind in ("management", "inference")}
        self._write(self._keys)

    def allow(self, kind: str, authorization: str | None) -> bool:
        """Whether a request's Authorization has the key of that kind, and it has not ended."""
        if self._path is None:
            return True
        entry = self._keys[kind]
        sent = (authorization or "").encode()
        ends = entry.get("expiration time")
        is_good = ends is None or datetime.fromisoformat(ends) > datetime.now(UTC)
        return hmac.compare_digest(sent, f"Bearer {entry['key']}".encode()) and is_good

    def renew(self, kind: str) -> None:
        """Make a new key; the old one ends at once."""
        keys = self._keys | {kind: self._made()}
        self._write(keys)
        self._keys = keys

    def _made(self) -> dict[str, str]:
        ends = (datetime.now(UTC) + self._lasts).isoformat()
        return {"key": secrets.token_urlsafe(32), "expiration time": ends}

    def _write(self, keys: dict[str, dict[str, str]]) -> None:
        if self._path is None:
            return
        # In place, as TorchServe does: whoever renews holds a lock on this very file.
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(keys, file)
