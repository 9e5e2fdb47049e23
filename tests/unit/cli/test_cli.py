"""What a command says when it is called wrongly, is broken off, or lacks what it needs."""

import inspect
import json
import signal
import subprocess
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from catdog_serving.cli import deploy, rollback, scale
from catdog_serving.rollout.deploy import DeployTimes
from catdog_serving.torchserve.private_config import free_ports
from catdog_serving.torchserve.server import READY_TIMEOUT_S
from tests.support.answers import ANSWER
from tests.support.command_line import CATDOG, catdog, catdog_here
from tests.support.configs import MakeConfig
from tests.support.http_servers import http_server, send
from tests.support.processes import wait_until
from tests.support.run_states import left_beside, rows_done


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("classify", "Missing argument"),
        ("frobnicate", "No such command"),
        ("classify x.jpg --format xml", "Invalid value for '--format'"),
        ("status --watch --json", "choose one of --json and --watch"),
        ("scale", "Missing argument 'N'"),
        ("scale 0", "Input should be greater than or equal to 1"),
        ("scale -- -1", "Input should be greater than or equal to 1"),
        ("scale many", "Invalid value for 'N'"),
        ("deploy", "Missing argument 'ARCHIVE'"),
        ("package --network vgg", "resnet152"),
        ("package --runtime onnx --precision fp16", "onnx: fp32"),
        ("package --precision int4", "onnx: fp32"),
        ("package --precision int8", "int8 needs images to calibrate with"),
        ("package --calibration .", "--calibration is for --precision int8 and a CPU's bf16"),
        ("package --precision int8 --calibration ./none", "does not exist"),
        ("package --precision int8 --calibration . --runtime torch", "onnx: fp32|bf16|int8"),
        ("package --precision int8 --calibration . --min-same-winner 98", "in 0..1"),
        ("autoscale --min 3 --max 2", "catdog: --max 2 is below --min 3; swap them"),
        ("autoscale --min 0 --max 2", "Input should be greater than or equal to 1"),
        ("autoscale --min 1", "Missing option '--max'"),
        ("autoscale --min 1 --max 2 --max-wait 1", "No such option: --max-wait"),
        (
            "autoscale --min 1 --max 2 --calm -5",
            "--calm is a number of seconds over 0, got -5",
        ),
        (
            "autoscale --min 1 --max 2 --interval 0",
            "Input should be greater than or equal to 0.5",
        ),
        ("classify x.jpg --backend foo", "'--backend': 'foo' is not one of"),
        ("package --output {}/ --network efficientnet_lite0", "such as {}/new.mar"),
        ("classify x --resume", "--resume needs --output or --report"),
        ("classify x --dry-run", "--dry-run goes with --copy-to or --move-to"),
        ("classify x --copy-to a --move-to b", "choose one of --copy-to and --move-to"),
        ("classify x --shard 2/2", "--shard is i/n"),
        ("classify x --copy-to x/sorted", "lies inside x"),
    ],
)
def test_wrong_usage_is_exit_2_and_says_what(words: str, complaint: str, tmp_path: Path) -> None:
    result = catdog_here(*words.format(tmp_path).split(), COLUMNS="300")
    assert result.returncode == 2
    assert complaint.format(tmp_path) in result.stderr
    assert "delete it" not in result.stderr
    if result.stderr.startswith("catdog: "):
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("status", "start the server with: catdog --config {config} serve\n"),
        ("scale 2", "with: catdog serve"),
        ("rollback", "start it with: catdog serve"),
        ("token", "with: catdog serve"),
        ("deploy {previous}", "with: catdog serve"),
        ("deploy /nonexistent/x.mar", "there is no archive /nonexistent/x.mar"),
        ("serve", "build it with: catdog package"),
        ("tune", "build it with: catdog package"),
        ("classify . --backend local", "build it with: catdog package"),
        ("package --settings /nonexistent/x.yaml", "there are no settings /nonexistent/x.yaml"),
        ("package --settings .", "there are no settings ."),
    ],
)
def test_what_is_missing_is_one_line_and_exit_3(
    make_config: MakeConfig, words: str, complaint: str
) -> None:
    config = make_config(None)
    config.previous_archive.touch()
    arguments = words.format(previous=config.previous_archive).split()
    result = catdog_here(*arguments, "--config", config.path)
    assert result.returncode == 3
    assert result.stderr.count("\n") == 1
    assert complaint.format(config=config.path) in result.stderr


