"""The map of a picture as an answer carries it."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from catdog.geometry import View

GRID_DECIMALS = 3

MAP_HEADER = "Catdog-Map"  # with "true", a request asks for its prediction's map


@dataclass(frozen=True)
class HeatMap:
    """How much each part of a picture speaks for the cat, or for the dog.

    Attributes:
        size: Width and height of the upright original, in pixels.
        view: x0, y0, x1, y1 in those pixels: what the grid covers.
        grid: h rows of w numbers in [0, 1], 3 decimals, from the top left.
    """

    size: tuple[int, int]
    view: tuple[float, float, float, float]
    grid: tuple[tuple[float, ...], ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON; the view with 2 decimals."""
        view = [round(edge, 2) for edge in self.view]
        return {"size": list(self.size), "view": view, "grid": [list(row) for row in self.grid]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "HeatMap":
        width, height = map(int, values["size"])
        x0, y0, x1, y1 = values["view"]
        grid = tuple(tuple(map(float, row)) for row in values["grid"])
        return cls((width, height), (x0, y0, x1, y1), grid)

    def scaled(self, other: tuple[int, int]) -> "HeatMap":
        """The same map of the same picture at another size."""
        x, y = other[0] / self.size[0], other[1] / self.size[1]
        x0, y0, x1, y1 = self.view
        return HeatMap(other, (x0 * x, y0 * y, x1 * x, y1 * y), self.grid)

    @classmethod
    def of(cls, activation: np.ndarray, view: View) -> "HeatMap":
        """The map of `activation_maps`, shape (h, w), with the part that it covers."""
        rows = activation.astype(np.float64).round(GRID_DECIMALS).tolist()
        return cls(view.size, view.rectangle, tuple(map(tuple, rows)))
