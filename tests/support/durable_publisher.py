"""Publishers that go on whatever dies, and the check of what a stream must hold afterwards."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence

from support.broker import Broker
from support.jetstream_client import Answer, JetStreamClient, is_end_of_batch
from support.rawclient import RawClient

# A request under way when its server dies is never answered; a new connection asks again.
ACK_TIMEOUT_S = 1.0
PAUSE_S = 0.02
READ_BATCH = 1000


class DurablePublisher(threading.Thread):
    """Publishes the numbers 0, 1, 2, … on one subject, each until it is acknowledged.

    Attributes:
        sequences: of the acknowledged numbers, in order.
        failure: what must not happen, None if nothing did.
    """

    def __init__(self, broker: Broker, subject: str) -> None:
        super().__init__(daemon=True)
        self.broker = broker
        self.subject = subject
        self.sequences: list[int] = []
        self.failure: ValueError | None = None
        self._stopped = threading.Event()

    @property
    def acknowledged(self) -> int:
        return len(self.sequences)

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def run(self) -> None:
        try:
            while not self._stopped.is_set():
                self._publish_until_it_breaks()
        except ValueError as error:
            self.failure = error

    def _publish_until_it_breaks(self) -> None:
        raw = self._connect()
        if raw is None:
            self._stopped.wait(PAUSE_S)
            return
        client = JetStreamClient(raw)
        try:
            while not self._stopped.is_set():
                number = len(self.sequences)
                headers = [("Nats-Msg-Id", f"{self.subject}-{number}")]
                [answer] = client.ask(self.subject, b"%d" % number, headers, timeout_s=ACK_TIMEOUT_S)
                self._take(answer)
        except (AssertionError, ConnectionError):
            return  # the connection has ended, or nobody answered
        finally:
            raw.close()

    def _connect(self) -> RawClient | None:
        try:
            raw = self.broker.connect()
        except (AssertionError, ConnectionError):
            return None
        try:
            return raw.handshake(headers=True, no_responders=True)
        except (AssertionError, ConnectionError):
            raw.close()
            return None

    def _take(self, answer: Answer) -> None:
        if answer.status == 503:
            # Nobody keeps the stream at this moment: the same message again.
            self._stopped.wait(PAUSE_S)
            return
        fields = json.loads(answer.payload)
        if "error" in fields:
            raise ValueError(f"{self.subject} was refused: {fields}")
        self.sequences.append(fields["seq"])


def read_all(client: JetStreamClient, stream: str) -> list[tuple[int, str, bytes]]:
    """Return sequence, subject and payload of every message of a stream that allows direct gets."""
    found: list[tuple[int, str, bytes]] = []
    start = 1
    while True:
        body = json.dumps({"seq": start, "batch": READ_BATCH}).encode()
        *messages, end = client.ask(f"$JS.API.DIRECT.GET.{stream}", body, is_complete=is_end_of_batch)
        for message in messages:
            fields = _fields(message.headers)
            found.append((int(fields["Nats-Sequence"]), fields["Nats-Subject"], message.payload))
        if end.status == 404 or not messages:
            return found
        start = found[-1][0] + 1


def expect_exactly_once(
    publishers: Sequence[DurablePublisher], messages: Sequence[tuple[int, str, bytes]]
) -> None:
    """Check that every acknowledged message is there once, where its acknowledgement said, and in order."""
    stored: dict[str, list[tuple[int, int]]] = {}
    for sequence, subject, payload in messages:
        stored.setdefault(subject, []).append((int(payload), sequence))
    for publisher in publishers:
        assert publisher.failure is None, publisher.failure
        found = stored.get(publisher.subject, [])
        count = publisher.acknowledged
        # One more may be there: it was stored, and the acknowledgement was lost or not waited for.
        assert len(found) in (count, count + 1), f"{publisher.subject}: {count} sent, {len(found)} stored"
        assert found[:count] == list(enumerate(publisher.sequences)), publisher.subject
        assert [number for number, _ in found] == list(range(len(found))), publisher.subject


def _fields(block: bytes) -> dict[str, str]:
    lines = block.decode().split("\r\n")[1:]
    return dict(line.split(": ", 1) for line in lines if line)
