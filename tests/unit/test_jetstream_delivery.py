"""The compiled core of a consumer, on data planes without an engine around it."""

from types import SimpleNamespace

import pytest
from support.planes import Client, Mesh, Received, mesh

from storage.consumer import ACK_ALL, ACK_EXPLICIT, ACK_NONE, ConsumerStore
from storage.errors import ReadFailed, StorageError
from storage.limits import StreamLimits
from storage.memory import memory_stream
from workers.jetstream.ack_sink import AckSink
from workers.jetstream.audience import Audience, Pumps
from workers.jetstream.delivery import (
    A_RING,
    FILLED,
    GONE,
    INTEREST,
    KEEP,
    NOTHING,
    TOO_LARGE,
    WORK_QUEUE,
    ConsumerCore,
    Request,
    held_up_by,
)
from workers.jetstream.ingest import Acks

NOW_NS = 1_700_000_000_000_000_000


class Policy:
    """Pumps when told to, and remembers what it was told."""

    def __init__(self) -> None:
        self.core: ConsumerCore
        self.ended: list[tuple[Request, int]] = []
        self.spent: list[tuple[int, int]] = []
        self.commands: list[tuple[bytes, int, int, int, bytes]] = []
        self.gone: list[int] = []
        self.failure: StorageError | None = None
        self.unread: list[StorageError] = []

    def pump(self) -> None:
        if self.failure is not None:
            raise self.failure
        self.core.pump(NOW_NS)

    def unreadable(self, error: StorageError) -> None:
        self.unread.append(error)

    def request_ended(self, request: Request, reason: int) -> None:
        self.ended.append((request, reason))

    def exhausted(self, sequence: int, deliveries: int) -> None:
        self.spent.append((sequence, deliveries))

    def ack_command(
        self, payload: bytes, sequence: int, consumer_sequence: int, deliveries: int, reply: bytes
    ) -> None:
        self.commands.append((payload, sequence, consumer_sequence, deliveries, reply))

    def acknowledged(self, sequence: int) -> None:
        self.gone.append(sequence)


class Fixture:
    """A stream S in memory on worker 0 with a consumer C, and a client that listens to in.>."""

    def __init__(
        self,
        planes: Mesh,
        *,
        client_worker: int = 0,
        ack_policy: int = ACK_EXPLICIT,
        filters: tuple[str, ...] = (),
        mode: int = KEEP,
        pumps: Pumps | None = None,
    ) -> None:
        self.planes = planes
        self.plane = planes.hosts[0].plane
        self.acks = Acks(self.plane)
        self.store = memory_stream(StreamLimits())
        self.stream = SimpleNamespace(
            name="S",
            account=0,
            store=self.store,
            is_durable=False,
            engine=SimpleNamespace(acks=self.acks),
            ingest=SimpleNamespace(touch=lambda: None),
        )
        self.pumps, self.audience = Pumps() if pumps is None else pumps, Audience(self.store)
        self.policy = Policy()
        self.state = ConsumerStore("C", 1, ack_policy, b"")
        self.core = ConsumerCore(
            self.plane,
            self.acks,
            self.pumps,
            self.audience,
            self.stream,
            self.policy,
            "C",
            self.state,
            filters,
            acknowledges=ack_policy != ACK_NONE,
            mode=mode,
        )
        self.policy.core = self.core
        self.sink = AckSink(self.stream)
        self.sink.add(self.core)
        self.listener = self.plane.listen(0, b"$JS.ACK.S.>", self.sink)
        self.client: Client = planes.connect(client_worker, headers=True)
        self.client.send(b"SUB in.> 1\r\n")
        planes.settle()

    def store_messages(self, *subjects: bytes, payload: bytes = b"x") -> None:
        for subject in subjects:
            self.store.append(subject, b"", payload, NOW_NS)

    def pump(self) -> list[Received]:
        """Run the consumers that are ready, and return what the client got."""
        while self.pumps.run():
            pass
        self.plane.run()
        self.planes.settle()
        return self.client.take_messages()

    def ask(self, count: int = 1, *, reply: bytes = b"in.1", bytes_left: int = -1) -> Request:
        request = Request(reply, count, bytes_left)
        self.core.add_request(request)
        return request

    def ack(self, message: Received, payload: bytes = b"", reply: bytes = b"") -> None:
        self.client.send(b"PUB %b %b %d\r\n%b\r\n" % (message.reply, reply, len(payload), payload))
        self.planes.settle()

    def close(self) -> None:
        self.plane.unlisten(self.listener)
        self.policy.core = self.sink = self.core = self.acks = self.plane = self.stream = self.audience = None


