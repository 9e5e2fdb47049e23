"""What the page does with images: asks for each, and says how far it is and what they are."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from catdog_serving.client import CatDogClient
from catdog_serving.errors import ServerError
from catdog_serving.web import views
from catdog_serving.web.explained import LARGE_SIDE, SMALL_SIDE, Images, ShownImage

MAX_FILES = 200  # at a time: the gallery of so many is about 5 MB
_STEP = 8  # images from one look of a growing gallery to the next


@dataclass(frozen=True)
class Progress:
    """Where a drop stands, for the controls.

    Attributes:
        shown: Images with a map on the page.
        many: Whether they are a gallery.
        unanswered: Files to ask for again, because the server failed.
    """

    shown: int = 0
    many: bool = False
    unanswered: tuple[str, ...] = ()


class Answer(NamedTuple):
    """The message and the result as HTML, and where the drop stands."""

    message: str
    result: str
    progress: Progress


class Answers:
    """Asks one server for the images of every visitor."""

    def __init__(self, client: CatDogClient) -> None:
        self._url = client.url
        self._images = Images(client)

    def dropped(self, files: Sequence[str]) -> Generator[Answer, None, None]:
        """An answer for these files, again as more of them are done; the last one stays."""
        if not files:
            yield Answer("", "", Progress())
            return
        if len(files) > MAX_FILES:
            text = (
                f"{len(files)} images are too many for one go: drop at most {MAX_FILES}, "
                "or use: catdog classify FOLDER"
            )
            yield Answer(views.problem(text), "", Progress())
            return
        many = len(files) > 1
        side = SMALL_SIDE if many else LARGE_SIDE
        shown: list[ShownImage] = []
        if many:
            yield Answer(_so_far(shown, files), "", Progress())
        try:
            for one in self._images.show(map(Path, files), side):
                shown.append(one)
                if len(shown) < len(files) and len(shown) % _STEP == 0:
                    text = _so_far(shown, files)
                    yield Answer(text, views.gallery(shown), _progress(shown, many))
        except ServerError as error:
            sentence = views.server_problem(error, self._url)
            progress = _progress(shown, many, tuple(files))
            yield Answer(sentence, views.gallery(shown) if shown else "", progress)
            return
        if many:
            yield Answer(views.summary(shown), views.gallery(shown), _progress(shown, many))
        else:
            yield Answer(views.verdict(shown[0]), views.alone(shown[0]), _progress(shown, many))


def _so_far(shown: Sequence[ShownImage], files: Sequence[str]) -> str:
    return views.message(f"{len(shown)} of {len(files)} ...")


def _progress(
    shown: Sequence[ShownImage], many: bool, unanswered: tuple[str, ...] = ()
) -> Progress:
    with_map = sum(one.explanation is not None for one in shown)
    return Progress(with_map, many and bool(shown), unanswered)
