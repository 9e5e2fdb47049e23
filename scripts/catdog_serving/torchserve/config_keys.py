"""The keys of config.properties and the fields of its `models`: what each takes, checked at once.

TorchServe itself passes over a key that it does not know, takes a default for a number that is
none, and starts. Its keys are those of the ConfigManager of TorchServe 0.12, of its launcher, and
of its documentation; catdog's own are marked.
"""

import difflib
import ipaddress
import json
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from catdog.results import MODEL_NAME
from catdog_serving.torchserve.gpus import MOST_WORKERS_PER_GPU

LOG_OPTION = "-Dlog4j.configurationFile="  # in vmargs; its value is a path
_INT = 2**31 - 1  # Java's largest
_LONG = 2**63 - 1
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
_SIZE_OPTION = re.compile(r"-X(?:m[xsn]|ss)")
_SIZE = re.compile(r"(-X(?:m[xsn]|ss))([1-9][0-9]*)([kKmMgGtT]?)")
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_ARCHIVE = f"{MODEL_NAME}.mar"
# Addresses that need not be loopback only where `allow_remote` names them: what one can do there.
INSIDE: Mapping[str, str] = {
    "management_address": "change what is served",
    "metrics_address": "read the metrics, which need no token",
    "grpc_inference_address": "ask over gRPC, past nginx and its limits",
    "grpc_management_address": "change what is served",
}


@dataclass(frozen=True)
class Kind:
    """What a key takes.

    Attributes:
        takes: The choices, for a person.
        fits: Whether a value is one of them.
    """

    takes: str
    fits: Callable[[Any], bool]


@dataclass(frozen=True)
class Key:
    """A key of config.properties.

    Attributes:
        kind: What it takes.
        help: What it is, of those that catdog sets or reads; docs/reference/settings.md has these.
        ours: Whether TorchServe does not know it.
    """

    kind: Kind
    help: str = ""
    ours: bool = False


def _whole(lowest: int, highest: int = _INT) -> Kind:
    def fits(text: str) -> bool:
        return text.isascii() and text.isdecimal() and lowest <= int(text) <= highest

    return Kind(f"a whole number, {lowest:,} to {highest:,}", fits)


def _one_of(*choices: str) -> Kind:
    return Kind(", ".join(choices), choices.__contains__)


