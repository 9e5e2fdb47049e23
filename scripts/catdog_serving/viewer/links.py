"""Links from a page to files beside it."""

import os
from urllib.parse import quote


def file_link(path: str, folder: str) -> str | None:
    """A link from a page in `folder` to a file, relative and percent-encoded.

    It begins with a dot and holds no colon, so that no name can become a scheme such
    as javascript:. None for a name that cannot be a file's.
    """
    try:
        return "./" + quote(os.fsencode(os.path.relpath(path, folder)))
    except ValueError:  # of which UnicodeEncodeError is one
        return None
