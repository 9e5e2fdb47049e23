"""What one visitor wants to know just now: a new drop takes the place of the one before."""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing

from catdog_serving.web.dropped_images import Answer, Answers


class _Drop:
    """Some files; the same files twice are two drops."""

    def __init__(self, files: Sequence[str]) -> None:
        self.files = files


class Visitor:
    """The drops of one open page.

    Gradio's own ways are not enough: an event that comes while the one before it runs is
    ignored, or waits for it, and a cancelled one may already have its successor's number.
    The last call of `drop` wins here, whatever overtakes what on its way.
    """

    def __init__(self) -> None:
        self._latest: _Drop | None = None
        self._waiting: deque[_Drop] = deque(maxlen=1)

    def drop(self, files: Sequence[str] | None) -> None:
        """Note what was dropped; None for nothing."""
        self._latest = _Drop(files or ())
        self._waiting.append(self._latest)

    def answers(self, answers: Answers) -> Iterator[Answer]:
        """The answers for the last drop, until there is a newer one.

        Nothing at all if another call has them already.
        """
        try:
            drop = self._waiting.pop()
        except IndexError:
            return
        with closing(answers.dropped(drop.files)) as found:
            for answer in found:
                if self._latest is not drop:
                    return
                yield answer
