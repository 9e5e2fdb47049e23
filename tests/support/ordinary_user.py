"""Tests as somebody whom a file's mode binds, whoever runs them."""

import ctypes
import os
from collections.abc import Callable

_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3
_FILE_POWERS = 0b1110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER


def as_ordinary_user(work: Callable[[], int | None]) -> int:
    """Do something in a child process in which root has no powers over files.

    Returns:
        What the work returned, 0 for None; 70 if it raised an error, which is shown.
    """
    child = os.fork()
    if child == 0:
        code = 70
        try:
            _drop_file_powers()
            code = work() or 0
        except BaseException as error:  # the test itself must not go on here
            os.write(2, f"{type(error).__name__}: {error}\n".encode(errors="backslashreplace"))
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _drop_file_powers() -> None:
    header = (ctypes.c_uint32 * 2)(_VERSION, 0)
    data = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable, twice 32 bits
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capget(header, data) == 0:
        for index in range(3):
            data[index] &= ~_FILE_POWERS
        if libc.capset(header, data) == 0:
            return
    raise OSError(ctypes.get_errno(), "capabilities cannot be dropped")
