"""docs/reference is complete: each setting, environment variable, metric and exit code is there."""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from catdog import __version__
from catdog.read_settings import Settings
from catdog_rows import STATUSES
from catdog_serving import errors
from catdog_serving.torchserve.config_keys import FIELDS, KEYS
from catdog_serving.torchserve.properties import parse_properties
from catdog_telemetry import METRICS
from tests.support.paths import ROOT

REFERENCE = ROOT / "docs" / "reference"
CODE = [path for name in ("handler", "scripts") for path in sorted((ROOT / name).rglob("*.py"))]
OUR_VARIABLE = re.compile(r"\bCATDOG_[A-Z_]+\b")


def described(name: str) -> set[str]:
    """What a page of the reference has between backticks."""
    return set(re.findall(r"`([^`\n]+)`", (REFERENCE / name).read_text()))


def table(name: str) -> dict[str, str]:
    """The second cell of each row, by each name in the first."""
    rows = re.findall(r"^\| (.+?) \| (.+?) \|", (REFERENCE / name).read_text(), re.MULTILINE)
    return {key.strip("` "): cell for names, cell in rows for key in names.split(",")}


# The version


def test_changelog_and_api_have_this_version() -> None:
    (newest, *_) = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert re.fullmatch(rf"{re.escape(__version__)} \(\d{{4}}-\d\d-\d\d\)", newest)
    described_api = yaml.safe_load((ROOT / "docs/openapi.yaml").read_text())
    assert described_api["info"]["version"] == __version__


# Settings


def test_every_setting_of_an_archive_is_described_with_its_default() -> None:
    packed = yaml.safe_load((ROOT / "config/model-config.yaml").read_text())
    defaults = packed.pop("handler") | packed
    assert {field.name for field in fields(Settings)} < set(defaults)
    shown = table("settings.md")
    for name, value in defaults.items():
        assert shown[name] == (f"{value:,}" if type(value) is int else str(value).lower()), name


def test_every_setting_of_the_server_is_described_with_its_default() -> None:
    values = parse_properties((ROOT / "config/config.properties").read_text())
    (entry,) = json.loads(values.pop("models"))["catdog"].values()
    shown = table("settings.md")
    assert set(values) | set(entry) < set(shown)
    assert shown["batchSize"] == str(entry["batchSize"])
    assert shown["maxBatchDelay"] == str(entry["maxBatchDelay"])
    assert shown["job_queue_size"] == values["job_queue_size"]
    assert shown["max_request_size"] == f"{int(values['max_request_size']):,}"


def test_every_key_and_field_that_catdog_sets_or_reads_is_described() -> None:
    """Those with a help in the table of keys; TorchServe's others are in its own documents."""
    ours = {name for name, key in KEYS.items() if key.help} - {"models"}
    assert described("settings.md") & set(KEYS) == ours
    assert set(FIELDS) - described("settings.md") == set()


def test_every_key_that_the_code_reads_has_a_help() -> None:
    """`values["..."]` and `values.get("...")` of a configuration."""
    sources = (path.read_text() for path in CODE if "torchserve" in path.parts)
    found = {key for s in sources for key in re.findall(r"""values(?:\.get\(|\[)"(\w+)\"""", s)}
    assert "number_of_gpu" in found
    assert all(KEYS[key].help for key in found - {"disable_token_authorization"})


# Statuses


def statuses_of_nginx() -> set[str]:
    """Those that nginx answers by itself, or passes on under another number."""
    conf = (ROOT / "config/nginx.conf").read_text()
    routes = (ROOT / "config/nginx/routes.conf").read_text()
    site = (ROOT / "config/nginx/site.conf").read_text()
    maps = re.findall(r"map \$status \$\w+ \{(.*?)\}", conf, re.DOTALL)
    found = {status for entries in maps for status in re.findall(r"^ +(\d+) ", entries, re.M)}
    for listed in re.findall(r"error_page ([\d ]+?)(?: =(\d+))? /\.error", routes):
        found |= {listed[1]} if listed[1] else set(listed[0].split())
    return found | set(re.findall(r"return ([45]\d\d)", routes + site))


