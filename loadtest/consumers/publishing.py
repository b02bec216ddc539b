"""How fast a stream takes messages that one of its many consumers gets and the others do not want."""

from __future__ import annotations

import re
import selectors
import time

from loadtest.client import ServerError
from loadtest.compare.rounds import Figures
from loadtest.compare.scenarios import CPU, RATE
from loadtest.compare.servers import RunningServer
from loadtest.consumers.client import STREAM, JetStreamClient

SUBJECT = b"work.wanted"
PAYLOAD = b"x" * 128
BLOCK = 256
"""Messages written at a time."""
WINDOW = 16_384
"""Messages that may wait for their acknowledgement."""
SILENCE_S = 20.0
READ_BYTES = 1 << 20
ACK = re.compile(rb'"seq":\s?([0-9]+)')
DELIVERY = b"$JS.ACK."
OTHER_FIELDS: dict[str, object] = {"ack_policy": "explicit", "inactive_threshold": 600 * 10**9}


class Arrivals:
    """Counts a mark in what one connection receives, also where it lies in two reads."""

    def __init__(self, client: JetStreamClient, mark: bytes) -> None:
        self.socket = client.connection.socket
        self.count = 0
        self.parts: list[bytes] = []
        self._mark = mark
        self._rest = b""

    def read(self) -> None:
        """Take what is there.

        Raises:
            ServerError: the connection has ended.
        """
        data = self.socket.recv(READ_BYTES)
        if not data:
            raise ServerError("the server closed a connection")
        self.parts.append(data)
        data = self._rest + data
        self.count += data.count(self._mark)
        # Shorter than the mark, so that none is counted twice.
        self._rest = data[1 - len(self._mark) :]


def make_consumers(client: JetStreamClient, count: int, kind: str) -> None:
    """Make the stream's consumers: one of SUBJECT, to `_got`, and the rest of other subjects.

    Args:
        kind: of the rest: `pull` with a waiting request each, `push` with a listener, or `idle`.
    """
    others: list[bytes] = []
    for number in range(1, count):
        fields = OTHER_FIELDS | ({"deliver_subject": f"_other.{number}"} if kind == "push" else {})
        client.create_consumer(f"c{number}", f"work.{number}", **fields)
        if kind == "pull":
            others.append(request(b"c%d" % number, b"_other.%d" % number, 1))
    client.connection.send(b"".join(others))
    client.create_consumer("wanted", SUBJECT.decode(), ack_policy="none", inactive_threshold=600 * 10**9)


def request(consumer: bytes, reply: bytes, batch: int) -> bytes:
    """Return a pull request that waits for ten minutes."""
    body = b'{"batch":%d,"expires":600000000000}' % batch
    subject = b"$JS.API.CONSUMER.MSG.NEXT.%b.%b" % (STREAM.encode(), consumer)
    return b"PUB %b %b %d\r\n%b\r\n" % (subject, reply, len(body), body)


def measure_publishing(
    running: RunningServer, messages: int, consumers: int, kind: str, storage: str
) -> Figures:
    """Publish and wait until everything has been acknowledged and delivered.

    Raises:
        ServerError: something was refused, lost or came twice.
    """
    publisher, reader, others = (JetStreamClient(running.server) for _ in range(3))
    try:
        publisher.create_stream(storage)
        others.connection.subscribe("_other.>", sid=2)
        reader.connection.subscribe("_got", sid=2)
        make_consumers(others, consumers, kind)
        if kind == "push":
            time.sleep(1.0)  # until the server has found the listeners
        reader.connection.send(request(b"wanted", b"_got", messages))
        reader.ask("INFO")
        publisher.connection.subscribe("_acked", sid=2)
        acks, deliveries = Arrivals(publisher, b'"seq":'), Arrivals(reader, DELIVERY)
        cpu_ns, begin_ns = running.cpu_ns(), time.monotonic_ns()
        publish(acks, deliveries, messages)
        elapsed_ns = time.monotonic_ns() - begin_ns
        cpu_ns = running.cpu_ns() - cpu_ns
        check(acks, messages)
        unwanted = others.ask(f"STREAM.INFO.{STREAM}")
        if unwanted["state"]["messages"] != messages or b"_other" in others.connection.unread:
            raise ServerError("a consumer got what it does not want, or the stream lacks messages")
        return {RATE: messages * 1e9 / elapsed_ns, CPU: cpu_ns / 1e3 / messages}
    finally:
        for client in (publisher, reader, others):
            client.close()


def publish(acks: Arrivals, deliveries: Arrivals, messages: int) -> None:
    """Send everything, at most WINDOW messages ahead of their acknowledgements, and wait for the rest."""
    line = b"PUB %b _acked %d\r\n%b\r\n" % (SUBJECT, len(PAYLOAD), PAYLOAD)
    sent, unsent = 0, memoryview(b"")
    acks.socket.setblocking(False)
    with selectors.DefaultSelector() as selector:
        selector.register(acks.socket, selectors.EVENT_READ, acks)
        selector.register(deliveries.socket, selectors.EVENT_READ, deliveries)
        while acks.count < messages or deliveries.count < messages:
            if not unsent and sent < messages and sent - acks.count < WINDOW:
                count = min(BLOCK, messages - sent)
                unsent, sent = memoryview(line * count), sent + count
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if unsent else 0)
            selector.modify(acks.socket, events, acks)
            ready = selector.select(SILENCE_S)
            if not ready:
                raise ServerError(f"silence: {acks.count} acks, {deliveries.count} deliveries of {sent}")
            for key, event in ready:
                if event & selectors.EVENT_READ:
                    key.data.read()
                if event & selectors.EVENT_WRITE:
                    unsent = unsent[acks.socket.send(unsent) :]
    acks.socket.settimeout(SILENCE_S)


def check(acks: Arrivals, messages: int) -> None:
    """See that every message was acknowledged with a sequence of its own.

    Raises:
        ServerError: not so.
    """
    sequences = {int(number) for number in ACK.findall(b"".join(acks.parts))}
    if sequences != set(range(1, messages + 1)):
        raise ServerError(f"{len(sequences)} different sequences acknowledged of {messages} messages")
