"""A client of consumers: every inbox has a subscription of its own, so it is known where a message came."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass

from support.broker import Broker
from support.jetstream_client import API_PREFIX, Headers, encode_headers
from support.rawclient import DEFAULT_TIMEOUT_S

LINE = re.compile(rb"(H?)MSG (\S+) (\d+) +(?:(\S+) )??(?:(\d+) )?(\d+)\r\n")

_client_numbers = itertools.count()


@dataclass(frozen=True)
class Delivery:
    """A message that a client got.

    Attributes:
        sid: of the subscription. reply: b"" for none. headers: the block as on the wire, b"" for none.
    """

    sid: int
    subject: bytes
    reply: bytes
    headers: bytes
    payload: bytes

    @property
    def status(self) -> str:
        """The status line without its version and the lines below it, with blanks; "" if it is a message."""
        return self.headers.decode().removeprefix("NATS/1.0 ").strip() if not self.reply else ""


class ConsumerClient:
    """A connection to a broker that pulls, listens and acknowledges.

    Attributes:
        waiting: by sid, what came while something else was awaited.
    """

    def __init__(self, broker: Broker) -> None:
        self.raw = broker.connect().handshake(headers=True, no_responders=True)
        self.waiting: dict[int, list[Delivery]] = {}
        self._inbox = f"_INBOX.c{next(_client_numbers)}"
        self._sids = itertools.count(1)

    def close(self) -> None:
        self.raw.close()

    # ---- sending

    def listen(self, subject: str, group: str = "") -> int:
        """Subscribe and return the sid."""
        sid = next(self._sids)
        self.waiting[sid] = []
        self.raw.send(f"SUB {subject} {group} {sid}\r\n".encode())
        return sid

    def ignore(self, sid: int) -> None:
        """Unsubscribe."""
        self.raw.send(b"UNSUB %d\r\n" % sid)

    def inbox(self) -> tuple[int, str]:
        """Return the sid and the subject of a new inbox."""
        number = next(self._sids)
        subject = f"{self._inbox}.{number}"
        self.waiting[number] = []
        self.raw.send(f"SUB {subject} {number}\r\n".encode())
        return number, subject

    def publish(self, subject: str, payload: bytes = b"", reply: str = "", headers: Headers = ()) -> None:
        """Publish one message."""
        block = encode_headers(headers)
        sizes = b"%d %d" % (len(block), len(block) + len(payload)) if block else b"%d" % len(payload)
        verb = b"HPUB" if block else b"PUB"
        head = b"%b %b %b %b\r\n" % (verb, subject.encode(), reply.encode(), sizes)
        self.raw.send(head + block + payload + b"\r\n")

    def request(self, subject: str, payload: bytes = b"", headers: Headers = ()) -> int:
        """Publish with a new inbox for the answers and return its sid."""
        sid, reply = self.inbox()
        self.publish(subject, payload, reply, headers)
        return sid

    def pull(self, stream: str, consumer: str, body: object = b"", headers: Headers = ()) -> int:
        """Ask a consumer for messages and return the sid under which they come.

        Args:
            body: bytes as they are, anything else as JSON.
        """
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.request(f"{API_PREFIX}CONSUMER.MSG.NEXT.{stream}.{consumer}", payload, headers)

    def ack(self, message: Delivery, payload: bytes = b"+ACK") -> None:
        """Answer a message, and wait for nothing."""
        self.publish(message.reply.decode(), payload)

    def ack_sync(self, message: Delivery, payload: bytes = b"+ACK") -> None:
        """Answer a message and wait until the broker says that it has taken it."""
        sid = self.request(message.reply.decode(), payload)
        answer = self.next(sid)
        assert (answer.headers, answer.payload) == (b"", b""), answer

    def api(self, name: str, body: object = None) -> dict[str, object]:
        """Call `$JS.API.<name>` and return its JSON."""
        payload = b"" if body is None else json.dumps(body).encode()
        answer = self.next(self.request(API_PREFIX + name, payload))
        fields = json.loads(answer.payload)
        assert isinstance(fields, dict), answer
        return fields

    # ---- receiving

    def next(self, sid: int, timeout_s: float = DEFAULT_TIMEOUT_S) -> Delivery:
        """Return the next message of one subscription.

        Raises:
            AssertionError: it does not come in time.
        """
        while not self.waiting[sid]:
            self.receive(timeout_s)
        return self.waiting[sid].pop(0)

    def receive(self, timeout_s: float = DEFAULT_TIMEOUT_S) -> Delivery:
        """Put the next message, whatever it is, into `waiting` and return it.

        Raises:
            AssertionError: none comes in time.
        """
        line = self.raw.expect(LINE.pattern, timeout_s)
        has_headers, subject, sid, reply, header_size, size = line.groups()
        body = self.raw.expect(rb"(.{%d})\r\n" % int(size), timeout_s)[1]
        split = int(header_size) if has_headers else 0
        message = Delivery(int(sid), subject, reply or b"", body[:split], body[split:])
        self.waiting[message.sid].append(message)
        return message
