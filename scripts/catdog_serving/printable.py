"""Texts that hold a stranger's words, such as a file's name, for a terminal."""


def printable(text: str) -> str:
    """A text as one line, without what would move the cursor or colour the terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def printable_lines(text: str, indent: str = "") -> str:
    """The same for several lines, all but the first indented: a name may hold a line end."""
    return f"\n{indent}".join(map(printable, text.split("\n")))
