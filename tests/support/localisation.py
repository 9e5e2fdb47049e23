"""How well maps and boxes find the animals that were labelled by eye in tests/data/boxes.json."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from catdog.activation_map import locate
from catdog.classifier import Classifier
from catdog.results import ActivationMap, Box, Explanation
from catdog.transforms import View
from tests.support.paths import PHOTOS, ROOT

LABELS: dict[str, list[list[int]]] = json.loads(
    (ROOT / "tests" / "data" / "boxes.json").read_text(encoding="utf-8")
)["photos"]
THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 13))  # 0.05 to 0.6
FOLDS = 5
MODES = ("crop", "whole")


@dataclass(frozen=True)
class Labelled:
    """One photo's maps, with the boxes drawn by eye."""

    name: str
    boxes: Sequence[Sequence[int]]
    maps: dict[str, ActivationMap]  # by mode

    def points_inside(self, mode: str) -> bool:
        """Whether the middle of the map's highest cell lies in a box."""
        heat_map = self.maps[mode]
        grid = np.array(heat_map.grid)
        row, column = np.unravel_index(grid.argmax(), grid.shape)
        x0, y0, x1, y1 = heat_map.view
        x = x0 + (column + 0.5) * (x1 - x0) / grid.shape[1]
        y = y0 + (row + 0.5) * (y1 - y0) / grid.shape[0]
        return any(box[0] <= x < box[2] and box[1] <= y < box[3] for box in self.boxes)

    def located(self, mode: str, threshold: float) -> Box | None:
        heat_map = self.maps[mode]
        grid = np.array(heat_map.grid, dtype=np.float32)
        view = View(heat_map.size, heat_map.view)
        (box,) = locate(grid[np.newaxis], [view], threshold, whole=mode == "whole")
        return box

    def iou(self, mode: str, threshold: float) -> float:
        """Intersection over union with the best of the boxes."""
        found = self.located(mode, threshold)
        return 0.0 if found is None else max(iou(found, box) for box in self.boxes)


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def explain_labelled(classifier: Classifier) -> list[Labelled]:
    """The maps of all labelled photos. `neither` has a map too, of the larger mass's group."""
    found = []
    for name, boxes in LABELS.items():
        (result,) = classifier.explain([(Path(PHOTOS) / name).read_bytes()])
        assert isinstance(result, Explanation)
        assert result.prediction.map is not None
        found.append(Labelled(name, boxes, {"crop": result.prediction.map, "whole": result.map}))
    return found


def best_threshold(photos: Sequence[Labelled], modes: Sequence[str] = MODES) -> float:
    """The threshold with the best mean IoU."""
    means = [
        np.mean([photo.iou(mode, threshold) for photo in photos for mode in modes])
        for threshold in THRESHOLDS
    ]
    return THRESHOLDS[int(np.argmax(means))]


def cross_validated(photos: Sequence[Labelled], mode: str) -> tuple[list[float], np.ndarray]:
    """The threshold that each fold's other photos choose, and the IoU of every photo with it."""
    chosen, ious = [], np.zeros(len(photos))
    for fold in range(FOLDS):
        others = [photo for index, photo in enumerate(photos) if index % FOLDS != fold]
        chosen.append(best_threshold(others))
        for index in range(fold, len(photos), FOLDS):
            ious[index] = photos[index].iou(mode, chosen[-1])
    return chosen, ious
