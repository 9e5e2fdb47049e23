"""What is read in a server's logs, and how much of them."""

import os
from datetime import datetime
from pathlib import Path

import pytest

from catdog_serving.torchserve.server_logs import ServerLogs


@pytest.fixture
def logs(tmp_path: Path) -> ServerLogs:
    return ServerLogs(tmp_path)


def test_of_a_large_log_only_the_end_is_read(logs: ServerLogs) -> None:
    stamp = "2026-11-24T05:00:00,000 "
    lines = ["Backend worker process died.", "Traceback (most recent call last):", "OSError: it"]
    with logs.workers.open("w") as log:
        log.truncate(1 << 36)  # 64 GB that nobody could read
        log.seek(0, os.SEEK_END)
        log.write("\n" + "".join(f"{stamp}{line}\n" for line in lines))
    assert logs.last_failure() == "OSError: it"
    assert logs.tail(1).endswith("OSError: it")


def test_the_log_tail_shows_both_logs(logs: ServerLogs) -> None:
    logs.console.write_text("".join(f"console {i}\n" for i in range(100)))
    logs.workers.write_text("Traceback\n")
    tail = logs.tail(lines=2)
    assert "console 98\nconsole 99" in tail
    assert "console 97" not in tail
    assert "Traceback" in tail


def test_the_reason_is_the_last_line_of_the_last_deadly_traceback(logs: ServerLogs) -> None:
    assert logs.last_failure() is None
    stamp = "2026-11-24T05:00:00,000 "

    def write(lines: list[str]) -> None:
        logs.workers.write_text("".join(f"{stamp}{line}\n" for line in lines))

    lines = [
        *("loaded", "Backend worker process died.", "Traceback (most recent call last):"),
        *("  File x, line 1", "    load()", "OSError: first"),
        *("", "During handling of the above exception, another exception occurred:", ""),
        *("Traceback (most recent call last):", "  File y", "ValueError: the reason"),
        *("unrelated: later line",),
    ]
    write(lines[:1])
    assert logs.last_failure() is None
    write(lines)
    assert logs.last_failure() == "ValueError: the reason"
    assert logs.last_failure(datetime(2026, 11, 24, 5, 0, 0)) == "ValueError: the reason"
    assert logs.last_failure(datetime(2026, 11, 24, 5, 0, 0, 1000)) is None
    second_try = "ModuleNotFoundError: No module named 'ts.torch_handler.catdog_handler'"
    write([*lines, "Traceback (most recent call last):", "  File z", second_try])
    assert logs.last_failure() == "ValueError: the reason"
