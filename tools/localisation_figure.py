"""Draw the worst boxes for docs/explanations.md, without the photos, which are not ours to show:

python -m tools.localisation_figure MAR docs/images/explanations-worst.png
"""

import sys
from pathlib import Path

import matplotlib
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from catdog.classifier import Classifier
from catdog_serving.model_archive import open_archive
from tests.support.localisation import Labelled, explain_labelled

WORST = 6


def main(archive: Path, target: Path) -> None:
    with open_archive(archive) as model_dir:
        classifier = Classifier.load(model_dir)
        threshold = classifier.settings.box_threshold
        labelled = explain_labelled(classifier)
        classifier.close()
    worst = sorted(labelled, key=lambda photo: photo.iou("whole", threshold))[:WORST]
    for photo in worst:
        found = photo.located("whole", threshold)
        print(photo.name, f"IoU {photo.iou('whole', threshold):.2f}", found, photo.boxes)
    matplotlib.use("agg")
    figure, axes = pyplot.subplots(2, WORST // 2, figsize=(10, 6.4), layout="constrained")
    for axis, photo in zip(axes.flat, worst, strict=True):
        _draw(axis, photo, threshold)
    figure.savefig(target, dpi=80)


def _draw(axis: Axes, photo: Labelled, threshold: float) -> None:
    heat_map = photo.maps["whole"]
    width, height = heat_map.size
    axis.imshow(
        heat_map.grid, extent=(0, width, height, 0), cmap="inferno", interpolation="bilinear"
    )
    for boxes, colour, style in (
        (photo.boxes, "white", "--"),
        ([photo.located("whole", threshold)], "#00e5ff", "-"),
    ):
        for box in boxes:
            if box is not None:
                x0, y0, x1, y1 = box
                axis.add_patch(
                    Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, ec=colour, ls=style, lw=2)
                )
    axis.set(title=f"{Path(photo.name).stem}, IoU {photo.iou('whole', threshold):.2f}")
    axis.set(xlim=(0, width), ylim=(height, 0))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
