"""What usually goes wrong at a start, found while it is cheap to say so."""

from collections.abc import Collection
from pathlib import Path
from urllib.parse import urlsplit

from catdog_serving.config_folder import command_line
from catdog_serving.errors import NotReadyError, RefusedError
from catdog_serving.http_session import is_loopback, socket_path
from catdog_serving.model_archive import check_archive_format, check_owner, unpacked_bytes
from catdog_serving.torchserve.asgi_process import check_packages
from catdog_serving.torchserve.config_keys import INSIDE, heap_bytes, named_addresses
from catdog_serving.torchserve.java import find_java
from catdog_serving.torchserve.listeners import find_listener, is_taken
from catdog_serving.torchserve.run_directory import RunDirectory
from catdog_serving.torchserve.serving_config import ServingConfig

_ROOM_BESIDE = 64_000_000  # bytes for sockets, keys and the first logs, beside the unpacked archive


def check_start(
    config: ServingConfig,
    run: RunDirectory,
    asgi: bool,
    held: Collection[int] = (),
    first_port: int | None = None,
) -> list[str]:
    """Make sure that addresses, programs, archive, disk and GPUs are fit for a server.

    Args:
        config: What it will run on.
        run: Where.
        asgi: Whether it is the one without Java.
        held: Ports that its own server has, which runs and will be stopped.
        first_port: What `--port` said; None for the ports of the file.

    Returns:
        What to tell before it starts: it may lack what it could use.

    Raises:
        NotReadyError, RefusedError: If they are not.
    """
    check_addresses(config)
    check_ports_differ(config, asgi)
    check_files(config)
    if not asgi:
        find_java()
    check_owner(config.archive)
    check_archive_format(config.archive)
    if asgi:
        check_packages(config.archive)
    check_room(run, config.archive, freed=run.used_bytes())  # a start begins with an empty one
    check_ports(config, asgi, held, first_port)
    config.values_for_server()  # which raises if TorchServe would read one otherwise
    # The one without Java bounds all bodies together itself.
    others = _check_workers(config) if asgi else check_limits(config)
    return [*check_gpus(config), *others]


def check_addresses(config: ServingConfig) -> list[str]:
    """Make sure that what is meant for this machine alone is not open to others by mistake.

    Returns:
        A line for each address that is open to others on purpose.

    Raises:
        RefusedError: If management, metrics or gRPC is not on loopback, and `allow_remote`
            does not name that address.
    """
    allowed = named_addresses(config.values.get("allow_remote", ""))
    open_to_others = []
    for key, danger in INSIDE.items():
        value = config.values[key]
        if socket_path(value) or is_loopback(urlsplit(value).hostname or value):
            continue
        if key not in allowed:
            raise RefusedError(
                f"{key}={value} is not loopback: whoever reaches it can {danger}. Leave it on "
                f"127.0.0.1, or say in {config.path} that it is meant: allow_remote={key}"
            )
        open_to_others.append(f"{key}={value}: whoever reaches it can {danger}")
    return open_to_others


def check_room(run: RunDirectory, archive: Path, freed: int = 0) -> None:
    """Make sure that TorchServe can unpack an archive: without room it serves no model.

    Args:
        run: Where.
        archive: The archive.
        freed: Bytes that will be free by then, beside those that are.

    Raises:
        NotReadyError: If not, or if it is no archive.
    """
    needed, free = unpacked_bytes(archive) + _ROOM_BESIDE, run.free_bytes() + freed
    if free < needed:
        raise NotReadyError(
            f"the unpacked archive, logs and keys take {needed / 1e6:,.0f} MB, and "
            f"{free / 1e6:,.0f} MB are free for {run.path}"
        )


def check_files(config: ServingConfig) -> None:
    """Make sure that the files that config.properties names are there.

    TorchServe would start without its metrics' file, and never get a worker.

    Raises:
        NotReadyError: If one is missing.
    """
    for key, path in config.files().items():
        if not path.is_file():
            raise NotReadyError(f"{config.path}: {key}: there is no file {path}")