def test_the_numbers_of_the_ack_reply_are_right_where_digits_are_carried() -> None:
    """From 1 to 1,101 up and down, times over all lengths of their last digits, a gap in the sequences."""
    with mesh(1) as planes:
        fixture = Fixture(planes)
        count = 1101
        times = [NOW_NS + index * 999_999_937 for index in range(count)]
        for time_ns in times:
            fixture.store.append(b"a", b"", b"x", time_ns)
        fixture.store.delete(500)
        fixture.ask(count - 1)
        expected = [
            b"$JS.ACK.S.C.1.%d.%d.%d.%d" % (sequence, number, times[sequence - 1], count - 1 - number)
            for number, sequence in enumerate([*range(1, 500), *range(501, count + 1)], 1)
        ]
        assert [message.reply for message in fixture.pump()] == expected
        fixture.close()


def test_a_client_that_takes_no_headers_gets_the_payload_under_the_stored_subject() -> None:
    with mesh(1) as planes:
        fixture = Fixture(planes)
        fixture.store.append(b"long.subject.of.a.message", b"NATS/1.0\r\nA: b\r\n\r\n", b"payload", NOW_NS)
        plain = planes.connect(0, headers=False)
        plain.send(b"SUB plain.1 7\r\n")
        planes.settle()
        fixture.ask(1, reply=b"plain.1")
        fixture.pump()
        reply = b"$JS.ACK.S.C.1.1.1.%d.0" % NOW_NS
        assert plain.take_messages() == [
            Received(b"long.subject.of.a.message", b"7", reply, None, b"payload")
        ]
        fixture.close()


def test_a_damaged_message_costs_itself_alone() -> None:
    """Its neighbours come, to this consumer and to those that have something to do in the same round."""
    with mesh(1) as planes:
        fixture = Fixture(planes)
        fixture.store_messages(b"a", b"b", b"c", payload=b"payload")
        segment = fixture.store.segments[0]
        offset, size = segment.record_place(2)
        segment.log.overwrite(offset + size - 8, b"\xff")
        fixture.ask(3)
        assert [message.subject for message in fixture.pump()] == [b"a", b"c"]
        assert (fixture.core.num_pending, fixture.core.num_ack_pending) == (0, 2)
        assert list(fixture.store.lost) == [2]
        fixture.close()


def test_a_consumer_whose_messages_cannot_be_read_does_not_stop_the_others() -> None:
    with mesh(1) as planes:
        fixture = Fixture(planes)
        broken = Fixture(planes, pumps=fixture.pumps)
        broken.policy.failure = ReadFailed("no such sector")
        broken.ask(1, reply=b"in.2")
        fixture.store_messages(b"a")
        fixture.ask(1)
        assert [message.subject for message in fixture.pump()] == [b"a"]
        assert broken.policy.unread == [broken.policy.failure]
        broken.close()
        fixture.close()


def test_messages_come_with_their_subject_and_an_ack_reply() -> None:
    with mesh(1) as planes:
        fixture = Fixture(planes)
        fixture.store_messages(b"a", b"b.c", b"d")
        request = fixture.ask(2)
        assert fixture.pump() == [
            Received(b"a", b"1", b"$JS.ACK.S.C.1.1.1.%d.2" % NOW_NS, None, b"x"),
            Received(b"b.c", b"1", b"$JS.ACK.S.C.1.2.2.%d.1" % NOW_NS, None, b"x"),
        ]
        assert fixture.policy.ended == [(request, FILLED)]
        assert (fixture.core.num_pending, fixture.core.num_ack_pending) == (1, 2)
        fixture.close()


