"""SIGKILL at random moments of the commands that change a server: one truth, and no lost answer.

`make soak KILLS=60` does it 40 times for each command.
"""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from catdog_serving.archive_copies import has_files_of
from catdog_serving.model_archive import archive_facts, file_sha256
from catdog_serving.rollout.switch import served_folder
from catdog_serving.torchserve.run_directory import SERVER_CLASS
from catdog_serving.torchserve.server import TorchServe
from tests.support.archive_cache import with_handler
from tests.support.configs import MakeConfig
from tests.support.operators import CAT, CLOCK, WORKER_SETTINGS, assert_one_version, catdog
from tests.support.processes import assert_nothing_left, processes_of
from tests.support.random_kills import SERVER_KILLS, Killer
from tests.support.raw_requests import send_one, steady_load

WATCH = ("--watch-s", 1)


@pytest.fixture(scope="module")
def archives(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two of the same network, whose handlers differ."""
    other = tmp_path_factory.mktemp("other") / "other.mar"
    return archive, with_handler(archive, other, CLOCK, f"        # another one\n{CLOCK}")


@pytest.fixture(scope="module")
def operated(archives: tuple[Path, Path], make_config: MakeConfig) -> Iterator[TorchServe]:
    """A server whose archive is the second that was deployed: there is one to go back to."""
    with TorchServe(make_config(archives[0], worker_settings=WORKER_SETTINGS)) as server:
        done(server, "deploy", archives[1], *WATCH)
        yield server


def done(server: TorchServe, *words: object) -> None:
    ended = catdog(server, *words)
    assert ended.returncode == 0, ended.stderr


def code_of(archive: Path) -> str:
    """What tells the two archives apart, whichever version they are stamped with."""
    return str(archive_facts(archive)["code_sha256"])


@pytest.mark.parametrize("command", ["deploy", "rollback", "scale"])
def test_memory_and_disk_agree_and_no_answer_is_lost(
    command: str, operated: TorchServe, archives: tuple[Path, Path]
) -> None:
    killer = Killer(command, SERVER_KILLS)
    config = operated.config
    places = (config.archive, config.previous_archive)
    workers = 2 if command == "scale" else 1
    answers: Counter[int] = Counter()

    def words() -> tuple[object, ...]:
        other = next(path for path in archives if code_of(path) != code_of(config.archive))
        given = {"deploy": (other, *WATCH), "rollback": WATCH, "scale": (1,)}[command]
        return (command, *given, "--config", config.path)

    def look() -> set[object]:
        """The switch that is pending."""
        return {*operated.run.path.glob("rollover.json")}

    done(operated, "scale", workers)
    killer.measure(words(), look)
    for _ in killer.rounds():
        done(operated, "scale", workers)
        before = [code_of(path) for path in places]
        with steady_load(config.inference_url, [CAT], per_s=5) as sent:
            killer.strike(words(), look)
            after = operated.versions()[0]
            done(operated, "scale", len(after.workers))  # the next command
        answers.update(answer.status for answer in sent)
        assert_one_version(operated, len(after.workers))
        (model,) = operated.versions()
        assert has_files_of(config.archive, served_folder(model))
        now = [code_of(path) for path in places]
        assert now == before or (command != "scale" and now == before[::-1])
    print(f"{command}: answers meanwhile {dict(answers)}")
    assert set(answers) == {200}


def test_serve_recovers_and_leaves_nothing(archive: Path, make_config: MakeConfig) -> None:
    """In turn the command is killed, Java, or a worker: while it starts, or when it serves."""
    server = TorchServe(make_config(archive))
    killer = Killer("serve", SERVER_KILLS)
    words = ("serve", "--config", server.config.path)

    def look(is_java: bool) -> set[psutil.Process]:
        found = processes_of(server)
        return {p for p in found if (SERVER_CLASS in p.info["cmdline"]) is is_java}

    def victim(is_java: bool) -> psutil.Process | None:
        return next(iter(look(is_java)), None)

    try:
        killer.measure(words, partial(look, is_java=True))
        done(server, "stop")
        assert_nothing_left(server)
        for number in killer.rounds():
            is_java = number % 3 != 2
            hit = partial(victim, is_java) if number % 3 else None
            killer.strike(words, partial(look, is_java), hit)
            told = catdog(server, "status")
            assert told.returncode in (0, 3)
            assert "Traceback" not in told.stderr
            done(server, "serve")
            assert send_one(server.config.inference_url, CAT).status == 200
            done(server, "status")
            done(server, "stop")
            assert_nothing_left(server)
            assert file_sha256(server.config.archive) == file_sha256(archive)
    finally:
        server.stop()
