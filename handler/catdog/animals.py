"""Both animals of an image: a cat beside a dog, of which a prediction names only one.

The network's two maps say where a cat would be and where a dog; a pass over each of these regions
says whether it is one. docs/explanations.md has how often that is right.
"""

from collections.abc import Callable

import numpy as np

from catdog.activation_map import explained_group, locate, scale_to_peak
from catdog.labels import GROUPS
from catdog.postprocess import DECIMALS, class_masses
from catdog.results import LABELS, Animal, Box, Prediction
from catdog.transforms import full_view

# Chosen on 100 pairs and 100 single photos; tests/stress/test_both_animals.py measures them.
_REGION_THRESHOLD = 0.3  # of a map's largest value: less than a box, and surer of one animal
_LEAST_CERTAINTY = 0.1  # of the second animal
_MOST_OVERLAP = 0.05  # of the smaller region; two that overlap more are of one animal


def find_animals(
    prediction: Prediction,
    maps: np.ndarray,
    size: tuple[int, int],
    thresholds: tuple[float, float],
    logits_of: Callable[[Box], np.ndarray],
) -> tuple[Animal, ...]:
    """The animals of one image, the likelier group's first; none, one or one of each.

    Args:
        prediction: Of the image. Of its label there is an animal, whatever the region says.
        maps: Of the full image, as the network gives them, shape (2, h, w).
        size: The upright original's width and height, in pixels.
        thresholds: box_threshold and presence_threshold of the settings.
        logits_of: Runs a pass over a region; called at most twice. Gives shape (1, 1000).
    """
    box_threshold, presence_threshold = thresholds
    activations = scale_to_peak(maps)
    views = [full_view(size)] * len(GROUPS)
    regions = locate(activations, views, _REGION_THRESHOLD, whole=True)
    boxes = locate(activations, views, box_threshold, whole=True)
    first = explained_group(prediction)
    animals: list[Animal] = []
    for group in (first, 1 - first):
        region, box = regions[group], boxes[group]
        other = regions[first]
        if region is None or box is None:
            continue
        if group != first and other is not None and _overlap(region, other) > _MOST_OVERLAP:
            continue
        certainty = float(class_masses(logits_of(region))[0, group])
        needed = _LEAST_CERTAINTY if animals else presence_threshold
        is_labelled = LABELS[group] == prediction.label
        if is_labelled or certainty >= needed:
            animals.append(Animal(LABELS[group], box, round(certainty, DECIMALS)))
    return tuple(animals)


def _overlap(one: Box, other: Box) -> float:
    """The part of the smaller of two boxes that lies in the other, in [0, 1]."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    smaller = min((box.x1 - box.x0) * (box.y1 - box.y0) for box in (one, other))
    return max(0, width) * max(0, height) / smaller