def test_a_hint_names_the_configuration_unless_it_is_the_default(make_config: MakeConfig) -> None:
    config = make_config(None).path
    told = catdog_here("status", CATDOG_CONFIG=str(config)).stderr
    assert "start the server with: catdog serve\n" in told
    odd = config.with_name("my own.properties")
    odd.write_text(config.read_text())
    told = catdog_here("--config", odd, "status").stderr
    assert f"start the server with: catdog --config '{odd}' serve\n" in told


def test_the_defaults_of_operating_are_those_of_the_functions() -> None:
    for command in (scale.scale, deploy.deploy, rollback.rollback):
        defaults = inspect.signature(command).parameters
        assert defaults["timeout_s"].default == DeployTimes().ready == READY_TIMEOUT_S
        if command is not scale.scale:
            assert defaults["watch_s"].default == DeployTimes().watch


def test_a_broken_java_home_is_named(make_config: MakeConfig) -> None:
    result = catdog("serve", "--config", make_config(None).path, JAVA_HOME="/nonexistent")
    assert result.returncode == 3
    assert "JAVA_HOME is /nonexistent" in result.stderr


def test_stop_without_a_server_is_fine(make_config: MakeConfig) -> None:
    result = catdog_here("stop", "--config", make_config(None).path)
    assert (result.returncode, result.stdout) == (0, "no server was running\n")


