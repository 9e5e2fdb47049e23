"""What `catdog classify` refuses about Ray, URIs and Parquet before any work, and how."""

import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from catdog_serving.archive_copies import pack_folder
from catdog_serving.extras import install_hint
from catdog_serving.on_ray.session import _silence
from tests.support.command_line import catdog_here
from tests.support.model_dirs import model_info, write_model_dir
from tests.support.paths import SAMPLES

IMAGE = str(SAMPLES / "rocket.jpg")
ON_RAY = ("--backend", "ray")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """All that the command reads of one before any work: it lacks the network."""
    folder = tmp_path / "model"
    folder.mkdir()
    pack_folder(write_model_dir(folder, model_info()), tmp_path / "catdog.mar", "1.0")
    return tmp_path / "catdog.mar"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["s3://photos/2024"], "are read by --backend ray only"),
        (["file:///photos", "--backend", "local"], "are read by --backend ray only"),
        (["ftp://photos", *ON_RAY], "there are only s3://, gs://, file://"),
        (["s3://photos", *ON_RAY, "--report", "x.html"], "need the images on this machine"),
        (["gs://photos", *ON_RAY, "--copy-to", "x"], "need the images on this machine"),
        ([IMAGE, "--address", "auto"], "--address goes with --backend ray"),
        ([IMAGE, "--format", "parquet"], "needs --output FILE.parquet"),
    ],
)
def test_what_does_not_go_together_is_exit_2(arguments: list[str], complaint: str) -> None:
    result = catdog_here("classify", *arguments)
    assert result.returncode == 2
    assert complaint in result.stderr
    assert result.stderr.count("\n") == 1


def test_ray_client_is_refused_for_what_runs(archive: Path) -> None:
    result = catdog_here("classify", IMAGE, *ON_RAY, "--archive", archive, "--address", "ray://x:1")
    assert result.returncode == 2
    assert "start the command on a machine of the cluster with --address auto" in result.stderr


def test_a_cluster_that_does_not_answer_is_exit_3_at_once(archive: Path) -> None:
    result = catdog_here(
        *("classify", IMAGE, *ON_RAY, "--archive", archive, "--address", "127.0.0.1:9")
    )
    assert result.returncode == 3
    assert result.stderr.startswith("catdog: no Ray answers at 127.0.0.1:9: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("missing", "arguments", "complaint"),
    [
        ("ray", ["--backend", "ray", "--archive", "{archive}"], "--backend ray needs ray"),
        ("ray.data", ["--backend", "ray", "--archive", "{archive}"], "--backend ray needs ray"),
        ("pyarrow", ["--format", "parquet", "--output", "x.parquet"], "parquet needs pyarrow"),
    ],
)
def test_a_missing_package_is_exit_3_with_what_to_install(
    missing: str, arguments: list[str], complaint: str, archive: Path
) -> None:
    program = f"""
import sys
sys.modules[{missing!r}] = None  # importing it now raises ImportError
from catdog_serving.cli import main
main()
"""
    arguments = [each.format(archive=archive) for each in arguments]
    result = subprocess.run(
        [sys.executable, "-c", program, "classify", IMAGE, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 3, result.stderr
    assert complaint in result.stderr
    assert result.stderr.endswith(f"; run: {install_hint('ray')}\n")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("said", [{}, {"RAY_USAGE_STATS_ENABLED": "1"}])
def test_ray_sends_nothing_home_whatever_the_shell_says(said: dict[str, str]) -> None:
    with patch.dict(os.environ, {**said, "RAY_BACKEND_LOG_LEVEL": "debug"}):
        _silence()
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
        assert os.environ["RAY_BACKEND_LOG_LEVEL"] == "debug"  # that is the operator's own choice
