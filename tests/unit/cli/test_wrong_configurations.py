"""A wrong config.properties is one line that names key, value and choices; nothing starts."""

import json
import shutil
from pathlib import Path

import pytest

from catdog_serving.torchserve.properties import parse_properties, write_properties
from catdog_serving.torchserve.run_directory import RunDirectory
from catdog_serving.torchserve.serving_config import ServingConfig
from tests.support.command_line import catdog_here
from tests.support.paths import ROOT

SHIPPED = ROOT / "config" / "config.properties"
ADDRESS = "it takes http://HOST:PORT, with a port from 1 to 65535"
NO_KEY = "there is no such key"
NUMBER = "it takes a whole number, "
BYTES = "it takes bytes, a whole number from 1 to 2,147,483,647"

# What is set in the good file; None takes the key away. -> What the line says.
KEYS_SET = [
    ({"job_queue_sizee": "48"}, f"job_queue_sizee=48: {NO_KEY}; did you mean job_queue_size?"),
    ({"Max_Request_Size": "1"}, f"{NO_KEY}; did you mean max_request_size?"),
    ({"inference_adress": "x"}, "did you mean inference_address?"),
    ({"worker_per_gpu": "2"}, "did you mean workers_per_gpu?"),
    ({"note": "x"}, f"note=x: {NO_KEY}; there are run_directory, allow_remote, "),
    ({"keystore_passs": "secret"}, f"keystore_passs=...: {NO_KEY}; did you mean keystore_pass?"),
    ({"model_store": None}, "the keys model_store are missing"),
    ({"models": None, "metrics_address": None}, "the keys metrics_address, models are missing"),
    ({"model_store": ""}, "model_store=: it takes some text (the folder of archives)"),
    ({"inference_address": "http://127.0.0.1:abc"}, f"127.0.0.1:abc: {ADDRESS}"),
    ({"inference_address": "http://127.0.0.1:0"}, ADDRESS),
    ({"inference_address": "http://127.0.0.1:65536"}, ADDRESS),
    ({"inference_address": "http://127.0.0.1"}, ADDRESS),
    ({"inference_address": "127.0.0.1:8080"}, ADDRESS),
    ({"inference_address": "http://127.0.0.1:8080/"}, ADDRESS),
    ({"inference_address": "http://:8080"}, ADDRESS),
    ({"inference_address": "http://256.0.0.1:8080"}, ADDRESS),
    ({"inference_address": "http://[::1:8080"}, ADDRESS),
    ({"inference_address": "ftp://127.0.0.1:8080"}, ADDRESS),
    ({"inference_address": "http://me@127.0.0.1:8080"}, ADDRESS),
    ({"metrics_address": "unix:/tmp/metrics.sock"}, ADDRESS),
    ({"management_address": "unix:/tmp/x.sock"}, "catdog serve --management-socket"),
    ({"metrics_address": "http://127.0.0.1:8080"}, "are both port 8080; each needs its own"),
    ({"inference_address": "http://0.0.0.0:7070"}, "are both port 7070; each needs its own"),
    ({"grpc_inference_port": "http://127.0.0.1:7070"}, f"{NUMBER}1 to 65,535 (gRPC's port)"),
    ({"grpc_inference_port": "70700"}, f"grpc_inference_port=70700: {NUMBER}1 to 65,535"),
    ({"grpc_inference_address": "http://127.0.0.1"}, "it takes a host's name or address"),
    ({"grpc_management_address": ""}, "grpc_management_address=: it takes a host"),
    ({"allow_remote": "inference"}, "allow_remote=inference: it takes a list of management_add"),
    ({"load_models": "catdogs.mar"}, "it takes catdog.mar, or a list with it, or all"),
    ({"number_of_gpu": "-1"}, f"number_of_gpu=-1: {NUMBER}0 to 1,024"),
    ({"number_of_gpu": "all"}, f"number_of_gpu=all: {NUMBER}0 to 1,024"),
    ({"number_of_gpu": ""}, f"number_of_gpu=: {NUMBER}0 to 1,024"),
    ({"workers_per_gpu": "9"}, "workers_per_gpu=9: it takes auto, 1, 2, 3, 4, 5, 6, 7, 8 (workers"),
    ({"job_queue_size": "0"}, f"=0: {NUMBER}1 to 2,147,483,647 (requests that may wait)"),
    ({"job_queue_size": "48.5"}, f"job_queue_size=48.5: {NUMBER}1 to"),
    ({"job_queue_size": "٤٨"}, f"job_queue_size=٤٨: {NUMBER}1 to"),
    ({"max_request_size": "25MB"}, f"max_request_size=25MB: {BYTES} (the largest body)"),
    ({"max_request_size": "2147483648"}, BYTES),
    ({"max_response_size": "-1"}, BYTES),
    ({"decode_input_request": "False"}, "decode_input_request=False: it takes true or false"),
    ({"disable_token_authorization": "yes"}, "=yes: it takes true or false"),
    ({"metrics_mode": "statsd"}, "metrics_mode=statsd: it takes prometheus, log, legacy"),
    ({"metrics_config": "config/metrics.yml"}, "metrics_config: there is no file "),
    ({"token_expiration_min": "1h"}, f"token_expiration_min=1h: {NUMBER}1 to"),
    ({"number_of_netty_threads": "many"}, f"number_of_netty_threads=many: {NUMBER}0 to"),
    ({"default_response_timeout": "0"}, f"default_response_timeout=0: {NUMBER}1 to"),
    ({"vmargs": "-Xmx2gb"}, "vmargs: -Xmx2gb: it takes a size, such as 512m or 2g"),
    ({"vmargs": "-Xms4g -Xmx2g"}, "vmargs: -Xms is more than -Xmx"),
    ({"vmargs": '-Dx="y'}, "vmargs: No closing quotation"),
    ({"vmargs": "-Dlog4j.configurationFile=config/log4j.xml"}, "vmargs: there is no file "),
    ({"models": "{catdog: {}}"}, "models is no JSON: "),
    ({"models": "[]"}, 'models has no entry for catdog; models takes {"catdog": {"1.0": '),
    ({"models": '{"catdogs": {}}'}, "models has no entry for catdog"),
    ({"models": '{"catdog": {}}'}, "models: catdog needs one version"),
    ({"models": '{"catdog": {"1.0": {}, "2.0": {}}}'}, "models: catdog needs one version"),
    ({"models": '{"catdog": {"1.0": []}}'}, "models: 1.0 holds no fields"),
    ({"models": '{"catdog": {"1.0": {}}, "x": {}}'}, "models has an entry for x; "),
]  # fmt: skip
FIELDS_SET = [
    ({"batchsize": 16}, "models: batchsize=16: there is no such field; did you mean batchSize?"),
    ({"delay": 5}, "models: delay=5: there is no such field; there are minWorkers, maxWorkers, "),
    ({"batchSize": None}, "models: batchSize is missing"),
    ({"batchSize": 0}, f"models: batchSize=0: {NUMBER}1 to 1,024"),
    ({"batchSize": "8"}, f'models: batchSize="8": {NUMBER}1 to 1,024'),
    ({"batchSize": 8.5}, f"models: batchSize=8.5: {NUMBER}1 to 1,024"),
    ({"batchSize": True}, f"models: batchSize=true: {NUMBER}1 to 1,024"),
    ({"maxBatchDelay": 0}, f"maxBatchDelay=0: {NUMBER}1 to 2,147,483,647 ms;"),
    ({"minWorkers": 0}, f"models: minWorkers=0: {NUMBER}1 to 1,024"),
    ({"minWorkers": 2}, "models: minWorkers=2: it takes a whole number, 1 to maxWorkers=1"),
    ({"maxWorkers": -1}, f"models: maxWorkers=-1: {NUMBER}1 to 1,024"),
    ({"responseTimeout": 0}, f"models: responseTimeout=0: {NUMBER}1 to"),
    ({"defaultVersion": "true"}, 'models: defaultVersion="true": it takes true or false'),
    ({"marName": "dog.mar"}, 'models: marName="dog.mar": it takes catdog.mar'),
]  # fmt: skip


