"""What is the sender's fault: an image that cannot be classified, and how it keeps its place."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, TypeVar

Result = TypeVar("Result")
Failure = TypeVar("Failure")


class InvalidReason(StrEnum):
    """Why an image was refused; the names are stable, metrics count by them."""

    EMPTY = "empty"
    WRONG_FORM = "wrong_form"
    UNDECODABLE = "undecodable"
    TOO_MANY_PIXELS = "too_many_pixels"
    EXTREME_SHAPE = "extreme_shape"
    TOO_COMPLEX = "too_complex"
    CUT_OFF = "cut_off"
    UNSUPPORTED_FORMAT = "unsupported_format"


class InvalidImage(Exception):
    """This input cannot be classified. The one error that is the sender's fault.

    It is raised by `Decoder` and travels as a value after that, so that
    one bad image never disturbs its neighbours in a batch.
    """

    def __init__(self, reason: InvalidReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


def map_valid(
    function: Callable[[list[Any]], Sequence[Result]],
    items: Sequence[Any],
    failure: type[Failure],
) -> list[Result | Failure]:
    """Apply a function to the items that are no failures; failures keep their places.

    Args:
        function: From M items to M results, in order; not called if there are none.
        items: N items, M of which are valid.
        failure: The type of those that are not.

    Returns:
        N results, in order.

    Raises:
        ValueError: If the function gives more or fewer results than it got items.
    """
    valid = [item for item in items if not isinstance(item, failure)]
    results = function(valid) if valid else ()
    if len(results) != len(valid):
        raise ValueError(f"expected {len(valid)} results, got {len(results)}")
    following = iter(results)
    return [item if isinstance(item, failure) else next(following) for item in items]
