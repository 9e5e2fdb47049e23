"""The page's HTML: images, answers and sentences.

File names are strangers' text, so everything is escaped.
"""

import base64
import html
from collections import Counter
from collections.abc import Sequence

from catdog.results import Prediction
from catdog_serving.errors import ServerBusyError, ServerError
from catdog_serving.folder.image_result import ImageFailure
from catdog_serving.folder.outputs import to_csv
from catdog_serving.web.explained import ShownImage

LABELS = ("cat", "dog", "neither", "failed")


def alone(shown: ShownImage) -> str:
    """One image, large, with its masses."""
    if shown.explanation is None:
        return problem(f"{shown.name}: {_reason(shown)}")
    prediction = shown.explanation.prediction
    return (
        f'<article class="cd-alone cd-{shown.label}">{_figure(shown)}'
        f'<div class="cd-facts">{_headline(prediction)}'
        f'<div class="cd-bars">{_masses(prediction)}</div>'
        f'<h3>Most probable classes</h3><div class="cd-bars">{_top(prediction)}</div>'
        f'<p class="cd-muted">{_box_line(shown)}<br>{_text(_model_line(prediction))}</p>'
        "</div></article>"
    )


def gallery(shown: Sequence[ShownImage]) -> str:
    """Many images, small; the browser shows and hides them by `data-label`."""
    cards = "".join(_card(one) for one in shown)
    return f'<div class="cd-gallery" id="cd-gallery" data-show="all">{cards}</div>'


def verdict(shown: ShownImage) -> str:
    """What one image is, as a sentence; nothing for a file that failed."""
    if shown.explanation is None:
        return ""
    breed = shown.explanation.prediction.certain_breed
    return message(f"{shown.name}: {shown.label}{f', {breed.name}' if breed else ''}")


def summary(shown: Sequence[ShownImage]) -> str:
    """How many of each label, as a sentence, and the table to download."""
    counts = Counter(one.label for one in shown)
    parts = [f"{counts[label]} {label}" for label in LABELS if counts[label]]
    return message(f"{len(shown)} images: {', '.join(parts)}", _table_link(shown))


def message(text: str, link: str = "") -> str:
    """A sentence that screen readers say when it comes."""
    return f'<p class="cd-message"><span>{_text(text)}</span>{link}</p>'


def problem(text: str) -> str:
    """A sentence about what went wrong, and what to do."""
    return f'<p class="cd-problem" role="alert">{_text(text)}</p>'


def server_problem(error: ServerError, url: str) -> str:
    """What a person can do about a server that did not answer, or not with a prediction."""
    if error.status is None:
        text = f"The server at {url} does not answer. Start it with: catdog serve, then try again."
    elif isinstance(error, ServerBusyError) or error.status in (500, 507):
        text = "The server has too much to do, or no worker yet. Wait a moment, then try again."
    else:
        text = f"No prediction: {error.message}"
    return problem(text)


def _table_link(shown: Sequence[ShownImage]) -> str:
    """The rows as CSV inside the link itself: no file that could be gone when it is wanted."""
    table = base64.b64encode(b"".join(to_csv(one.row for one in shown))).decode()
    return (
        f'<a download="catdog.csv" href="data:text/csv;charset=utf-8;base64,{table}">'
        "Download the table (CSV)</a>"
    )


def _figure(shown: ShownImage) -> str:
    """The image with its map and box over it, all fitted alike."""
    explanation = shown.explanation
    assert explanation is not None  # noqa: S101 (only called with one)
    width, height = explanation.map.size
    box = ""
    if explanation.box is not None:
        x0, y0, x1, y1 = explanation.box
        place = f'x="{x0}" y="{y0}" width="{x1 - x0}" height="{y1 - y0}"'
        box = (
            f'<svg viewBox="0 0 {width} {height}" aria-hidden="true">'
            f'<rect class="cd-box-edge" {place}/><rect class="cd-box" {place}/></svg>'
        )
    alt = f"{shown.name}: {shown.label}"
    return (
        f'<div class="cd-figure" style="aspect-ratio: {width} / {height}">'
        f'<img src="{shown.image}" alt="{_text(alt)}">'
        f'<img class="cd-map" src="{shown.map}" alt="">{box}</div>'
    )


def _headline(prediction: Prediction) -> str:
    breed = prediction.certain_breed
    kind = f" · {breed.name} ({breed.probability:.0%})" if breed else ""
    return f'<h2><span class="cd-kind">{prediction.label}</span>{_text(kind)}</h2>'


def _masses(prediction: Prediction) -> str:
    masses = (("cat", prediction.cat), ("dog", prediction.dog), ("other", prediction.other))
    return "".join(_bar(name, mass, name) for name, mass in masses)


def _top(prediction: Prediction) -> str:
    return "".join(_bar(entry.name, entry.probability, "class") for entry in prediction.top)


def _bar(name: str, share: float, kind: str) -> str:
    return (
        f"<span>{_text(name)}</span>"
        f'<div class="cd-track"><div class="cd-fill-{kind}" style="width: {share:.2%}"></div></div>'
        f'<span class="cd-number">{share:.4f}</span>'
    )


def _box_line(shown: ShownImage) -> str:
    explanation = shown.explanation
    if explanation is None or explanation.box is None:
        return "No box."
    if explanation.box.fills(explanation.map.size):
        return "It fills the image."
    return "Box: {}, {} to {}, {} pixels.".format(*explanation.box)


def _model_line(prediction: Prediction) -> str:
    return f"{prediction.model}, version {prediction.version}"


def _card(shown: ShownImage) -> str:
    name = f'<div class="cd-name" title="{_text(shown.name)}">{_text(shown.name)}</div>'
    if shown.explanation is None:
        reason = _text(_reason(shown))
        body = f'<div class="cd-reason">{reason}</div><div class="cd-answer">failed</div>'
    else:
        certainty = shown.explanation.prediction.certainty
        answer = f"<span>{shown.label}</span> {certainty:.2f}"
        body = f'{_figure(shown)}<div class="cd-answer">{answer}</div>'
    return f'<div class="cd-card cd-{shown.label}" data-label="{shown.label}">{body}{name}</div>'


def _reason(shown: ShownImage) -> str:
    """Why a file failed."""
    outcome = shown.row.outcome
    return outcome.message if isinstance(outcome, ImageFailure) else ""


def _text(text: str) -> str:
    return html.escape(text)
