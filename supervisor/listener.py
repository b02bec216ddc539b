"""Binds the client port, accepts connections and chooses a worker for each.

A connection goes to the ready worker with the fewest live ones; the counters in shared memory tell how many
those are, so nobody is asked. Accepting goes on while there is a ready worker and not too many connections
wait in the links; otherwise connections stay in the kernel's backlog. TCP_NODELAY is set once on the
listening socket, from which Linux gives it to every accepted one. There is no TCP keep-alive, as on
nats-server: the protocol has its own PINGs.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from supervisor.config import join_host_port
from supervisor.errors import StartError
from supervisor.link import Accepted

if TYPE_CHECKING:
    import asyncio

    from workers.log import Log

# Go asks for the same; the kernel cuts it to net.core.somaxconn.
BACKLOG = 4096
# Connections taken per round of the loop, so that signals and dead workers are noticed during a connect
# storm.
ACCEPT_BATCH = 256
# Connections that may wait in links before accepting pauses; each holds a descriptor.
UNSENT_CONNECTIONS_MAX = 1024
# Pause after the kernel refused to accept; nats-server's grows from 10 ms to 1 s, a closed connection ends
# it here.
REFUSED_PAUSE_SECONDS = 0.1
# Look again whether links have drained, while accepting pauses for them.
UNSENT_PAUSE_SECONDS = 0.005
ANY_ADDRESS = ("0.0.0.0", "::", "")
_MAPPED_PREFIX = "::ffff:"


class Target(Protocol):
    """A worker, as far as the listener needs it."""

    @property
    def load(self) -> int:
        """Live connections, those on their way included."""

    @property
    def unsent_connections(self) -> int:
        """Connections that wait in its link."""

    def hand_over(self, connections: Sequence[Accepted]) -> None:
        """Take connections; their descriptors belong to the target from here on."""


def bind(host: str, port: int) -> socket.socket:
    """Return a listening, non-blocking socket; its backlog takes connections from here on.

    Args:
        host: address or name; 0.0.0.0 and :: both mean every address of IPv4 and IPv6, as they do in Go.
        port: 0..65535, 0 for any.

    Raises:
        StartError: in nats-server's words.
    """
    family, address = _resolve(host, port)
    try:
        return _listen(family, address, port)
    except OSError as error:
        if family == socket.AF_INET6 and host in ANY_ADDRESS and error.errno != errno.EADDRINUSE:
            return bind_ipv4_only(host, port)
        raise _listen_error(host, port, _go_text(address, port, error)) from error


def bind_ipv4_only(host: str, port: int) -> socket.socket:
    """Bind every IPv4 address, on a host that has no IPv6.

    Raises:
        StartError: as bind.
    """
    try:
        return _listen(socket.AF_INET, "0.0.0.0", port)
    except OSError as error:
        raise _listen_error(host, port, _go_text("0.0.0.0", port, error)) from error


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, str]:
    if host in ANY_ADDRESS:
        return (socket.AF_INET6, "::") if socket.has_ipv6 else (socket.AF_INET, "0.0.0.0")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise _listen_error(host, port, f"listen tcp: lookup {host}: no such host") from error
    # Go listens on the first IPv4 address of a name, if there is one.
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    return found[0][0], str(found[0][4][0])


def _listen(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address == "::" else 1)
        listening.bind((address, port))
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


def _go_text(address: str, port: int, error: OSError) -> str:
    reason = os.strerror(error.errno or 0).lower()
    return f"listen tcp {join_host_port(address, port)}: bind: {reason}"


def _listen_error(host: str, port: int, text: str) -> StartError:
    return StartError(f'Error listening on port: {join_host_port(host, port)}, "{text}"')


class Listener:
    """Accepts and spreads."""

    def __init__(
        self,
        listening: socket.socket,
        targets: Callable[[], Sequence[Target]],
        log: Log,
        max_connections: int,
    ) -> None:
        """Take over a listening socket.

        Args:
            targets: returns the workers that are ready now.
            max_connections: further clients are told that there are too many; 0 for no limit.
        """
        self._socket = listening
        self._targets = targets
        self._log = log
        self._max_connections = max_connections
        self._last_client_id = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_accepting = False
        self._is_closed = False
        # Connections whose worker died before it got them, while no other was ready.
        self._homeless: list[Accepted] = []

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to accept as soon as a worker is ready; call resume when one becomes so."""
        self._loop = loop
        self.resume()

    def resume(self) -> None:
        """Accept, if there is a worker to hand connections to."""
        if self._loop is None or self._is_closed or not self._targets():
            return
        if self._homeless:
            homeless, self._homeless = self._homeless, []
            self.spread(homeless)
        if not self._is_accepting:
            self._is_accepting = True
            self._loop.add_reader(self._socket.fileno(), self._on_readable)

    def close(self) -> None:
        """Stop listening: the kernel refuses further connections, and resets those in the backlog."""
        if self._is_closed:
            return
        self._pause()
        self._is_closed = True
        self._socket.close()
        for connection in self._homeless:
            os.close(connection.descriptor)
        self._homeless.clear()

    def spread(self, connections: Sequence[Accepted]) -> None:
        """Hand each connection to the worker that has the fewest then."""
        targets = self._targets()
        if not targets:
            self._homeless += connections
            return
        loads = [target.load for target in targets]
        shares: list[list[Accepted]] = [[] for _ in targets]
        for connection in connections:
            index = loads.index(min(loads))
            loads[index] += 1
            shares[index].append(connection)
        for target, share in zip(targets, shares, strict=True):
            if share:
                target.hand_over(share)

    def _on_readable(self) -> None:
        targets = self._targets()
        if not targets:
            self._pause()
            return
        if sum(target.unsent_connections for target in targets) >= UNSENT_CONNECTIONS_MAX:
            self._pause(UNSENT_PAUSE_SECONDS)
            return
        live = sum(target.load for target in targets)
        accepted: list[Accepted] = []
        for _ in range(ACCEPT_BATCH):
            connection = self._accept(live + len(accepted))
            if connection is None:
                break
            accepted.append(connection)
        if accepted:
            self.spread(accepted)

    def _accept(self, live: int) -> Accepted | None:
        """Return the next connection, or None when there is none or the kernel refuses."""
        try:
            client, address = self._socket.accept()
        except BlockingIOError:
            return None
        except OSError as error:
            # Else a connection was reset while it waited; the socket stays readable if others wait.
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                self._log.limited(
                    "accept",
                    f"Temporary Client Accept Error ({os.strerror(error.errno).lower()}), sleeping"
                    f" {int(REFUSED_PAUSE_SECONDS * 1000)}ms",
                    level="ERR",
                )
                self._pause(REFUSED_PAUSE_SECONDS)
            return None
        client.setblocking(False)
        self._last_client_id += 1
        return Accepted(
            self._last_client_id,
            str(address[0]).removeprefix(_MAPPED_PREFIX),
            int(address[1]),
            0 < self._max_connections <= live,
            client.detach(),
        )

    def _pause(self, seconds: float | None = None) -> None:
        """Leave connections in the backlog until resume is called, or for some seconds."""
        if self._loop is None:
            return
        if self._is_accepting:
            self._is_accepting = False
            self._loop.remove_reader(self._socket.fileno())
        if seconds is not None:
            self._loop.call_later(seconds, self.resume)
