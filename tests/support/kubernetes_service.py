"""A Service of Kubernetes for one client's side: it chooses where a connection goes, once."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Service:
    """Where new connections go, by port on loopback, and how many went where."""

    port: int
    endpoint: int
    connections: dict[int, int] = field(default_factory=dict)
    sockets: set[socket.socket] = field(default_factory=set)


@contextmanager
def service(endpoint: int) -> Iterator[Service]:
    """Listen on a free port; connections that there are stay where they are, until the end."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        running = Service(listener.getsockname()[1], endpoint)
        accepting = threading.Thread(target=_accept, args=(running, listener))
        accepting.start()
        try:
            yield running
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for each in tuple(running.sockets):
                with suppress(OSError):  # which ended by itself
                    each.shutdown(socket.SHUT_RDWR)


def _accept(running: Service, listener: socket.socket) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return  # the end
        port = running.endpoint
        running.connections[port] = running.connections.get(port, 0) + 1
        try:
            server = socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            client.close()  # which the client sees as a lost connection
            continue
        running.sockets |= {client, server}
        threading.Thread(target=_connect, args=(running, client, server)).start()


def _connect(running: Service, client: socket.socket, server: socket.socket) -> None:
    with client, server:
        back = threading.Thread(target=_pass_on, args=(server, client))
        back.start()
        _pass_on(client, server)
        back.join()
        running.sockets -= {client, server}


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    """Bytes until one side ends or breaks off, and then that end."""
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