def good(folder: Path) -> dict[str, str]:
    """The values of the shipped file, copied with what lies beside it."""
    shutil.copytree(ROOT / "config", folder / "config")
    return parse_properties(SHIPPED.read_text(encoding="utf-8"))


def refused(folder: Path, values: dict[str, str], complaint: str) -> None:
    path = folder / "config" / "config.properties"
    write_properties(path, values)
    result = catdog_here("serve", "--config", path)
    assert result.returncode == 3, result.stdout + result.stderr
    assert complaint in result.stderr
    assert result.stderr.startswith("catdog: ")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
    run = RunDirectory.of(ServingConfig(path, values))
    assert not run.path.exists()
    assert run.process() is None


@pytest.mark.parametrize(("changes", "complaint"), KEYS_SET)
def test_a_wrong_key_or_value_starts_nothing(
    tmp_path: Path, changes: dict[str, str | None], complaint: str
) -> None:
    changed = good(tmp_path) | changes
    refused(tmp_path, {key: v for key, v in changed.items() if v is not None}, complaint)


@pytest.mark.parametrize(("changes", "complaint"), FIELDS_SET)
def test_a_wrong_field_of_models_starts_nothing(
    tmp_path: Path, changes: dict[str, object], complaint: str
) -> None:
    values = good(tmp_path)
    changed = json.loads(values["models"])["catdog"]["1.0"] | changes
    entry = {field: v for field, v in changed.items() if v is not None}
    refused(tmp_path, values | {"models": json.dumps({"catdog": {"1.0": entry}})}, complaint)


def test_the_good_file_is_not_what_was_refused(tmp_path: Path) -> None:
    values = good(tmp_path)
    path = tmp_path / "config" / "config.properties"
    write_properties(path, values)
    result = catdog_here("serve", "--config", path)
    assert "build it with: catdog package" in result.stderr
