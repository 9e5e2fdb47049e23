"""Take the screenshot of a command in a terminal, when nine tenths of its images are done:

    python -m tools.terminal_screenshot docs/images/classify.png catdog classify Pictures

It runs in the current folder.
"""

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from tests.support.browser import chromium

LINES, COLUMNS = 26, 112
SHARE = 0.9  # of the images
_ERASE_LINE = "\x1b[2K"
_THEME = TerminalTheme(
    (22, 25, 29),
    (230, 233, 236),
    [
        *((22, 25, 29), (224, 108, 117), (91, 192, 122), (229, 192, 123)),
        *((97, 175, 239), (198, 120, 221), (86, 182, 194), (230, 233, 236)),
    ],
)
_PAGE = """<style>body {{ margin: 0; background: {background}; color: {foreground}; }}
pre {{ margin: 12px 16px; font: 13px/17.6px "DejaVu Sans Mono", monospace; }}</style>
<pre>{code}</pre>"""


def main(target: Path, command: Sequence[str]) -> None:
    console = Console(record=True, file=io.StringIO(), width=COLUMNS)
    for line in _screen(command):
        console.print(Text.from_ansi(line), soft_wrap=True)
    html = console.export_html(theme=_THEME, code_format=_PAGE, inline_styles=True)
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 920, "height": 480})
        page.set_content(html)
        page.screenshot(path=target)
    Image.open(target).convert("RGB").quantize(256, kmeans=2).save(target, optimize=True)


def _screen(command: Sequence[str]) -> list[str]:
    """The lines that stand in the terminal at that time, with their colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = os.environ | {"TERM": "xterm-256color"}
    output = ""
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        while not _is_far(output):
            output += os.read(ours, 1 << 16).decode(errors="replace")
        process.kill()
    os.close(ours)
    # A line that is drawn again, as the bar is, erases what stood there.
    return [line.rpartition(_ERASE_LINE)[2].rstrip("\r") for line in output.split("\n")][-LINES:]


def _is_far(output: str) -> bool:
    counts = re.findall(r"(\d+)/(\d+)\D", output)
    return bool(counts) and int(counts[-1][0]) >= SHARE * int(counts[-1][1])


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
