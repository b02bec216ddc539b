"""Connect to a NATS server over a plain blocking socket and finish the handshake.

Only what load generators need before their fast path takes the socket over; sockets patched by gevent work
too.
"""

from __future__ import annotations

import json
import resource
import socket
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from loadtest.parser import operations

PORT_DEFAULT = 4222
LINE_BYTES_MAX = 1 << 20
# Descriptors of this process besides its connections.
DESCRIPTORS_SPARE = 128


class ServerError(Exception):
    """The server refused, closed the connection, or sent what was not expected."""


def allow_connections(count: int) -> None:
    """Raise the soft limit of open descriptors for so many connections, as far as the hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + DESCRIPTORS_SPARE
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


@dataclass(frozen=True)
class Server:
    """Where a server is and how to log in."""

    host: str
    port: int
    user: str | None = None
    password: str | None = None
    token: str | None = None

    @classmethod
    def from_url(
        cls, url: str, user: str | None = None, password: str | None = None, token: str | None = None
    ) -> Server:
        """Read `[nats://][user:password@|token@]host[:port]`; arguments win over the URL.

        Raises:
            ValueError: the URL has another scheme or a bad port.
        """
        parts = urlsplit(url if "://" in url else f"nats://{url}")
        if parts.scheme != "nats":
            raise ValueError(f"server {url}: the scheme is {parts.scheme}, only nats is supported")
        if parts.username and not (user or token):
            if parts.password is None:
                token = unquote(parts.username)
            else:
                user, password = unquote(parts.username), password or unquote(parts.password)
        return cls(parts.hostname or "127.0.0.1", parts.port or PORT_DEFAULT, user, password, token)

    def connect_options(self, name: str) -> bytes:
        """Return the CONNECT line.

        protocol 0 asks for no INFO after the first: load generators would have to skip it.
        """
        options: dict[str, object] = {
            "verbose": False,
            "pedantic": False,
            "protocol": 0,
            "headers": True,
            "no_responders": True,
            "lang": "python",
            "version": "0.1.0",
            "name": name,
        }
        for key, value in (("user", self.user), ("pass", self.password), ("auth_token", self.token)):
            if value is not None:
                options[key] = value
        return b"CONNECT " + json.dumps(options).encode() + b"\r\n"


class Connection:
    """A connected client whose handshake is done.

    Attributes:
        socket: blocking, with the timeout given to the constructor; owned, close() ends it.
        unread: bytes that were read and not used; whoever takes the socket over begins with them.
        info: the server's INFO.
    """

    def __init__(self, server: Server, name: str = "midge-bench", timeout_s: float = 5.0) -> None:
        """Connect and log in.

        Raises:
            OSError: no connection. ServerError: refused, with the server's text.
        """
        self.socket = socket.create_connection((server.host, server.port), timeout=timeout_s)
        self.unread = b""
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line = self.read_line()
            if not line.startswith(b"INFO "):
                raise ServerError(f"{line[:60]!r} where INFO was due")
            self.info: dict[str, object] = json.loads(line[5:])
            self.send(server.connect_options(name))
            self.round_trip()
        except BaseException:
            self.socket.close()
            raise

    def send(self, data: bytes) -> None:
        """Send all bytes, waiting as long as the timeout allows."""
        self.socket.sendall(data)

    def receive(self) -> None:
        """Wait for more bytes and append them to `unread`.

        Raises:
            ServerError: the server closed the connection. TimeoutError.
        """
        data = self.socket.recv(65536)
        if not data:
            raise ServerError("the server closed the connection")
        self.unread += data

    def read_line(self) -> bytes:
        """Return the next line without its CR LF."""
        while b"\r\n" not in self.unread:
            if len(self.unread) > LINE_BYTES_MAX:
                raise ServerError(f"no line end in {len(self.unread)} bytes")
            self.receive()
        line, self.unread = self.unread.split(b"\r\n", 1)
        return line

    def round_trip(self) -> None:
        """Send PING and wait for PONG, so that the server has handled all that was sent before.

        For connections without subscriptions: no message may come before the PONG.

        Raises:
            ServerError: the server answered with -ERR or with something unexpected.
        """
        self.send(b"PING\r\n")
        while (line := self.read_line()) != b"PONG":
            if line == b"PING":
                self.send(b"PONG\r\n")
            elif line.startswith(b"-ERR"):
                raise ServerError(line[5:].decode(errors="replace").strip("'"))
            elif not line.startswith((b"INFO ", b"+OK")):
                raise ServerError(f"{line[:60]!r} where PONG was due")

    def subscribe(self, subject: str, queue: str | None = None, sid: int = 1, limit: int = 0) -> None:
        """Subscribe and return when the server knows it.

        Messages that came meanwhile are left in `unread`, with the PONG among them.

        Args:
            limit: messages after which the server unsubscribes, 0 for none.
        Raises:
            ServerError: with the server's text when it refused.
        """
        arguments = f"{subject} {queue} {sid}" if queue else f"{subject} {sid}"
        unsubscribe = f"UNSUB {sid} {limit}\r\n" if limit else ""
        self.send(f"SUB {arguments}\r\n{unsubscribe}PING\r\n".encode())
        while True:
            found = {kind: text for kind, *_, text in operations(self.unread)[0]}
            if "-ERR" in found:
                raise ServerError(found["-ERR"].decode(errors="replace").strip("'"))
            if "PONG" in found:
                return
            self.receive()

    def close(self) -> None:
        """Close the socket; a second call does nothing."""
        self.socket.close()
