"""JetStream's API over a RawClient: every request waits for its answers, which come back as bytes or JSON."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from support.rawclient import DEFAULT_TIMEOUT_S, RawClient

Headers = Sequence[tuple[str, str]]

API_PREFIX = "$JS.API."
# nats-server leaves two blanks where a message of its own has no reply.
LINE = re.compile(rb"(H?)MSG (\S+) \S+ +(?:\S+ )??(?:(\d+) )?(\d+)\r\n")
STATUS = re.compile(rb"NATS/1\.0 (\d+)")

_inbox_numbers = itertools.count()


@dataclass(frozen=True)
class Answer:
    """One message that answered a request.

    Attributes:
        headers: the header block as on the wire, b"" for none.
    """

    headers: bytes
    payload: bytes

    @property
    def status(self) -> int:
        """The status of its header line, 0 for none."""
        match = STATUS.match(self.headers)
        return int(match[1]) if match else 0

    def json(self) -> dict[str, Any]:
        """The payload, which must be a JSON object."""
        assert not self.status, self
        fields = json.loads(self.payload)
        assert isinstance(fields, dict), self
        return fields


def is_first(answer: Answer) -> bool:
    """Whether a request that gets one answer is complete."""
    return True


def is_end_of_batch(answer: Answer) -> bool:
    """Whether a direct get of several messages is complete: by 204, or by an error."""
    return answer.status != 0


class JetStreamClient:
    """A connection that asks for things, one at a time."""

    def __init__(self, client: RawClient) -> None:
        """Subscribe to an inbox.

        Args:
            client: after a handshake with headers and no_responders; it has no other subscription.
        """
        self.client = client
        self._inbox = f"_INBOX.{next(_inbox_numbers)}"
        self._numbers = itertools.count()
        client.send(f"SUB {self._inbox}.* 1\r\n".encode())

    def ask(
        self,
        subject: str,
        payload: bytes = b"",
        headers: Headers = (),
        is_complete: Callable[[Answer], bool] = is_first,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> list[Answer]:
        """Send one request and return its answers, in order.

        Args:
            is_complete: says of an answer whether it is the last.
            timeout_s: for each answer.
        Raises:
            AssertionError: the next answer does not come in time.
        """
        inbox = f"{self._inbox}.{next(self._numbers)}".encode()
        block = encode_headers(headers)
        if block:
            head = b"HPUB %b %b %d %d\r\n" % (subject.encode(), inbox, len(block), len(block) + len(payload))
        else:
            head = b"PUB %b %b %d\r\n" % (subject.encode(), inbox, len(payload))
        self.client.send(head + block + payload + b"\r\n")
        answers: list[Answer] = []
        while not answers or not is_complete(answers[-1]):
            answers.append(self._next_answer(inbox, timeout_s))
        return answers

    def api(self, name: str, body: object = None, headers: Headers = ()) -> dict[str, Any]:
        """Call `$JS.API.<name>` and return its JSON.

        Args:
            body: None for none, bytes as they are, anything else as JSON.
        """
        payload = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        [answer] = self.ask(API_PREFIX + name, payload, headers)
        return answer.json()

    def create(self, name: str, **config: object) -> dict[str, Any]:
        """Create a stream, which must succeed, and return the answer."""
        answer = self.api(f"STREAM.CREATE.{name}", {"name": name, **config})
        assert "error" not in answer, answer
        return answer

    def info(self, name: str, **request: object) -> dict[str, Any]:
        """Return the answer of STREAM.INFO."""
        return self.api(f"STREAM.INFO.{name}", request or None)

    def publish(self, subject: str, payload: bytes = b"", headers: Headers = ()) -> dict[str, Any]:
        """Publish one message and return the PubAck or the error."""
        [answer] = self.ask(subject, payload, headers)
        return answer.json()

    def _next_answer(self, inbox: bytes, timeout_s: float) -> Answer:
        while True:
            line = self.client.expect(LINE.pattern, timeout_s)
            has_headers, subject, header_size, size = line.groups()
            body = self.client.expect(rb"(.{%d})\r\n" % int(size), timeout_s)[1]
            # An answer that nobody waited for any longer is passed over.
            if subject == inbox:
                split = int(header_size) if has_headers else 0
                return Answer(body[:split], body[split:])


def encode_headers(headers: Headers) -> bytes:
    """Return a header block, b"" for none."""
    if not headers:
        return b""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"NATS/1.0\r\n{lines}\r\n".encode()
