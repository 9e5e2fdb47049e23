"""The image in real containers: built, run, asked, measured and ended as docs/containers.md says.

tests/support/containers.py says what takes the place of Docker and of the Python image.
"""

import json
import re

import pytest

from tests.support.containers import Container, Engine, documented
from tests.support.image_build import PRIVATE
from tests.support.isolation import USER
from tests.support.paths import SAMPLES
from tests.support.pods import HEALTHCHECK

CAT = SAMPLES / "chelsea.png"
PREDICTIONS = "http://127.0.0.1:8080/predictions/catdog"


def test_what_it_says_of_itself(engine: Engine, image: str) -> None:
    config = engine.inspected(image)["Config"]
    assert config["User"] == f"{USER}:{USER}"
    assert config["StopSignal"] == "SIGTERM"
    assert engine.inspected(image)["Healthcheck"]["Test"] == ["CMD", *HEALTHCHECK]


def test_nothing_of_a_used_checkout_is_in_it_but_what_it_needs(engine: Engine, image: str) -> None:
    find = ("find", "/", "-xdev", "-type", "f")
    files = engine.podman(
        "run", "--rm", "--user=0", "--network=none", f"--entrypoint={json.dumps(find)}", image
    ).stdout.split("\n")
    assert "/opt/catdog/model-store/catdog.mar" in files
    assert "/opt/catdog/config/nginx/routes.conf" in files
    assert [file for file in files if file.endswith(PRIVATE)] == []


def test_its_user_has_no_capabilities(server: Container) -> None:
    status = server.run("cat", "/proc/1/status").stdout
    assert f"\nUid:\t{USER}\t{USER}\t{USER}\t{USER}\n" in status
    for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert f"\n{kind}:\t0000000000000000\n" in status


@pytest.mark.parametrize(
    "folder", ["/tmp", "/var/tmp", "/opt/catdog/model-store", "/opt/venv", "/etc"]
)
def test_it_may_write_to_its_run_folder_and_nowhere_else(server: Container, folder: str) -> None:
    assert server.run("touch", "/run/catdog/written").returncode == 0
    assert "Read-only file system" in server.run("touch", f"{folder}/written").stderr


def test_it_tells_a_cat_with_the_weights_that_it_was_built_with(
    server: Container, build_arguments: dict[str, str]
) -> None:
    answer = json.loads(server.curl("-T", CAT, PREDICTIONS))
    assert answer["network"] == build_arguments["NETWORK"]
    if build_arguments["WEIGHTS"] != "seeded":
        assert (answer["label"], answer["breed"]["name"]) == ("cat", "tiger cat")
        assert answer["weights"].startswith("own-")


def test_it_runs_on_debians_java_libraries(server: Container) -> None:
    (line,) = [x for x in server.run("catdog", "status").stdout.splitlines() if x[:5] == "java "]
    assert re.search(r" Netty \S+ \(/usr/share/java\), log4j \S+ \(/usr/share/java", line), line


def test_sigterm_ends_it_with_0(server: Container, figures: dict[str, str]) -> None:
    """The last test with it."""
    code, seconds = server.end()
    assert code == 0, server.log
    figures["SIGTERM to the end"] = f"{seconds:.1f} s"
    assert seconds < 10  # what `docker stop` waits


def test_nothing_is_written_outside_the_run_folder(engine: Engine, image: str) -> None:
    """Where it could be: the root file system is not read-only here."""
    options = [word for word in documented("run") if word != "--read-only"]
    with engine.running("writable", *options) as container:
        container.wait_healthy()
        json.loads(container.curl("-T", CAT, PREDICTIONS))
        assert container.end()[0] == 0
        assert changed(container) == set()


def changed(container: Container) -> set[str]:
    """What differs from the image, but for what podman itself mounts."""
    lines = container.engine.podman("diff", container.name).stdout.splitlines()
    own = {"/run", "/run/catdog", "/run/.containerenv", "/run/secrets", "/etc", "/etc/mtab"}
    return {line for line in lines if line.split(" ", 1)[1] not in own}


def test_one_that_was_killed_starts_again_in_the_same_run_folder(
    engine: Engine, image: str
) -> None:
    """Its volume keeps socket, pid file and unpacked archive of a server that is no more."""
    options = ("--read-only", "--read-only-tmpfs=false", "--network=none")
    with engine.running("killed", *options, "--volume=run:/run/catdog", image) as container:
        container.wait_healthy()
        assert container.end("KILL")[0] == 137
        engine.podman("start", "killed")
        again = Container(engine, "killed", container.started_s)
        again.wait_healthy()
        assert json.loads(again.curl("-T", CAT, PREDICTIONS))["label"]
        assert again.end()[0] == 0
