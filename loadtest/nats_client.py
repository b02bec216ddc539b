"""A small NATS client for load tests: publish, subscribe, request, over one socket and one reader thread.

It uses only `socket` and `threading`, so it runs under gevent when those are patched (Locust does that at
import): the reader is then a greenlet. Handlers run in the reader: they must not block, nor call request().
"""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from loadtest.client import Connection, Server, ServerError
from loadtest.parser import BrokenInput, operations

REQUEST_TIMEOUT_S = 5.0
NO_RESPONDERS_STATUS = b"NATS/1.0 503"


class NoResponders(ServerError):
    """Nobody subscribes to the subject of a request."""


@dataclass(frozen=True)
class Message:
    """What a handler gets."""

    subject: str
    reply: str
    headers: bytes
    payload: bytes


class Waiter:
    """One request in flight."""

    def __init__(self) -> None:
        self.is_done = threading.Event()
        self.message: Message | None = None


class NatsClient:
    """One connection; methods may be called from any thread or greenlet."""

    def __init__(self, server: Server, name: str = "midge-load") -> None:
        """Connect and start the reader.

        Raises:
            OSError, ServerError: see Connection.
        """
        self._connection = Connection(server, name)
        self._connection.socket.settimeout(None)
        self._send_lock = threading.Lock()
        self._failure: Exception | None = None
        self._handlers: dict[bytes, Callable[[Message], None]] = {}
        self._waiters: dict[str, Waiter] = {}
        self._inbox = f"_INBOX.{secrets.token_hex(11)}"
        self._request_count = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self.subscribe(f"{self._inbox}.*", self._take_reply)
        self._reader.start()

    def publish(self, subject: str, payload: bytes, reply: str = "") -> None:
        """Send one message.

        Raises:
            ServerError: the connection is lost, or was ended by an error of the server.
        """
        words = f"PUB {subject} {reply} {len(payload)}" if reply else f"PUB {subject} {len(payload)}"
        self._send(words.encode() + b"\r\n" + payload + b"\r\n")

    def subscribe(self, subject: str, handler: Callable[[Message], None], queue: str = "") -> None:
        """Subscribe; the handler gets each message, in the reader. Does not wait for the server."""
        sid = str(len(self._handlers) + 1)
        self._handlers[sid.encode()] = handler
        self._send(f"SUB {subject} {queue} {sid}\r\n".replace("  ", " ").encode())

    def request(self, subject: str, payload: bytes, timeout_s: float = REQUEST_TIMEOUT_S) -> Message:
        """Publish with a reply subject of its own and return the first reply.

        Raises:
            NoResponders: the server says that nobody listens. TimeoutError: no reply in time.
            ServerError: the connection is lost.
        """
        self._request_count += 1
        reply = f"{self._inbox}.{self._request_count}"
        waiter = self._waiters[reply] = Waiter()
        try:
            self.publish(subject, payload, reply)
            if not waiter.is_done.wait(timeout_s):
                raise TimeoutError(f"no reply on {subject} in {timeout_s} s")
        finally:
            del self._waiters[reply]
        if waiter.message is None:
            raise ServerError(f"connection lost: {self._failure}")
        if waiter.message.headers.startswith(NO_RESPONDERS_STATUS):
            raise NoResponders(f"no responders on {subject}")
        return waiter.message

    def close(self) -> None:
        """Close the connection and wait for the reader; requests in flight fail."""
        # An error here: the server was first.
        with suppress(OSError):
            self._connection.socket.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._connection.close()

    def _send(self, data: bytes) -> None:
        if self._failure is not None:
            raise ServerError(f"connection lost: {self._failure}")
        try:
            with self._send_lock:
                self._connection.send(data)
        except OSError as error:
            raise ServerError(f"connection lost: {error}") from error

    def _take_reply(self, message: Message) -> None:
        waiter = self._waiters.get(message.subject)
        if waiter is not None:
            waiter.message = message
            waiter.is_done.set()

    def _read(self) -> None:
        """Handle what arrives until the connection ends, then wake everybody who waits."""
        try:
            while True:
                found, used = operations(self._connection.unread)
                self._connection.unread = self._connection.unread[used:]
                for kind, subject, sid, reply, headers, text in found:
                    if kind == "MSG":
                        message = Message(subject.decode(), reply.decode(), headers, text)
                        self._handlers[sid](message)
                    elif kind == "PING":
                        self._send(b"PONG\r\n")
                    elif kind == "-ERR":
                        raise ServerError(text.decode(errors="replace"))
                self._connection.receive()
        except (OSError, ServerError, BrokenInput) as error:
            self._failure = error
        for waiter in list(self._waiters.values()):
            waiter.is_done.set()