@pytest.mark.parametrize("client_worker", [0, 1])
def test_messages_cross_to_other_workers_and_acks_come_back(client_worker: int) -> None:
    with mesh(2) as planes:
        fixture = Fixture(planes, client_worker=client_worker)
        fixture.store.append(b"with.headers", b"NATS/1.0\r\nA: b\r\n\r\n", b"hi", NOW_NS)
        fixture.store_messages(b"large", payload=b"y" * 100_000)
        fixture.ask(2)
        first, second = fixture.pump()
        assert (first.subject, first.headers, first.payload) == (
            b"with.headers",
            b"NATS/1.0\r\nA: b\r\n\r\n",
            b"hi",
        )
        assert (second.subject, second.payload) == (b"large", b"y" * 100_000)
        fixture.ack(second)
        assert fixture.state.state()["ack_floor"] == (0, 0)
        fixture.ack(first, b"+ACK", reply=b"in.ack")
        assert [message.subject for message in fixture.client.take_messages()] == [b"in.ack"]
        assert fixture.state.state()["ack_floor"] == (2, 2)
        assert fixture.core.num_ack_pending == 0
        # Both acknowledgements were routed alike: one route more than before on each worker at most.
        assert planes.counter("routes_cached", client_worker) <= 4
        fixture.close()


def test_requests_are_served_in_turn() -> None:
    with mesh(1) as planes:
        fixture = Fixture(planes)
        fixture.store_messages(*[b"a"] * 5)
        fixture.ask(2, reply=b"in.one"), fixture.ask(9, reply=b"in.two")
        fixture.client.send(b"UNSUB 1\r\nSUB in.one one\r\nSUB in.two two\r\n")
        planes.settle()
        assert [message.sid for message in fixture.pump()] == [b"one", b"two", b"one", b"two", b"two"]
        fixture.close()


def test_request_that_nobody_listens_to_is_dropped_and_loses_nothing() -> None:
    with mesh(1) as planes:
        fixture = Fixture(planes)
        fixture.store_messages(b"a")
        gone, there = fixture.ask(reply=b"nobody"), fixture.ask()
        assert [message.subject for message in fixture.pump()] == [b"a"]
        assert fixture.policy.ended == [(gone, GONE), (there, FILLED)]
        fixture.close()


def test_request_ends_before_a_message_that_is_too_large_for_it() -> None:
    with mesh(1) as planes:
        fixture = Fixture(planes)
        fixture.store_messages(b"a", b"a", payload=b"x" * 100)
        request = fixture.ask(2, bytes_left=200)
        assert len(fixture.pump()) == 1
        assert fixture.policy.ended == [(request, TOO_LARGE)]
        assert 0 < request.bytes_left < 100
        assert request.delivered == 1
        fixture.ask()
        assert [message.reply.split(b".")[5] for message in fixture.pump()] == [b"2"]
        fixture.close()


def test_delivery_stops_at_the_limit_of_unacknowledged_messages() -> None:
    with mesh(1) as planes:
        fixture = Fixture(planes)
        fixture.core.max_ack_pending = 2
        fixture.store_messages(*[b"a"] * 4)
        fixture.ask(9)
        first, _ = fixture.pump()
        assert fixture.pump() == []
        fixture.ack(first, b"+OK")
        assert [message.reply.split(b".")[5] for message in fixture.pump()] == [b"3"]
        fixture.close()


def test_new_messages_wake_only_consumers_that_want_them() -> None:
    with mesh(1) as planes:
        fixture = Fixture(planes, filters=("b.*", "c"))
        fixture.ask(9)
        assert fixture.pump() == []
        fixture.store_messages(b"a", b"b")
        fixture.audience.wake()
        assert len(fixture.pumps) == 0
        fixture.store_messages(b"b.1", b"c", b"d")
        fixture.audience.wake()
        messages = fixture.pump()
        assert [message.subject for message in messages] == [b"b.1", b"c"]
        assert [message.reply.rsplit(b".", 1)[1] for message in messages] == [b"1", b"0"]
        fixture.close()


def test_pending_counts_follow_deletions_and_new_messages() -> None:
    with mesh(1) as planes:
        fixture = Fixture(planes, filters=("a",))
        fixture.store_messages(*[b"a", b"b"] * 5)
        assert fixture.core.num_pending == 5
        fixture.store.delete(3)
        assert fixture.core.num_pending == 4
        fixture.ask(2)
        assert [message.reply.rsplit(b".", 1)[1] for message in fixture.pump()] == [b"3", b"2"]
        fixture.store_messages(b"a", b"b")
        assert fixture.core.num_pending == 3
        fixture.store.purge_all()
        assert fixture.core.num_pending == 0
        fixture.close()


