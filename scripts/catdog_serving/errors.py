"""Every error that catdog raises on purpose, and the exit code it ends a command with.

CatDogError
├── ServerError              an answer that is not a prediction                      3
│   ├── InvalidImageError        the server refused the image (4xx)                1
│   ├── ServerBusyError          full queue or no worker (503), over a limit (429)   3
│   └── ServerUnavailableError   no server, or it broke off                          3
├── UsageError               the command was given what does not go together         2
├── NotReadyError            this machine lacks something: weights, Java, a port     3
└── RefusedError             something failed its check; nothing was changed         4
"""


class CatDogError(Exception):
    """The base of all. `str()` is one line that says what was wrong and what to do.

    Attributes:
        exit_code: What the command line ends with.
    """

    exit_code = 3


class ServerError(CatDogError):
    """An answer that is not a prediction.

    Attributes:
        status: The HTTP status; None when there was no answer.
        kind: The `type` of the error body, such as "InvalidImage".
        message: The error body's message.
    """

    def __init__(self, message: str, *, status: int | None = None, kind: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind or type(self).__name__
        self.message = message


class InvalidImageError(ServerError):
    """The image was refused; sending it again will not help."""

    exit_code = 1


class ServerBusyError(ServerError):
    """The server has too much to do, or this client sends too much; it helps to wait.

    Attributes:
        retry_after_s: How long the answer asked to wait; 0 when it did not.
    """

    def __init__(
        self, message: str, *, status: int | None = None, kind: str = "", retry_after_s: int = 0
    ) -> None:
        super().__init__(message, status=status, kind=kind)
        self.retry_after_s = retry_after_s


class ServerUnavailableError(ServerError):
    """There is no server, it broke the connection, or it answered with nonsense."""


class UsageError(CatDogError):
    """Arguments that are wrong, or do not go together."""

    exit_code = 2


class NotReadyError(CatDogError):
    """This machine lacks something that the command needs."""


class RefusedError(CatDogError):
    """Something failed its check, and everything was left as it was."""

    exit_code = 4
