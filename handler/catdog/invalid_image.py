"""What is the sender's fault: an image that cannot be classified, with the reason."""

from enum import StrEnum


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