def test_redelivery_comes_first_and_keeps_the_first_consumer_sequence_in_the_state() -> None:
    with mesh(1) as planes:
        fixture = Fixture(planes)
        fixture.store_messages(b"a", b"b", b"c")
        fixture.ask(2)
        fixture.pump()
        assert fixture.core.waiting_since(NOW_NS + 1) == [(1, NOW_NS, 1), (2, NOW_NS, 1)]
        assert fixture.core.oldest_waiting({1}) == (NOW_NS, 1)
        fixture.core.redeliver(2)
        fixture.ask(2)
        again, new = fixture.pump()
        assert again.reply == b"$JS.ACK.S.C.2.2.3.%d.1" % NOW_NS
        assert new.reply == b"$JS.ACK.S.C.1.3.4.%d.0" % NOW_NS
        assert fixture.core.deliveries(2) == 2
        fixture.close()


def test_message_that_was_delivered_often_enough_is_not_delivered_again() -> None:
    with mesh(1) as planes:
        fixture = Fixture(planes)
        fixture.core.max_deliver = 1
        fixture.store_messages(b"a")
        fixture.ask(2)
        fixture.pump()
        fixture.core.redeliver(1)
        assert fixture.pump() == []
        assert fixture.policy.spent == [(1, 1)]
        fixture.close()


def test_acknowledged_or_deleted_message_is_not_redelivered() -> None:
    with mesh(1) as planes:
        fixture = Fixture(planes)
        fixture.store_messages(b"a", b"a")
        fixture.ask(9)
        first, _ = fixture.pump()
        fixture.core.redeliver(1)
        fixture.core.redeliver(2)
        fixture.ack(first)
        fixture.store.delete(2)
        assert fixture.pump() == []
        assert fixture.core.num_ack_pending == 0
        fixture.close()


def test_ack_all_acknowledges_everything_before() -> None:
    with mesh(1) as planes:
        fixture = Fixture(planes, ack_policy=ACK_ALL, mode=WORK_QUEUE)
        fixture.store_messages(*[b"a"] * 4)
        fixture.ask(4)
        fixture.ack(fixture.pump()[2])
        assert fixture.core.num_ack_pending == 1
        assert fixture.store.state().messages == 1
        fixture.close()


@pytest.mark.parametrize("mode", [WORK_QUEUE, INTEREST])
def test_acknowledged_message_leaves_the_stream(mode: int) -> None:
    with mesh(1) as planes:
        fixture = Fixture(planes, mode=mode)
        fixture.store_messages(b"a", b"b", b"c")
        fixture.ask(2)
        _, second = fixture.pump()
        fixture.ack(second)
        assert fixture.store.state().messages == (2 if mode == WORK_QUEUE else 3)
        assert fixture.policy.gone == ([] if mode == WORK_QUEUE else [2])
        assert fixture.core.num_pending == 1
        fixture.close()


def test_other_acknowledgements_go_to_the_policy() -> None:
    with mesh(1) as planes:
        fixture = Fixture(planes)
        fixture.store_messages(b"a")
        fixture.ask(1)
        (message,) = fixture.pump()
        fixture.ack(message, b"-NAK 1s", reply=b"in.nak")
        assert fixture.policy.commands == [(b"-NAK 1s", 1, 1, 1, b"in.nak")]
        assert fixture.core.num_ack_pending == 1
        fixture.close()


@pytest.mark.parametrize(
    "subject",
    [
        b"$JS.ACK.S.C.1.1.1.1",
        b"$JS.ACK.S.C.1.x.1.1.0",
        b"$JS.ACK.S.C.1.0.1.1.0",
        b"$JS.ACK.S.C.1.99.1.1.0",
        b"$JS.ACK.S.C.1.11111111111111111111111.1.1.0",
    ],
)
def test_acknowledgement_that_makes_no_sense_does_nothing(subject: bytes) -> None:
    with mesh(1) as planes:
        fixture = Fixture(planes)
        fixture.store_messages(b"a")
        fixture.ask(1)
        fixture.pump()
        fixture.client.send(b"PUB %b in.x 0\r\n\r\n" % subject)
        planes.settle()
        assert fixture.core.num_ack_pending == 1
        assert fixture.client.take_messages() == []
        fixture.close()


