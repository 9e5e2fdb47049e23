"""catdog explain on files and folders, with a stand-in for the network."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from catdog.results import Box
from catdog_serving.errors import NotReadyError, UsageError
from catdog_serving.find_images import find_sources
from catdog_serving.folder.explain_files import (
    ExplainedFile,
    box_text,
    explain_files,
    explained_row,
)
from catdog_serving.folder.image_result import ImageFailure
from tests.support.images import encode
from tests.support.stub_backend import GreenBackend, touch


def explained(output: Path, *paths: Path) -> list[ExplainedFile]:
    return list(explain_files(find_sources(paths), GreenBackend(), output))


def test_folders_are_kept_and_no_two_overlays_meet(tmp_path: Path) -> None:
    album, other = tmp_path / "album", tmp_path / "other"
    for path in (album / "a.png", album / "a.jpg", album / "deep" / "a.png", other / "a.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(Image.new("RGB", (100, 60))))
    output = tmp_path / "maps"
    found = explained(output, album, other / "a.png")
    assert [str(one.target.relative_to(output)) for one in found] == [
        "a.jpg.overlay.jpg",
        "a.png.overlay.jpg",
        "deep/a.png.overlay.jpg",
        "a.png (2).overlay.jpg",
    ]
    assert all(one.target.is_file() for one in found)


def test_the_map_and_the_box_are_drawn_at_the_images_own_scale(tmp_path: Path) -> None:
    image = tmp_path / "large.png"
    image.write_bytes(encode(Image.new("RGB", (3000, 1800), "navy")))
    (one,) = explained(tmp_path / "maps", image)
    with Image.open(one.target) as overlay:
        assert overlay.size == (2048, 1229)
        left, right = overlay.getpixel((100, 600)), overlay.getpixel((1900, 600))
        edge = overlay.getpixel((1030, 600))
    assert left == pytest.approx((0, 0, 128), abs=12)
    assert min(right) > 60  # light yellow over navy
    assert edge[1] > 180  # the box's left side, at half the width
    assert explained_row(one).plain == f"cat      {'50 0 100 60':19}  {one.target}"


@pytest.mark.parametrize(
    ("box", "text"), [((0, 0, 100, 55), "fills the image"), ((0, 0, 100, 53), "0 0 100 53")]
)
def test_a_box_that_is_the_frame_says_so(box: tuple[int, int, int, int], text: str) -> None:
    assert box_text(Box(*box), (100, 60)) == text


def test_a_file_that_fails_has_a_reason_and_no_overlay(tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"bad")
    (one,) = explained(tmp_path / "maps", bad)
    assert one.outcome == ImageFailure("InvalidImage", "cannot decode")
    assert not one.target.exists()
    assert explained_row(one).plain == f"failed   {bad}: cannot decode"


def test_an_output_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(encode(Image.new("RGB", (100, 60))))
    in_the_way = tmp_path / "maps"
    in_the_way.write_text("a file")
    with pytest.raises(NotReadyError, match="cannot write"):
        explained(in_the_way, image)


def test_a_name_that_is_too_long_with_its_suffix_costs_the_others_nothing(tmp_path: Path) -> None:
    album = tmp_path / "album"
    album.mkdir()
    for name in ("a" * 247 + ".png", "b.png"):
        (album / name).write_bytes(encode(Image.new("RGB", (100, 60))))
    long, short = explained(tmp_path / "maps", album)
    assert isinstance(long.outcome, ImageFailure)
    assert "File name too long" in long.outcome.message
    assert short.target.is_file()


@pytest.mark.parametrize("there_before", [True, False])
def test_a_full_disk_leaves_the_overlay_as_it_was(there_before: bool, tmp_path: Path) -> None:
    touch(tmp_path / "maps", ".keep")
    noise = Image.effect_noise((800, 600), 90).convert("RGB")
    (tmp_path / "a.png").write_bytes(encode(noise))
    if there_before:
        explained(tmp_path / "maps", tmp_path / "a.png")
    before = {path.name: path.read_bytes() for path in (tmp_path / "maps").iterdir()}
    program = """
import resource, signal, sys
from pathlib import Path
from tests.unit.folder.test_explain_files import explained
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, 3_000))
explained(Path(sys.argv[1], "maps"), Path(sys.argv[1], "a.png"))
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "NotReadyError: cannot write" in result.stderr
    assert "File too large" in result.stderr
    after = {path.name: path.read_bytes() for path in (tmp_path / "maps").iterdir()}
    assert after == before


@pytest.mark.parametrize("link", [None, "symbolic", "hard"])
def test_an_overlay_replaces_no_image(link: str | None, tmp_path: Path) -> None:
    album, output = tmp_path / "album", tmp_path / "maps"
    for folder in (album, output):
        folder.mkdir()
    image = encode(Image.new("RGB", (100, 60)))
    (album / "a.png").write_bytes(image)
    other, target = album / "b.png", output / "a.png.overlay.jpg"
    if link is None:  # from an earlier run, to be explained itself
        other = target
    other.write_bytes(image)
    if link == "symbolic":
        target.symlink_to(other)
    elif link == "hard":
        target.hardlink_to(other)
    with pytest.raises(UsageError, match="is to be read"):
        explained(output, album / "a.png", other)
    assert other.read_bytes() == image
    assert len(list(output.iterdir())) == 1


@pytest.mark.parametrize("content", [b"mine", encode(Image.new("RGB", (9, 9)), "JPEG")])
def test_an_overlay_replaces_an_overlay_and_no_strangers_file(
    content: bytes, tmp_path: Path
) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(encode(Image.new("RGB", (100, 60))))
    stranger = tmp_path / "maps/a.png.overlay.jpg"
    stranger.parent.mkdir()
    stranger.write_bytes(content)
    for _ in range(2):
        first, second = explained(tmp_path / "maps", tmp_path / "a.png", tmp_path / "b.png")
        assert isinstance(first.outcome, ImageFailure)
        assert first.outcome.type == "Unwritable"
        assert "is there, and catdog did not make it" in first.outcome.message
        assert stranger.read_bytes() == content
        assert not isinstance(second.outcome, ImageFailure)
        assert second.target.is_file()


def test_overlays_do_not_lie_among_the_images(tmp_path: Path) -> None:
    """The next run would explain them, too."""
    (tmp_path / "a.png").write_bytes(encode(Image.new("RGB", (100, 60))))
    with pytest.raises(UsageError, match="choose a folder outside of it"):
        explained(tmp_path / "maps", tmp_path)
    assert not (tmp_path / "maps").exists()
    (one,) = explained(tmp_path, tmp_path / "a.png")
    assert one.target == tmp_path / "a.png.overlay.jpg"