def test_packaging_resnet_without_weights_never_falls_back(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(None)
    result = catdog_here(
        *("package", "--config", config.path, "--weights-url", "http://127.0.0.1:9"),
        TORCH_HOME=str(tmp_path),
    )
    assert result.returncode == 3
    working, complaint = result.stderr.splitlines()
    assert working == "loading the weights of resnet152"
    assert "resnet152-394f9c45.pth" in complaint
    assert complaint.endswith("or pack the small network: --network efficientnet_lite0")
    assert not config.archive.exists()
    assert list(config.model_store.iterdir()) == []


def test_a_failed_build_leaves_the_old_archive(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(None)
    config.archive.write_bytes(b"the old one")
    settings = tmp_path / "model-config.yaml"
    settings.write_text("handler: {presence_treshold: 1}\n")
    result = catdog_here(
        *("package", "--config", config.path, "--network", "efficientnet_lite0"),
        *("--settings", settings),
    )
    assert result.returncode == 4
    assert "presence_treshold" in result.stderr
    assert config.archive.read_bytes() == b"the old one"
    assert [p.name for p in config.model_store.iterdir()] == ["catdog.mar"]


def test_ctrl_c_ends_a_folder_with_130_and_keeps_what_is_done(
    tmp_path: Path, make_config: MakeConfig
) -> None:
    output = tmp_path / "out.jsonl"

    def slow(request: BaseHTTPRequestHandler, body: bytes) -> None:
        if body == b"x":
            threading.Event().wait(0.2)
            send(request, 400, b'{"code": 400, "type": "InvalidImage", "message": "no"}')
        else:  # the question which model it is
            send(request, 200, json.dumps(ANSWER).encode())

    for number in range(500):
        (tmp_path / f"{number:03}.jpg").write_bytes(b"x")
    with http_server(slow) as url:
        process = subprocess.Popen(
            [
                *(*CATDOG, "classify", tmp_path, "--url", url, "--jobs", "2"),
                *("--output", output, "--config", make_config(None).path),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_until(lambda: rows_done(output) > 5, "five rows")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)  # 500 files would take 50 s
    assert process.returncode == 130
    assert "Traceback" not in errors
    done = rows_done(output)
    assert done >= 5
    assert f"interrupted; {done} files are in {output}.catdog; to go on: the same" in errors
    assert left_beside(output) == [""]


def test_a_server_that_is_lost_leaves_what_is_done_and_says_so(
    tmp_path: Path, make_config: MakeConfig
) -> None:
    output = tmp_path / "out.jsonl"

    def answer(request: BaseHTTPRequestHandler, body: bytes) -> None:
        if body == b"last":
            send(request, 404, b'{"code": 404, "type": "ModelNotFoundException", "message": "no"}')
        else:
            send(request, 200, json.dumps(ANSWER).encode())

    for name in ("a", "b", "last"):
        (tmp_path / f"{name}.jpg").write_text(name)
    with http_server(answer) as url:
        result = catdog(
            *("classify", tmp_path, "--url", url, "--jobs", "1"),
            *("--output", output, "--config", make_config(None).path),
        )
    assert result.returncode == 3
    assert rows_done(output) == 2
    assert f"interrupted; 2 files are in {output}.catdog; to go on: the same" in result.stderr
    assert "catdog: the server answered 404" in result.stderr


@pytest.mark.parametrize("command", ["classify", "evaluate"])
def test_a_missing_path_is_one_line(tmp_path: Path, make_config: MakeConfig, command: str) -> None:
    def answer(request: BaseHTTPRequestHandler, _: bytes) -> None:
        send(request, 200, json.dumps(ANSWER).encode())

    with http_server(answer) as url:
        result = catdog_here(
            *(command, tmp_path / "nope", "--url", url, "--jobs", "1"),
            *("--config", make_config(None).path),
        )
    assert result.returncode == 3
    assert result.stderr == f"catdog: there is no file or folder {tmp_path / 'nope'}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        *(("classify", "{}", "--format", "csv", "--output"), ("classify", "{}", "--report")),
        ("evaluate", "{}", "--report"),
    ],
)
def test_an_output_that_is_an_input_is_exit_2(arguments: tuple[str, ...], tmp_path: Path) -> None:
    for name in ("cats/a.png", "dogs/b.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(name)
    image = tmp_path / "dogs" / ".." / "cats" / "a.png"
    result = catdog(*(argument.format(tmp_path) for argument in arguments), image)
    assert result.returncode == 2
    assert result.stderr == (
        f"catdog: {image} would replace {tmp_path}/cats/a.png, which is to be read; "
        "choose another file\n"
    )
    assert image.read_text() == "cats/a.png"


@pytest.mark.parametrize("option", ["--output", "--report"])
def test_no_output_replaces_the_archive(option: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("an image")
    archive = tmp_path / "catdog.mar"
    archive.write_text("an archive")
    (tmp_path / "link").symlink_to(archive)
    result = catdog(
        *("classify", tmp_path / "a.png", "--backend", "local", "--archive", archive),
        *("--format", "json", option, tmp_path / "link"),
    )
    assert result.returncode == 2, result.stderr
    assert f"would replace {archive}, which is to be read" in result.stderr
    assert archive.read_text() == "an archive"


def test_a_file_that_is_no_state_is_exit_4_and_stays(
    tmp_path: Path, make_config: MakeConfig
) -> None:
    def answer(request: BaseHTTPRequestHandler, _: bytes) -> None:
        send(request, 200, json.dumps(ANSWER).encode())

    (tmp_path / "a.jpg").write_text("a")
    notes = tmp_path / "out.csv.catdog"
    notes.write_text("my notes")
    with http_server(answer) as url:
        result = catdog(
            *("classify", tmp_path, "--url", url, "--config", make_config(None).path),
            *("--output", tmp_path / "out.csv", "--resume", "--jobs", "1"),
        )
    merged = catdog("merge", tmp_path / "all.jsonl", notes)
    for refused in (result, merged):
        assert refused.returncode == 4
        assert f"catdog: {notes} is no run state of catdog" in refused.stderr
        assert refused.stderr.count("\n") == 1
    assert notes.read_text() == "my notes"
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "a.jpg",
        "out.csv.catdog",
    ]


def test_without_a_server_an_archive_is_offered(make_config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("a")
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    result = catdog_here("classify", tmp_path, "--url", url, "--config", make_config(None).path)
    assert result.returncode == 3
    assert result.stderr == (
        f"catdog: no answer from {url}; is it running? start it with: catdog serve, or do without: "
        "--backend local\n"
    )


def test_the_summary_names_a_server_that_is_not_the_configurations(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    def answer(request: BaseHTTPRequestHandler, _: bytes) -> None:
        send(request, 200, json.dumps(ANSWER).encode())

    (tmp_path / "a.jpg").write_text("a")
    with http_server(answer) as url:
        result = catdog_here(
            "classify", tmp_path, "--url", url, "--jobs", "1", "--config", make_config(None).path
        )
    assert result.returncode == 0, result.stderr
    last = result.stdout.splitlines()[-1]
    assert last.startswith("model: ")
    assert last.endswith(f" at {url}")


def test_an_evaluations_page_has_a_pages_suffix(tmp_path: Path) -> None:
    for name in ("cats/a.png", "dogs/b.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(name)
    result = catdog_here("evaluate", tmp_path, "--report", tmp_path / "x.csv")
    assert result.returncode == 2
    assert "--report writes an HTML page: name it .html" in result.stderr