def test_long_form_of_ack_subjects_is_understood() -> None:
    with mesh(1) as planes:
        fixture = Fixture(planes)
        listener = fixture.plane.listen(0, b"$JS.ACK._.hash.S.>", fixture.sink)
        fixture.store_messages(b"a")
        fixture.ask(1)
        fixture.pump()
        fixture.client.send(b"PUB $JS.ACK._.hash.S.C.1.1.1.%d.0 0\r\n\r\n" % NOW_NS)
        planes.settle()
        assert fixture.core.num_ack_pending == 0
        fixture.plane.unlisten(listener)
        fixture.close()


def test_acknowledgement_of_another_stream_is_not_taken_for_this_ones() -> None:
    with mesh(1) as planes:
        fixture = Fixture(planes)
        listener = fixture.plane.listen(0, b"$JS.ACK.*.*.S.>", fixture.sink)
        fixture.store_messages(b"a")
        fixture.ask(1)
        fixture.pump()
        # Of a stream T, whose consumer is also called C; the fifth token is this stream's name.
        fixture.client.send(b"PUB $JS.ACK.T.C.S.1.1.1.0 0\r\n\r\n")
        planes.settle()
        assert fixture.core.num_ack_pending == 1
        fixture.plane.unlisten(listener)
        fixture.close()


def test_headers_alone_name_the_size() -> None:
    with mesh(1) as planes:
        fixture = Fixture(planes, ack_policy=ACK_NONE)
        fixture.core.headers_only = True
        fixture.core.extra_headers = b"Nats-Pin-Id: p\r\n"
        fixture.store.append(b"a", b"NATS/1.0\r\nA: b\r\n\r\n", b"hello", NOW_NS)
        fixture.store_messages(b"b")
        fixture.ask(2)
        assert [(message.headers, message.payload) for message in fixture.pump()] == [
            (b"NATS/1.0\r\nA: b\r\nNats-Pin-Id: p\r\nNats-Msg-Size: 5\r\n\r\n", b""),
            (b"NATS/1.0\r\nNats-Pin-Id: p\r\nNats-Msg-Size: 1\r\n\r\n", b""),
        ]
        assert fixture.state.state()["ack_floor"] == (2, 2)
        fixture.close()


def test_last_of_each_subject_comes_before_what_is_new() -> None:
    with mesh(1) as planes:
        fixture = Fixture(planes, ack_policy=ACK_NONE)
        fixture.store_messages(b"a", b"b", b"a", b"c")
        fixture.core.begin_with([2, 3, 4], 5)
        fixture.store.delete(3)
        fixture.store_messages(b"new")
        fixture.ask(9)
        assert [message.reply.split(b".")[5] for message in fixture.pump()] == [b"2", b"4", b"5"]
        fixture.close()


def test_paused_consumer_delivers_nothing() -> None:
    with mesh(1) as planes:
        fixture = Fixture(planes)
        fixture.core.is_paused = True
        fixture.store_messages(b"a")
        fixture.ask()
        assert fixture.pump() == []
        fixture.core.is_paused = False
        fixture.core.wake()
        assert len(fixture.pump()) == 1
        fixture.close()


def test_reset_begins_anew() -> None:
    with mesh(1) as planes:
        fixture = Fixture(planes)
        fixture.store_messages(b"a", b"b", b"c")
        fixture.ask(3)
        fixture.pump()
        fixture.core.reset(2)
        assert (fixture.core.num_pending, fixture.core.num_ack_pending) == (2, 0)
        fixture.ask(1)
        assert [message.reply for message in fixture.pump()] == [b"$JS.ACK.S.C.1.2.1.%d.1" % NOW_NS]
        fixture.close()


def test_a_hundred_thousand_messages_pass_small_rings_to_a_slow_worker() -> None:
    """Whenever the ring is full the plane tells when it has room again, and nothing else is waited for."""
    with mesh(2, data_ring_bytes=1 << 14) as planes:
        fixture = Fixture(planes, client_worker=1, ack_policy=ACK_NONE)
        fixture.store_messages(*[b"a"] * 100_000)
        told = []

        def deliver() -> None:
            told.append(None)
            while held_up_by(fixture.plane) == NOTHING and fixture.pumps.run():
                pass

        fixture.plane.on_room = deliver
        fixture.ask(-1)
        deliver()
        assert held_up_by(fixture.plane) == A_RING
        fixture.plane.run()
        assert len(told) == 1  # the other worker has not read yet
        planes.settle()
        assert len(fixture.client.take_messages()) == 100_000
        assert len(told) > 100
        fixture.close()