def _check_workers(config: ServingConfig) -> list[str]:
    """Look whether more workers are asked for than a server without Java has."""
    workers = config.served_worker_settings["minWorkers"]
    told = f"one worker serves, and not minWorkers={workers}, which is TorchServe's"
    return [] if workers == 1 else [told]


def check_limits(config: ServingConfig) -> list[str]:
    """Look whether all requests that may be there at once fit into Java's heap.

    Returns:
        A line if they do not.
    """
    entry, heap = config.served_worker_settings, heap_bytes(config.values.get("vmargs", ""))
    at_once = config.job_queue_size + entry["maxWorkers"] * entry["batchSize"]
    bodies = at_once * config.max_request_size
    if heap is None or bodies <= heap:
        return []
    return [
        f"job_queue_size={config.job_queue_size} and the workers' batches can hold {at_once} "
        f"requests of max_request_size={config.max_request_size}, {bodies / 1e6:,.0f} MB, and "
        f"Java's heap is {heap / 1e6:,.0f} MB (-Xmx in vmargs): lower one of them, or raise -Xmx"
    ]


def check_ports_differ(config: ServingConfig, asgi: bool) -> None:
    """Make sure that no two addresses are the same.

    The server without Java knows which API is asked by the port alone: there, two addresses with
    one port would answer the management API where predictions are.

    Raises:
        NotReadyError: If two are.
    """
    taken: dict[int, tuple[str, str]] = {}
    for key, (named, port) in config.endpoints().items():
        host = "127.0.0.1" if named == "localhost" else named
        other, its_host = taken.setdefault(port, (key, host))
        same = asgi or host == its_host or {host, its_host} & {"0.0.0.0", "::"}  # noqa: S104
        if other != key and same:
            raise NotReadyError(
                f"{config.path}: {key} and {other} are both port {port}; each needs its own"
            )


def check_ports(
    config: ServingConfig,
    asgi: bool,
    held: Collection[int] = (),
    first_port: int | None = None,
) -> None:
    """Make sure that nobody has the ports of a server's addresses.

    Args:
        config: What it will run on.
        asgi: Whether it is the one without Java.
        held: Ports that its own server has, which runs and will be stopped.
        first_port: What `--port` said; None for the ports of the file.

    Raises:
        NotReadyError: If somebody has.
    """
    another = f"{command_line(config.path, 'serve')} --port PORT"
    if first_port is None:
        where, remedy = f"in {config.path}", f"choose another port there, or: {another}"
    else:
        where, remedy = f"with --port {first_port}", f"choose another with: {another}"
    for key, (host, port) in config.endpoints().items():
        if port in held or (asgi and key.startswith("grpc_")):
            continue
        if is_taken(host, port):
            found = find_listener(config)
            who = f"; {found}" if found and found.port not in held else ""
            raise NotReadyError(
                f"port {port} on {host} is taken ({key} {where}); stop what uses it, "
                f"or {remedy}{who}"
            )


def check_gpus(config: ServingConfig) -> list[str]:
    """Make sure that the GPUs that config.properties asks for are there.

    Returns:
        A line if it asks for no number, and nobody knows whether there are any.

    Raises:
        NotReadyError: If there are fewer, or nobody knows.
    """
    wanted = config.values.get("number_of_gpu")
    if wanted is not None and int(wanted) > len(config.gpus):
        found = "nvidia-smi does not say which there are"
        if config.visible_gpus is not None:
            found = f"there are {len(config.gpus)} by nvidia-smi and CUDA_VISIBLE_DEVICES"
        raise NotReadyError(
            f"number_of_gpu is {wanted}, and {found}; for the CPU set it to 0 in {config.path}"
        )
    if wanted is None and config.computes_on_gpus and config.visible_gpus is None:
        return ["nvidia-smi fails or hangs: no GPU is used (see: nvidia-smi)"]
    return []