def test_every_status_is_in_the_tables_of_the_api() -> None:
    document = (ROOT / "docs/api.md").read_text()
    rows = set(re.findall(r"^\| (\d{3}) \|", document, re.MULTILINE))
    openapi = yaml.safe_load((ROOT / "docs/openapi.yaml").read_text())
    everywhere = statuses_of_nginx() | {str(code) for code, _ in STATUSES.values()}
    assert {"400", "403", "414", "429", "501", "505"} < everywhere
    assert everywhere - rows == set()
    for api in ("/predictions/catdog", "/explanations/catdog"):
        assert set(openapi["paths"][api]["post"]["responses"]) == rows


# Environment variables


def variables_read(path: Path) -> Iterator[str]:
    """Names that a module gives to os.environ, os.getenv or a command's envvar."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
            named: list[ast.expr] = [node.slice]
        elif isinstance(node, ast.Call):
            asks = re.fullmatch(r"os\.(environ\.\w+|getenv)", ast.unparse(node.func))
            named = node.args[:1] if asks else []
            named += [keyword.value for keyword in node.keywords if keyword.arg == "envvar"]
        else:
            continue
        yield from (n.value for n in named if isinstance(n, ast.Constant) and type(n.value) is str)


def our_variables() -> set[str]:
    """Every CATDOG_... in code, tests, Makefile, Dockerfile, manifests and CI."""
    places = [*CODE, *(ROOT / "tests").rglob("*.py"), ROOT / "Makefile"]
    for folder in (ROOT / "config", ROOT / ".ci"):
        places += [path for path in folder.rglob("*") if path.is_file()]
    return {name for path in places for name in OUR_VARIABLE.findall(path.read_text())}


def test_every_environment_variable_is_described() -> None:
    read = {name for path in CODE for name in variables_read(path)}
    assert {"CATDOG_CONFIG", "CATDOG_URL", "JAVA_HOME"} <= read
    assert (read | our_variables()) - described_variables() == set()


def test_no_environment_variable_is_described_that_is_none() -> None:
    described_ours = set(OUR_VARIABLE.findall((REFERENCE / "environment.md").read_text()))
    assert described_ours - our_variables() == set()


def test_makes_own_variables_are_described() -> None:
    makefile = (ROOT / "Makefile").read_text()
    names = {*re.findall(r"^(\w+) \?=", makefile, re.MULTILINE), "PICTURES"}
    assert names - described_variables() == set()


def described_variables() -> set[str]:
    return {name.partition("=")[0] for name in described("environment.md")}


# Metrics


def test_every_metric_is_described() -> None:
    declared = yaml.safe_load((ROOT / "config/metrics.yaml").read_text())
    names = {
        metric["name"]
        for section in ("ts_metrics", "model_metrics")
        for kind in declared[section].values()
        for metric in kind
    }
    assert set(METRICS) < names
    assert names - described("metrics.md") == set()


def test_every_recorded_series_and_alert_is_described() -> None:
    rules = (ROOT / "config/prometheus/rules.yml").read_text()
    records = set(re.findall(r"- record: (\S+)", rules))
    assert records
    assert records - described("metrics.md") == set()
    alerts = set(re.findall(r"- alert: (\S+)", rules))
    assert alerts == set(re.findall(r"^### (\S+)$", (ROOT / "docs/monitor.md").read_text(), re.M))


# Exit codes


def error_classes() -> list[type[errors.CatDogError]]:
    found = [value for value in vars(errors).values() if isinstance(value, type)]
    return [value for value in found if issubclass(value, errors.CatDogError)]


@pytest.mark.parametrize("error", error_classes(), ids=lambda error: error.__name__)
def test_every_error_is_described_with_its_exit_code(error: type[errors.CatDogError]) -> None:
    rows = re.findall(
        r"^\| (.*`\w+Error`.*) \| (\d+) \|$", (REFERENCE / "exit-codes.md").read_text(), re.M
    )
    (code,) = (code for names, code in rows if f"`{error.__name__}`" in names)
    assert int(code) == error.exit_code


def test_every_exit_code_is_described() -> None:
    recorded = (ROOT / "tests/data/wire/command/exit-codes.txt").read_text()
    ended = {line.split()[0] for line in recorded.splitlines()}
    assert {str(error.exit_code) for error in error_classes()} <= ended
    shown = re.findall(r"^\| (\d+) \|", (REFERENCE / "exit-codes.md").read_text(), re.MULTILINE)
    assert ended <= set(shown)
    assert shown == sorted(shown, key=int)
