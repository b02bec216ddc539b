"""Messages into streams and acknowledgements out of them, on a data plane without an engine around it."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from support.planes import Client, Mesh, mesh

from storage.errors import WriteFailed
from storage.limits import StreamLimits
from storage.memory import memory_stream
from workers.jetstream.dedup import DedupTable
from workers.jetstream.ingest import Acks, StreamIngest
from workers.jetstream.stream_config import StreamConfig

MINUTE_NS = 60 * 10**9


@dataclass
class Publisher:
    """Remembers what the compiled path leaves to it."""

    dedup: DedupTable = field(default_factory=lambda: DedupTable(2 * MINUTE_NS))
    published: list[tuple[bytes, bytes, bytes, bytes]] = field(default_factory=list)

    def publish(self, subject: bytes, reply: bytes, headers: bytes, payload: bytes) -> None:
        self.published.append((subject, reply, headers, payload))


class Fixture:
    """A stream `ORDERS` that takes `orders.>` and a client with an inbox."""

    def __init__(
        self,
        planes: Mesh,
        *,
        is_durable: bool = False,
        domain: str = "",
        limits: StreamLimits | None = None,
        **config,
    ) -> None:
        self.planes = planes
        self.acks = Acks(planes.hosts[0].plane)
        self.store = memory_stream(limits or StreamLimits())
        self.publisher = Publisher()
        values = {"max_msg_size": -1, "duplicate_window": 2 * MINUTE_NS, **config}
        self.stream = SimpleNamespace(
            config=StreamConfig(name="ORDERS", **values),
            engine=SimpleNamespace(acks=self.acks, config=SimpleNamespace(js_domain=domain)),
            is_durable=is_durable,
            publisher=self.publisher,
            store=self.store,
            overload_answer=b"later",
            send_now=lambda reply, body, headers: planes.hosts[0].plane.publish(
                0, reply, body, headers=headers
            ),
        )
        self.ingest = StreamIngest(self.stream)
        self.listener = planes.hosts[0].plane.listen(0, b"orders.>", self.ingest)
        self.client: Client = planes.connect(headers=True)
        self.client.send(b"SUB in.* 1\r\n")
        planes.settle()

    def publish(
        self, subject: bytes, payload: bytes, *, reply: bytes = b"in.1", headers: bytes = b""
    ) -> list[bytes]:
        """Publish and return the payloads of what comes back."""
        if headers:
            line = b"HPUB %b %b %d %d\r\n" % (subject, reply, len(headers), len(headers) + len(payload))
        else:
            line = b"PUB %b %b %d\r\n" % (subject, reply, len(payload))
        self.client.send(line + headers + payload + b"\r\n")
        return self.answers()

    def answers(self) -> list[bytes]:
        self.planes.settle()
        return [message.payload for message in self.client.take_messages()]

    def close(self) -> None:
        self.planes.hosts[0].plane.unlisten(self.listener)
        del self.ingest, self.stream, self.acks  # they hold the data plane


def message_id(text: bytes) -> bytes:
    return b"NATS/1.0\r\nNats-Msg-Id: %b\r\n\r\n" % text


def test_message_is_stored_and_acknowledged() -> None:
    with mesh(1) as planes:
        fixture = Fixture(planes)
        assert fixture.publish(b"orders.new", b"one") == [b'{"stream":"ORDERS","seq":1}']
        headers = b"NATS/1.0\r\nA: b\r\n\r\n"
        assert fixture.publish(b"orders.old", b"", headers=headers) == [b'{"stream":"ORDERS","seq":2}']
        assert fixture.publish(b"orders.new", b"three", reply=b"") == []
        assert [(m.sequence, m.subject, m.headers, m.payload) for m in fixture.store.read(1, 9)] == [
            (1, b"orders.new", b"", b"one"),
            (2, b"orders.old", headers, b""),
            (3, b"orders.new", b"", b"three"),
        ]
        assert fixture.acks.take_touched() == [fixture.stream]
        assert fixture.acks.take_touched() == []
        assert fixture.publisher.published == []
        fixture.close()


def test_domain_is_in_the_acknowledgement() -> None:
    with mesh(1) as planes:
        fixture = Fixture(planes, domain="HUB")
        assert fixture.publish(b"orders.new", b"one") == [b'{"stream":"ORDERS","domain":"HUB","seq":1}']
        fixture.close()


def test_duplicate_is_acknowledged_with_the_first_sequence_and_not_stored() -> None:
    with mesh(1) as planes:
        fixture = Fixture(planes)
        assert fixture.publish(b"orders.a", b"1", headers=message_id(b"x")) == [
            b'{"stream":"ORDERS","seq":1}'
        ]
        assert fixture.publish(b"orders.b", b"2", headers=message_id(b"x")) == [
            b'{"stream":"ORDERS","seq":1,"duplicate": true}'
        ]
        assert fixture.publish(b"orders.a", b"3", headers=message_id(b"y")) == [
            b'{"stream":"ORDERS","seq":2}'
        ]
        assert fixture.store.state().messages == 2
        fixture.close()


def test_durable_acknowledgements_wait_for_their_round_and_keep_their_order() -> None:
    with mesh(1) as planes:
        fixture = Fixture(planes, is_durable=True)
        assert fixture.publish(b"orders.a", b"1") == []
        fixture.acks.committed(1)
        assert fixture.publish(b"orders.a", b"2") == []
        fixture.acks.committed(2)
        assert fixture.publish(b"orders.a", b"3", headers=message_id(b"x")) == []
        fixture.acks.committed(2)
        assert fixture.acks.waiting == 3
        assert fixture.acks.release(0) == 0
        planes.hosts[0].plane.run()
        assert fixture.answers() == []
        assert fixture.acks.release(2) == 3
        planes.hosts[0].plane.run()
        assert fixture.answers() == [b'{"stream":"ORDERS","seq":%d}' % number for number in (1, 2, 3)]
        assert fixture.acks.waiting == 0
        fixture.close()


def test_failed_store_refuses_what_waits() -> None:
    with mesh(1) as planes:
        fixture = Fixture(planes, is_durable=True)
        fixture.publish(b"orders.a", b"1")
        fixture.acks.committed(1)
        fixture.publish(b"orders.a", b"2")
        fixture.acks.refuse_all(b"no")
        planes.hosts[0].plane.run()
        assert fixture.answers() == [b"no", b"no"]
        fixture.close()


@pytest.mark.parametrize(
    ("config", "headers"),
    [
        ({"sealed": True}, b""),
        ({"retention": "interest"}, b""),
        ({"allow_msg_counter": True}, b""),
        ({"max_msg_size": 2}, b""),
        ({}, b"NATS/1.0\r\nNats-TTL: 1s\r\n\r\n"),
        ({}, b"NATS/1.0\r\nNats-Msg-Id: a\r\nNats-Expected-Stream: X\r\n\r\n"),
        ({}, b"NATS/1.0\r\nA: %b\r\n\r\n" % (b"x" * 65535)),
    ],
)
def test_what_asks_for_more_goes_to_the_publisher(config: dict[str, object], headers: bytes) -> None:
    with mesh(1) as planes:
        fixture = Fixture(planes, **config)
        assert fixture.publish(b"orders.a", b"one", headers=headers) == []
        assert fixture.publisher.published == [(b"orders.a", b"in.1", headers, b"one")]
        assert fixture.store.state().messages == 0
        fixture.close()


def test_refused_message_goes_to_the_publisher_too() -> None:
    with mesh(1) as planes:
        fixture = Fixture(planes, limits=StreamLimits(max_messages=1, discard_new=True))
        fixture.publish(b"orders.a", b"1")
        assert fixture.publish(b"orders.a", b"2") == []
        assert [message[3] for message in fixture.publisher.published] == [b"2"]
        fixture.close()


def test_stream_without_acknowledgements_gives_none() -> None:
    with mesh(1) as planes:
        fixture = Fixture(planes, no_ack=True)
        assert fixture.publish(b"orders.a", b"1") == []
        assert fixture.store.state().messages == 1
        fixture.close()


def test_store_that_fails_leaves_the_answer_to_the_publisher() -> None:
    with mesh(1) as planes:
        fixture = Fixture(planes)
        fixture.store.failure = WriteFailed("disk: EIO")
        assert fixture.publish(b"orders.a", b"1") == []
        assert len(fixture.publisher.published) == 1
        fixture.close()


def test_publisher_on_another_worker_is_refused_while_the_store_is_behind() -> None:
    with mesh(2) as planes:
        fixture = Fixture(planes)
        far: Client = planes.connect(1, headers=True)
        far.send(b"SUB in.* 1\r\n")
        planes.settle()
        planes.hosts[0].plane.is_store_full = True
        far.send(b"PUB orders.a in.1 1\r\n1\r\nPUB orders.a 1\r\n2\r\n")
        planes.settle()
        (answer,) = far.take_messages()
        assert (answer.headers, answer.payload) == (b"NATS/1.0 429 Too Many Requests\r\n\r\n", b"later")
        assert fixture.store.state().messages == 0
        fixture.close()
