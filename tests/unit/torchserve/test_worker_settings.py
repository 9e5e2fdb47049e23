"""Worker settings are changed in config.properties, and nothing beside them."""

import difflib
import json
import os
from pathlib import Path

import pytest

from catdog_serving.errors import RefusedError
from catdog_serving.torchserve.properties import parse_properties
from catdog_serving.torchserve.serving_config import ServingConfig
from catdog_serving.torchserve.worker_settings import (
    WorkerSettings,
    replace_worker_settings,
    write_worker_settings,
)
from tests.support.configs import MakeConfig
from tests.support.paths import ROOT

SHIPPED = (ROOT / "config" / "config.properties").read_bytes()
WANTED = WorkerSettings(workers=3, batch_size=16, max_batch_delay_ms=20)


def changed_lines(before: bytes, after: bytes) -> list[str]:
    lines = difflib.ndiff(before.decode().splitlines(True), after.decode().splitlines(True))
    return [line for line in lines if line.startswith("+ ")]


def test_only_the_four_numbers_of_the_shipped_file_change(tmp_path: Path) -> None:
    path = tmp_path / "config.properties"
    path.write_bytes(SHIPPED)
    path.chmod(0o640)
    write_worker_settings(path, WANTED)
    assert changed_lines(SHIPPED, path.read_bytes()) == [
        '+       "minWorkers": 3,\\\n',
        '+       "maxWorkers": 3,\\\n',
        '+       "batchSize": 16,\\\n',
        '+       "maxBatchDelay": 20\\\n',
    ]
    assert WorkerSettings.of(ServingConfig.read(path)) == WANTED
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(
    "text",
    [
        *("workers_per_gpu=auto\n", " workers_per_gpu = 8\r\n", ""),
        *(
            "workers_per_gpu: 8\n",
            "workers_per_gpu 8\n",
            "workers_per_gpu \t :8",
            "\tworkers_per_gpu\t8",
        ),
        *("workers_per_gpu=\\\n  8\n", "workers_per_gpu=8\nworkers_per_gpu:7\n"),
    ],
)
def test_with_gpus_the_workers_of_each_are_written_too(
    tmp_path: Path, make_config: MakeConfig, text: str
) -> None:
    path = make_config(None).path
    shipped = path.read_text().replace("workers_per_gpu=auto\n", "")
    path.write_bytes((shipped + text).encode())
    write_worker_settings(path, WorkerSettings(4, 64, 1), gpus=2)
    config = ServingConfig.read(path)
    assert (config.workers_per_gpu, config.worker_settings["maxWorkers"]) == (2, 4)
    assert "workers_per_gpu=2" in path.read_text().splitlines()


def test_writing_the_same_settings_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "config.properties"
    path.write_bytes(SHIPPED)
    write_worker_settings(path, WorkerSettings.of(ServingConfig.read(path)))
    assert path.read_bytes() == SHIPPED


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("key", ["models=", "models: ", "models ", "  models\t= "])
def test_models_is_found_however_it_is_spelled_and_the_new_key_stands_behind_it(
    key: str, line_end: str
) -> None:
    lines = ["load_models=all", key + '{"catdog": {"1.0": {"batchSize": 1}}}', "model_store=x"]
    changed = replace_worker_settings(line_end.join(lines), WANTED, gpus=1)
    assert changed.replace(line_end, "").count("\n") == 0
    assert changed.startswith(f"load_models=all{line_end}models={{")
    assert changed.endswith(f"}}{line_end}workers_per_gpu=3{line_end}model_store=x")


def test_other_models_versions_keys_comments_and_line_ends_stay() -> None:
    before = '# "catdog": {"1.0": {"minWorkers": 9}}\r\nmodel_store=x\\\r\ny\r\n'
    after = '\r\nnote="batchSize": 5'
    models = {
        "other": {"1.0": {"minWorkers": 7}},
        "catdog": {"2.0": {"batchSize": 1, "x": "y"}, "1.0": {"batchSize": 1}},
    }
    written = json.dumps(models).replace(", ", ", \\\r\n  ")
    changed = replace_worker_settings(f"{before}models = {written}{after}", WANTED)
    assert changed.startswith(before)
    assert changed.endswith(after)
    assert "\n" not in changed.replace("\r\n", "")
    models["catdog"]["2.0"] |= WANTED.to_entry()
    assert json.loads(parse_properties(changed.replace("\r\n", "\n"))["models"]) == models


@pytest.mark.parametrize(
    "text",
    [
        "model_store=x\n",
        "models=\n",
        'models={"other": {"1.0": {"batchSize": 1}}}\n',
        'models={"catdog": {}}\n',
        'models={"catdog": {"1.0": {"batchSize": 1}\n',
        'models={"catdog": {"1.0": 5}}\n',
        'models={"catdog": {"1.0": {}}}\nmodels={"catdog": {"1.0": {}}}\n',  # the later one counts
        'models={"catdog": {"1.0": {}}}\nworkers\\_per_gpu=5\n',  # so it does here
    ],
)
def test_what_cannot_be_read_is_refused_and_stays(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.properties"
    path.write_text(text)
    with pytest.raises(RefusedError, match="no entry for catdog that can be read"):
        write_worker_settings(path, WANTED, gpus=1)
    assert path.read_text() == text


def test_behind_a_link_the_file_changes_and_the_link_stays(tmp_path: Path) -> None:
    real, link = tmp_path / "real.properties", tmp_path / "config.properties"
    real.write_bytes(SHIPPED)
    link.symlink_to(real)
    write_worker_settings(link, WANTED)
    assert link.is_symlink()
    assert b'"batchSize": 16' in real.read_bytes()
