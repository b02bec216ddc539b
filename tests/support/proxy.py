"""A TCP proxy that cuts its connections after a given number of bytes, as networks do.

It handles one connection, in a thread that ends with it.
"""

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from support.broker import HOST

READ_BYTES = 4096


class CuttingProxy:
    """Forwards one connection to a broker until a direction has carried its share of bytes.

    Attributes:
        port: where it listens on HOST.
    """

    def __init__(self, target_port: int, *, upstream_bytes: int = -1, downstream_bytes: int = -1) -> None:
        """Listen for one connection.

        Args:
            target_port: port of the broker on HOST.
            upstream_bytes: bytes from client to broker after which both connections end; -1 for no limit.
            downstream_bytes: the same from broker to client.
        """
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._target_port = target_port
        self._left = {"up": upstream_bytes, "down": downstream_bytes}
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait until the connection has been cut or has ended."""
        self._thread.join(30)
        assert not self._thread.is_alive(), "the proxied connection neither ended nor was cut"

    def _run(self) -> None:
        with self._listener:
            client, _ = self._listener.accept()
        with client, socket.create_connection((HOST, self._target_port), timeout=30) as broker:
            routes = {client: (broker, "up"), broker: (client, "down")}
            try:
                while all(
                    self._forward(source, *routes[source]) for source in select.select(routes, [], [])[0]
                ):
                    pass
            except ConnectionError:
                pass  # One side has gone first, which ends the other.

    def _forward(self, source: socket.socket, target: socket.socket, direction: str) -> bool:
        left = self._left[direction]
        data = source.recv(READ_BYTES if left < 0 else min(READ_BYTES, left))
        target.sendall(data)
        if left >= 0:
            self._left[direction] = left - len(data)
        return bool(data) and self._left[direction] != 0


@contextmanager
def cut_connection(target_port: int, **limits: int) -> Iterator[CuttingProxy]:
    """Provide a proxy whose end is awaited."""
    proxy = CuttingProxy(target_port, **limits)
    yield proxy
    proxy.join()
