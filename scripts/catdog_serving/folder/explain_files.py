"""catdog explain: an image with its map and box drawn, for each image of files and folders."""

import errno
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from catdog.decode import Decoder
from catdog.invalid_image import InvalidImage
from catdog.overlay import decode_to_draw, draw_overlay
from catdog.results import Box, Explanation
from catdog_serving.atomic_write import atomic_write
from catdog_serving.errors import NotReadyError, RefusedError
from catdog_serving.find_images import (
    ImageFiles,
    check_not_read,
    check_outside,
)
from catdog_serving.folder.backends import Backend
from catdog_serving.folder.image_result import UNWRITABLE, ImageFailure
from catdog_serving.folder.outputs import STYLES, failed_row
from catdog_serving.folder.own_outputs import check_own
from catdog_serving.folder.read_image import read_file
from catdog_serving.image_formats import folder_decoder
from catdog_serving.ordered_map import ordered_map
from catdog_serving.printable import printable
from catdog_serving.real_folders import relative_path
from catdog_serving.remote_path import AnyPath

SUFFIX = ".overlay.jpg"  # after the whole name, so that cat.jpg and cat.png do not meet
LONGER_SIDE = 2048  # of an overlay, in pixels
_JPEG = {"quality": 90, "optimize": True, "comment": b"catdog overlay"}
# Too long with the suffix, or no name on that disk: no reason to leave out the others.
_OF_ONE_NAME = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)
_BOX_WIDTH = 19  # four numbers of four digits


@dataclass(frozen=True)
class ExplainedFile:
    """What became of one file.

    Attributes:
        path: The image.
        target: Its overlay.
        outcome: Its explanation, or why there is none, and no overlay.
    """

    path: AnyPath
    target: Path
    outcome: Explanation | ImageFailure


def explain_files(
    sources: Sequence[ImageFiles], backend: Backend, output: Path
) -> Iterator[ExplainedFile]:
    """Explain each image and write its overlay; one result per file, in order.

    Args:
        sources: Files and folders; see `find_sources`.
        backend: Who explains.
        output: The folder for the overlays, made if missing; folders below a source are
            kept. An overlay that is there already is replaced, and no other file.

    Raises:
        UsageError: If that folder lies in a source, or an overlay would replace an image.
        NotReadyError: If an overlay cannot be written.
    """
    check_outside(output, [source.root for source in sources])
    check_not_read((target for _, target in _targets(sources, output)), sources)
    decoder = folder_decoder()

    def explain(job: tuple[AnyPath, Path]) -> ExplainedFile:
        path, target = job
        try:
            with suppress(NotReadyError):  # which writing says, if it is so
                check_own(target)
        except RefusedError as error:
            return ExplainedFile(path, target, ImageFailure(UNWRITABLE, str(error)))
        _, content = read_file(path)
        outcome = content if isinstance(content, ImageFailure) else backend.explain(content)
        if isinstance(content, bytes) and isinstance(outcome, Explanation):
            outcome = _write_overlay(decoder, content, outcome, target)
        return ExplainedFile(path, target, outcome)

    return ordered_map(explain, _targets(sources, output), backend.jobs)


def _targets(sources: Iterable[ImageFiles], output: Path) -> Iterator[tuple[AnyPath, Path]]:
    """Each image with the place of its overlay; no two get the same."""
    taken: set[Path] = set()
    for source in sources:
        for path in source:
            below = relative_path(path, source.root) if source.is_folder else Path(path.name)
            target, number = output / f"{below}{SUFFIX}", 1
            while target in taken:
                number += 1
                target = output / f"{below} ({number}){SUFFIX}"
            taken.add(target)
            yield path, target


def _write_overlay(
    decoder: Decoder, content: bytes, explanation: Explanation, target: Path
) -> Explanation | ImageFailure:
    try:
        image = decode_to_draw(decoder, content, LONGER_SIDE)
    except InvalidImage as invalid:
        return ImageFailure.refused(invalid.message)
    drawn = io.BytesIO()
    draw_overlay(image, explanation.map, explanation.box).save(drawn, "JPEG", **_JPEG)
    try:
        atomic_write(target, [drawn.getvalue()])
    except NotReadyError as error:
        reason = error.__cause__
        if isinstance(reason, OSError) and reason.errno in _OF_ONE_NAME:
            return ImageFailure(UNWRITABLE, f"cannot write {target.name}: {reason.strerror}")
        raise
    return explanation


def explained_header() -> Text:
    return Text(f"{'label':7}  {'box x0 y0 x1 y1':{_BOX_WIDTH}}  overlay", style="bold")


def box_text(box: Box, size: tuple[int, int]) -> str:
    """A box in an image of that size, for people."""
    return "fills the image" if box.fills(size) else " ".join(map(str, box))


def explained_row(explained: ExplainedFile) -> Text:
    """An explained file's line: its label, the animal's box, the overlay."""
    outcome = explained.outcome
    if isinstance(outcome, ImageFailure):
        return failed_row(str(explained.path), outcome.message)
    label = outcome.prediction.label
    box = "" if outcome.box is None else box_text(outcome.box, outcome.map.size)
    return Text.assemble(
        (f"{label:7}", STYLES[label]), f"  {box:{_BOX_WIDTH}}  {printable(str(explained.target))}"
    )
