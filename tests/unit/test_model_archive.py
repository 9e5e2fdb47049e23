"""What is read from an archive without running it, and files that are none."""

import zipfile
from pathlib import Path

import pytest

from catdog_serving.errors import NotReadyError
from catdog_serving.model_archive import (
    archive_facts,
    archive_runtime,
    archive_version,
    open_archive,
)

PLACES = {"manifest": "MAR-INF/MANIFEST.json", "model": "model.json"}


def packed(path: Path, **files: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(PLACES[name], content)
    return path


def test_version_and_facts_are_read(tmp_path: Path) -> None:
    archive = packed(
        tmp_path / "x.mar",
        manifest='{"model": {"modelVersion": "2.0"}}',
        model='{"runtime": "onnx", "later": 1}',
    )
    assert archive_version(archive) == "2.0"
    assert archive_facts(archive) == {"runtime": "onnx", "later": 1}
    assert archive_runtime(archive) == "onnx"


@pytest.mark.parametrize(
    "files", [{}, {"manifest": "{", "model": "\xff{"}], ids=["empty", "broken"]
)
def test_a_zip_file_of_something_else_is_said_in_one_error(
    files: dict[str, str], tmp_path: Path
) -> None:
    archive = packed(tmp_path / "x.mar", **files)
    for read in (archive_version, archive_facts):
        with pytest.raises(NotReadyError, match=r"x\.mar is not a model archive: "):
            read(archive)
    assert archive_runtime(archive) is None


def test_a_file_that_is_no_zip_is_said_in_one_error(tmp_path: Path) -> None:
    junk = tmp_path / "x.mar"
    junk.write_bytes(b"junk")
    for read in (archive_version, archive_facts):
        with pytest.raises(NotReadyError, match="is not a model archive"):
            read(junk)
    with pytest.raises(NotReadyError, match="is not a model archive"), open_archive(junk):
        pass
