"""The page of `catdog evaluate --report`: figures, plots, and the worst mistakes as images."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from catdog.overlay import overlay_style
from catdog_serving.folder.own_outputs import write_own
from catdog_serving.viewer.gallery import gallery_items
from catdog_serving.viewer.page import page_parts

MAX_FAILURES = 1_000


def write_evaluation_report(
    target: Path, figures: Mapping[str, Any], plots: Mapping[str, bytes]
) -> None:
    """Write the page.

    Args:
        target: The .html file to make or replace.
        figures: What `Evaluation.to_dict` gives.
        plots: PNG images by their titles.

    Raises:
        NotReadyError: If the file cannot be written.
    """
    values = {
        **figures,
        "title": f"catdog: evaluation of {figures['folder']}",
        "data": {"overlay": overlay_style()},
        "failed": len(figures["failures"]),
        "failures": figures["failures"][:MAX_FAILURES],
        "plots": {
            title: "data:image/png;base64," + base64.b64encode(png).decode()
            for title, png in plots.items()
        },
    }
    items = gallery_items([_as_taken(mistake) for mistake in figures["mistakes"]], target)
    write_own(target, page_parts("reports/evaluation_report.html", values, items))


def _as_taken(mistake: dict[str, Any]) -> dict[str, Any]:
    """A mistake as the gallery shows it: labelled as what it was taken for."""
    cat, dog, taken_for = mistake["cat"], mistake["dog"], mistake["taken_for"]
    other = max(0.0, 1 - cat - dog)
    return mistake | {"label": taken_for, "certainty": mistake[taken_for], "other": other}
