"""JetStream over a plain blocking socket: requests to the API, and messages counted as they come."""

from __future__ import annotations

import json
import secrets
from typing import Any

from loadtest.client import Connection, Server, ServerError
from loadtest.parser import operations

STREAM = "S"
CONSUMERS_MAX = 100_000
"""Without it a stream takes 1,000."""


class JetStreamClient:
    """One connection that asks the API; answers come to its own inbox."""

    def __init__(self, server: Server) -> None:
        """Connect.

        Raises:
            OSError, ServerError: see Connection.
        """
        self.connection = Connection(server, "midge-consumers", timeout_s=30.0)
        self._asked = 0
        self._inbox = f"_api.{secrets.token_hex(4)}"
        self.connection.subscribe(f"{self._inbox}.*", sid=9)

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def ask(self, call: str, body: dict[str, object] | None = None) -> dict[str, Any]:
        """Send a request to the API and return its answer.

        Raises:
            ServerError: the answer is an error.
        """
        self._asked += 1
        data = json.dumps(body).encode() if body is not None else b""
        reply = f"{self._inbox}.{self._asked}"
        head = f"PUB $JS.API.{call} {reply} {len(data)}\r\n"
        self.connection.send(head.encode() + data + b"\r\n")
        answer: dict[str, Any] = json.loads(self._answer_to(reply.encode()))
        if "error" in answer:
            raise ServerError(f"{call}: {answer['error']}")
        return answer

    def _answer_to(self, reply: bytes) -> bytes:
        while True:
            found, used = operations(self.connection.unread)
            self.connection.unread = self.connection.unread[used:]
            for kind, subject, _sid, _reply, headers, payload in found:
                if kind in ("MSG", "HMSG") and subject == reply:
                    if headers:
                        raise ServerError(f"{headers[:60]!r} where an answer was due")
                    return payload
            self.connection.receive()

    def create_stream(self, storage: str) -> None:
        """Make the stream S of `work.>`."""
        config = {"name": STREAM, "subjects": ["work.>"], "storage": storage, "max_consumers": CONSUMERS_MAX}
        self.ask(f"STREAM.CREATE.{STREAM}", config)

    def create_consumer(self, name: str, subject: str, **options: object) -> None:
        """Make a durable consumer of one subject of the stream."""
        config = {"name": name, "durable_name": name, "filter_subject": subject, **options}
        self.ask(f"CONSUMER.CREATE.{STREAM}.{name}.{subject}", {"stream_name": STREAM, "config": config})
