"""The `handler:` section of model-config.yaml, read once and checked at once."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import yaml
from PIL import Image

from catdog.decode import Limits
from catdog.memory_budget import DECODE_BYTES_PER_PIXEL
from catdog.model_info import check_engine

SETTINGS_FILE = "model-config.yaml"
LOWEST_PRESENCE = 0.01

# Pillow refuses twice this many pixels by itself, whatever our limit says.
_PILLOW_MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 0)


@dataclass(frozen=True)
class Settings:
    """How an archive answers. Each is explained in config/model-config.yaml.

    Raises:
        ValueError: If a value is out of its range; the message names it.
    """

    presence_threshold: float
    box_threshold: float
    max_pixels: int
    max_aspect_ratio: float
    decode_memory_mb: int
    threads: int | Literal["auto"]
    engine: str

    def __post_init__(self) -> None:
        _check_number(
            "presence_threshold", self.presence_threshold, LOWEST_PRESENCE, 1, whole=False
        )
        _check_number("box_threshold", self.box_threshold, 0.01, 0.99, whole=False)
        _check_number("max_pixels", self.max_pixels, 1, _PILLOW_MAX_PIXELS)
        _check_number("max_aspect_ratio", self.max_aspect_ratio, 1, 1000, whole=False)
        _check_number("decode_memory_mb", self.decode_memory_mb, 1, 1_000_000)
        if self.threads != "auto":
            _check_number('threads ("auto" or a number)', self.threads, 1, 1024)
        check_engine(self.engine)
        needed_mb = -(-self.max_pixels * DECODE_BYTES_PER_PIXEL // 1_000_000)
        if self.decode_memory_mb < needed_mb:
            raise ValueError(
                f"decode_memory_mb must be at least {needed_mb}, for one image of "
                f"{self.max_pixels} pixels at {DECODE_BYTES_PER_PIXEL} bytes; "
                f"got {self.decode_memory_mb}"
            )

    @property
    def fixed_threads(self) -> int | None:
        """CPU threads of one worker, if a number is set."""
        return None if self.threads == "auto" else self.threads

    @property
    def limits(self) -> Limits:
        return Limits(max_pixels=self.max_pixels, max_aspect_ratio=self.max_aspect_ratio)

    @classmethod
    def read(cls, path: Path) -> "Settings":
        """Read a model-config.yaml.

        Raises:
            ValueError: If it is no YAML, or a key is missing, unknown or out of range; the
                message names the file, the key and the choices.
        """
        values = _read_section(path)
        known = [field.name for field in fields(cls)]
        unknown = sorted(map(str, set(values) - set(known)))
        missing = sorted(set(known) - set(values))
        if unknown or missing:
            raise ValueError(
                f"{path}: section handler: unknown {unknown}, missing {missing}; "
                f"the keys are {', '.join(known)}"
            )
        try:
            return cls(**values)
        except ValueError as error:
            raise ValueError(f"{path}: section handler: {error}") from error


def _read_section(path: Path) -> dict[Any, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise ValueError(f"{path} is no YAML{where}") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is no YAML: {error}") from error
    section = values.get("handler", {}) if isinstance(values, dict) else values
    if not isinstance(section, dict):
        raise ValueError(f"{path}: section handler: holds no keys")
    return section


def _check_number(
    name: str, value: object, lowest: float, highest: float, whole: bool = True
) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} must be a number, got {value!r}")
    if not lowest <= value <= highest:
        raise ValueError(f"{name} must be in {lowest}..{highest}, got {value}")
    if whole and not isinstance(value, int):
        raise ValueError(f"{name} must be a whole number, got {value}")