def _is_host(text: str) -> bool:
    """A name, or an address: what consists of numbers and dots alone is one, or wrong."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return bool(_HOST.fullmatch(text)) and not re.fullmatch(r"[0-9.]+", text)
    return True


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        plain = f"{parts.scheme}://{parts.netloc}" == text and "@" not in text
        return plain and parts.scheme in ("http", "https") and _has_port(parts)
    except ValueError:  # a port that is none, or half of an IPv6 address
        return False


def _has_port(parts: Any) -> bool:
    return bool(parts.port) and _is_host(parts.hostname or "")


def _loads_ours(text: str) -> bool:
    names = [name.rpartition("=")[2].strip() for name in text.split(",")]
    return text.lower() == "all" or _ARCHIVE in names


def named_addresses(allow_remote: str) -> set[str]:
    """The keys that stand in it, between commas or spaces."""
    return set(re.split(r"[,\s]+", allow_remote)) - {""}


TEXT = Kind("any text", lambda _: True)
SOME = Kind("some text", bool)
BOOLEAN = Kind("true or false", ("true", "false").__contains__)
ADDRESS = Kind("http://HOST:PORT, with a port from 1 to 65535", _is_address)
HOST = Kind("a host's name or address, without http:// and port", _is_host)
PORT = _whole(1, 65535)
BYTES = Kind(f"bytes, a whole number from 1 to {_INT:,}", _whole(1).fits)

# Those with a help are in docs/reference/settings.md; a test compares.
KEYS: Mapping[str, Key] = {
    # catdog's own
    "run_directory": Key(TEXT, "where the server's private folder is made", ours=True),
    "allow_remote": Key(
        Kind(f"a list of {', '.join(INSIDE)}", lambda text: named_addresses(text) <= INSIDE.keys()),
        "addresses that may be off loopback",
        ours=True,
    ),
    "workers_per_gpu": Key(
        _one_of("auto", *map(str, range(1, MOST_WORKERS_PER_GPU + 1))),
        "workers that each GPU gets",
        ours=True,
    ),
    "java_libraries": Key(TEXT, "Java libraries before TorchServe's own", ours=True),
    # TorchServe's, that catdog sets or reads
    "inference_address": Key(ADDRESS, "where clients ask"),
    "management_address": Key(ADDRESS, "where catdog scale and deploy ask"),
    "metrics_address": Key(ADDRESS, "where Prometheus scrapes"),
    "grpc_inference_address": Key(HOST, "gRPC's host"),
    "grpc_inference_port": Key(PORT, "gRPC's port"),
    "grpc_management_address": Key(HOST, "the host of gRPC's management API"),
    "grpc_management_port": Key(PORT, "the port of gRPC's management API"),
    "model_store": Key(SOME, "the folder of archives"),
    "load_models": Key(
        Kind(f"{_ARCHIVE}, or a list with it, or all", _loads_ours), "what is loaded at the start"
    ),
    "models": Key(TEXT, "workers and batching"),  # `_check_models` looks into it
    "number_of_gpu": Key(_whole(0, 1024), "GPUs to spread the workers over"),
    "job_queue_size": Key(_whole(1), "requests that may wait"),
    "max_request_size": Key(BYTES, "the largest body"),
    "decode_input_request": Key(BOOLEAN, "whether TorchServe's worker parses JSON bodies"),
    "vmargs": Key(TEXT, "options of Java"),  # `java_options` looks into it
    "enable_model_api": Key(BOOLEAN, "whether archives can be registered"),
    "allowed_urls": Key(TEXT, "where archives may come from, beside model_store"),
    "metrics_mode": Key(_one_of("prometheus", "log", "legacy"), "where metrics go"),
    "metrics_config": Key(SOME, "which metrics there are"),
    "disable_system_metrics": Key(BOOLEAN, "whether CPU, disk and memory are left out"),
    "token_expiration_min": Key(_whole(1), "minutes that a token is good for"),
    # TorchServe's others
    **dict.fromkeys(
        (
            *("async_logging", "cpu_launcher_enable", "debug", "disable_token_authorization"),
            *("enable_envvars_config", "enable_grpc_ssl", "enable_metrics_api", "ipex_enable"),
            *("install_py_dep_per_model", "ipex_gpu_enable", "limit_max_image_pixels"),
            *("model_metrics_auto_detect", "prefer_direct_buffer", "use_env_allowed_urls"),
            "use_native_io",
        ),
        Key(BOOLEAN),
    ),
    **dict.fromkeys(
        ("default_workers_per_model", "number_of_netty_threads", "netty_client_threads"),
        Key(_whole(0)),
    ),
    **dict.fromkeys(
        (
            *("default_response_timeout", "default_startup_timeout", "unregister_model_timeout"),
            "metric_time_interval",
        ),
        Key(_whole(1)),
    ),
    **dict.fromkeys(
        (
            *("grpc_inference_max_connection_age_ms", "grpc_management_max_connection_age_ms"),
            "grpc_inference_max_connection_age_grace_ms",
            "grpc_management_max_connection_age_grace_ms",
        ),
        Key(_whole(1, _LONG)),
    ),
    **dict.fromkeys(("initial_worker_port", "initial_distribution_port"), Key(PORT)),
    "io_ratio": Key(_whole(1, 100)),
    "max_response_size": Key(BYTES),
    "metrics_format": Key(_one_of("prometheus")),
    **dict.fromkeys(
        (
            *("blacklist_env_vars", "certificate_file", "cors_allowed_headers", "keystore"),
            *("cors_allowed_methods", "cors_allowed_origin", "cpp_log_config", "keystore_pass"),
            *("cpu_launcher_args", "default_service_handler", "keystore_type", "model_server_home"),
            *("model_snapshot", "plugins_path", "private_key_file", "python", "service_envelope"),
            *("system_metrics_cmd", "ts_header_key_sequence_end", "ts_header_key_sequence_id"),
            *("ts_header_key_sequence_start", "ts_open_inference_protocol", "version"),
            "workflow_store",
        ),
        Key(TEXT),
    ),
}


def _number(lowest: int, highest: int = _INT, note: str = "") -> Kind:
    def fits(value: object) -> bool:
        return type(value) is int and lowest <= value <= highest

    return Kind(f"a whole number, {lowest} to {highest:,}{note}", fits)


# The fields of catdog's entry under `models`; the first four must be there.
REQUIRED_FIELDS = ("minWorkers", "maxWorkers", "batchSize", "maxBatchDelay")
FIELDS: Mapping[str, Kind] = {
    "minWorkers": _number(1, 1024),
    "maxWorkers": _number(1, 1024),
    "batchSize": _number(1, 1024),
    "maxBatchDelay": _number(1, note=" ms; TorchServe would take 0 for 100"),
    "responseTimeout": _number(1),
    "startupTimeout": _number(1),
    "defaultVersion": Kind(BOOLEAN.takes, lambda value: isinstance(value, bool)),
    "marName": Kind(_ARCHIVE, lambda value: value == _ARCHIVE),
    "parallelLevel": _number(1, 1024),
    "runtimeType": Kind("python", lambda value: value == "python"),
}


def check_values(values: Mapping[str, str]) -> None:
    """Make sure that every key is known, and has a value that it takes.

    Args:
        values: Of one config.properties, as they stand there.

    Raises:
        ValueError: If not: one line with key, value and choices.
    """
    for key, value in values.items():
        if key not in KEYS:
            named = f"{key}={shown_value(key, value)}"
            raise ValueError(f"{named}: there is no such key{_near(key, KEYS)}")
        if not KEYS[key].kind.fits(value):
            about = f" ({KEYS[key].help})" if KEYS[key].help else ""
            raise ValueError(f"{key}={value}: it takes {KEYS[key].kind.takes}{about}")
    if "models" in values:
        _check_models(values["models"])
    heap = dict(_sizes(java_options(values.get("vmargs", ""))))
    if heap.get("-Xms", 0) > heap.get("-Xmx", _LONG):
        raise ValueError("vmargs: -Xms is more than -Xmx, with which Java does not start")


def heap_bytes(vmargs: str) -> int | None:
    """The largest heap that options of Java allow; None if they do not say."""
    return dict(_sizes(java_options(vmargs))).get("-Xmx")


def java_options(vmargs: str) -> list[str]:
    """The options of `vmargs`: one whose path has a space stands between quotes.

    Raises:
        ValueError: If a quote does not end.
    """
    try:
        return shlex.split(vmargs)
    except ValueError as error:
        raise ValueError(f"vmargs: {error}") from error


def _sizes(options: Iterable[str]) -> Iterable[tuple[str, int]]:
    """Option -> bytes, of those that take a size."""
    for option in options:
        if _SIZE_OPTION.match(option):
            if not (found := _SIZE.fullmatch(option)):
                raise ValueError(f"vmargs: {option}: it takes a size, such as 512m or 2g")
            yield found[1], int(found[2]) * _UNITS[found[3].lower()]


def _check_models(text: str) -> None:
    """Make sure that `models` is {"catdog": {VERSION: {fields}}}."""
    shape = f'models takes {{"{MODEL_NAME}": {{"1.0": {{"minWorkers": 1, ...}}}}}}'
    try:
        models = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"models is no JSON: {error}") from None
    if not isinstance(models, dict) or MODEL_NAME not in models:
        raise ValueError(f"models has no entry for {MODEL_NAME}; {shape}")
    if others := sorted(set(models) - {MODEL_NAME}):
        raise ValueError(f"models has an entry for {', '.join(others)}; {shape}")
    versions = models[MODEL_NAME]
    if not isinstance(versions, dict) or len(versions) != 1:
        raise ValueError(f"models: {MODEL_NAME} needs one version; {shape}")
    ((version, entry),) = versions.items()
    if not isinstance(entry, dict):
        raise ValueError(f"models: {version} holds no fields; {shape}")
    _check_fields(entry)


def _check_fields(entry: Mapping[str, Any]) -> None:
    for field, value in entry.items():
        shown = json.dumps(value)
        if field not in FIELDS:
            raise ValueError(
                f"models: {field}={shown}: there is no such field{_near(field, FIELDS)}"
            )
        if not FIELDS[field].fits(value):
            raise ValueError(f"models: {field}={shown}: it takes {FIELDS[field].takes}")
    if missing := [field for field in REQUIRED_FIELDS if field not in entry]:
        raise ValueError(f"models: {', '.join(missing)} is missing")
    if entry["minWorkers"] > entry["maxWorkers"]:
        raise ValueError(
            f"models: minWorkers={entry['minWorkers']}: it takes a whole number, "
            f"1 to maxWorkers={entry['maxWorkers']}"
        )


def _near(name: str, known: Iterable[str]) -> str:
    """The end of a sentence: what was meant, or what there is."""
    lower = {each.lower(): each for each in known}
    if found := difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.75):
        return f"; did you mean {lower[found[0]]}?"
    if known is FIELDS:
        return f"; there are {', '.join(known)}"
    return f"; there are {', '.join(name for name in KEYS if KEYS[name].help)}, and TorchServe's"


def shown_value(key: str, value: object) -> object:
    """A value for a message; no password."""
    return "..." if "pass" in key.lower() else value
