"""A folder's run that is killed twenty times at random points."""

from pathlib import Path

from tests.support.albums import kill_and_resume, make_album
from tests.support.step_kills import kill_and_resume_stub

KILLS = 20


def test_killed_at_random_points_and_resumed_the_output_is_that_of_one_run(
    archive: Path, photos: list[Path], tmp_path: Path
) -> None:
    album = make_album(tmp_path / "album", photos, copies=6)
    kill_and_resume(archive, album, tmp_path, KILLS)


def test_killed_while_rows_come_as_fast_as_they_can_be_kept(tmp_path: Path) -> None:
    kill_and_resume_stub(tmp_path, KILLS, files=20_000, delay_ms=0.05)
