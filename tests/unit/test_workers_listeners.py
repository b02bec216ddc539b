"""What a worker listens to and publishes itself: sinks, on one worker and across several."""

import os

import pytest
from support.planes import Client, Mesh, mesh

from workers.dataplane import INTERNAL_ACCOUNT, DataPlane
from workers.sinks import CallSink

Taken = tuple[bytes, bytes, bytes, bytes, int]


class Inbox:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.taken: list[Taken] = []
        self.sink = CallSink(lambda *message: self.taken.append(message))

    def take(self) -> list[Taken]:
        taken = list(self.taken)
        self.taken.clear()
        return taken


def subscribe(planes: Mesh, client: Client, line: bytes) -> None:
    client.send(b"SUB %b\r\nPING\r\n" % line)
    planes.settle()
    assert client.take_lines() == [b"PONG"]


def test_sink_gets_messages_of_clients_in_order_with_headers_and_client_id() -> None:
    with mesh(1) as planes:
        inbox = Inbox()
        listener = planes.hosts[0].plane.listen(0, b"foo.>", inbox.sink)
        client = planes.connect(headers=True)
        client.send(
            b"PUB foo.a 2\r\nhi\r\nHPUB foo.b  reply 18 20\r\nNATS/1.0\r\nA: b\r\n\r\nho\r\n"
            b"PUB bar 1\r\nx\r\npub foo.c\treply  0\r\n\r\n"
        )
        planes.settle()
        assert inbox.take() == [
            (b"foo.a", b"", b"", b"hi", 1),
            (b"foo.b", b"reply", b"NATS/1.0\r\nA: b\r\n\r\n", b"ho", 1),
            (b"foo.c", b"reply", b"", b"", 1),
        ]
        planes.hosts[0].plane.unlisten(listener)
        client.send(b"PUB foo.a 2\r\nhi\r\n")
        planes.settle()
        assert inbox.take() == []


@pytest.mark.parametrize("size", [0, 100, 20_000, 1 << 20])
def test_sink_gets_messages_of_other_workers(size: int) -> None:
    with mesh(2, data_ring_bytes=1 << 14) as planes:
        inbox = Inbox()
        listener = planes.hosts[1].plane.listen(0, b"foo.*", inbox.sink)
        planes.settle()
        client = planes.connect(0)
        client.send(b"PUB foo.a r 1\r\na\r\nPUB foo.b %d\r\n%b\r\n" % (size, b"x" * size))
        planes.settle()
        assert inbox.take() == [(b"foo.a", b"r", b"", b"a", 0), (b"foo.b", b"", b"", b"x" * size, 0)]
        planes.hosts[1].plane.unlisten(listener)
        planes.settle()
        assert not planes.hosts[0].plane.has_interest(0, b"foo.a")


def test_answer_leaves_in_the_same_round_and_reaches_other_workers() -> None:
    with mesh(2) as planes:
        sink = CallSink(
            lambda _subject, reply, headers, payload, _: planes.hosts[1].plane.publish(
                0, reply, b"re: " + payload, headers=headers, reply=b"more"
            )
        )
        listener = planes.hosts[1].plane.listen(0, b"echo", sink)
        planes.settle()
        for worker in (0, 1):
            client = planes.connect(worker, headers=True)
            subscribe(planes, client, b"in.* 7")
            client.send(b"PUB echo in.1 2\r\nhi\r\nHPUB echo in.2 12 13\r\nNATS/1.0\r\n\r\n!\r\n")
            planes.settle()
            one, two = client.take_messages()
            assert (one.subject, one.sid, one.reply, one.headers, one.payload) == (
                b"in.1",
                b"7",
                b"more",
                None,
                b"re: hi",
            )
            assert (two.headers, two.payload) == (b"NATS/1.0\r\n\r\n", b"re: !")
        planes.hosts[1].plane.unlisten(listener)


def test_local_listener_is_no_interest_of_other_workers() -> None:
    with mesh(2) as planes:
        inboxes = [Inbox(), Inbox()]
        listeners = [
            host.plane.listen(0, b"api.>", inbox.sink, is_local=True)
            for host, inbox in zip(planes.hosts, inboxes, strict=True)
        ]
        watcher, publisher = planes.connect(1), planes.connect(0)
        subscribe(planes, watcher, b"api.> 1")
        publisher.send(b"PUB api.call 1\r\n1\r\n")
        planes.settle()
        # The watcher's worker got it for the watcher, not for its own listener.
        assert [len(inbox.take()) for inbox in inboxes] == [1, 0]
        assert [message.payload for message in watcher.take_messages()] == [b"1"]
        watcher.send(b"UNSUB 1\r\nPING\r\n")
        planes.settle()
        publisher.send(b"PUB api.call 1\r\n2\r\n")
        planes.settle()
        assert planes.counter("ring_out_frames", 0) == 1
        for host, listener in zip(planes.hosts, listeners, strict=True):
            host.plane.unlisten(listener)


def test_excluded_subjects_have_no_responder_in_a_listener() -> None:
    with mesh(1) as planes:
        inbox = Inbox()
        listener = planes.hosts[0].plane.listen(
            0, b"api.>", inbox.sink, excluded=[b"api.direct.", b"api.next."]
        )
        client = planes.connect(headers=True, no_responders=True)
        subscribe(planes, client, b"in 1")
        client.send(b"PUB api.direct.x in 0\r\n\r\nPUB api.other in 0\r\n\r\nPUB api.next.y in 0\r\n\r\n")
        planes.settle()
        assert [message[0] for message in inbox.take()] == [b"api.other"]
        assert len(client.take_messages()) == 2
        planes.hosts[0].plane.unlisten(listener)


def test_worker_publishes_on_its_own_and_to_itself() -> None:
    with mesh(1) as planes:
        inbox = Inbox()
        listener = planes.hosts[0].plane.listen(INTERNAL_ACCOUNT, b"w.0", inbox.sink)
        client = planes.connect()
        subscribe(planes, client, b"> 1")
        assert planes.hosts[0].plane.publish(INTERNAL_ACCOUNT, b"w.0", b"call") == 1
        assert planes.hosts[0].plane.publish(0, b"news", b"text") == 1
        assert planes.hosts[0].plane.publish(0, b"w.0", b"not that account") == 1
        planes.settle()
        assert [message[3] for message in inbox.take()] == [b"call"]
        assert [message.payload for message in client.take_messages()] == [b"text", b"not that account"]
        planes.hosts[0].plane.unlisten(listener)


def test_sink_that_raises_is_reported_and_ends_nothing() -> None:
    with mesh(1) as planes:
        inbox = Inbox()

        def fail(*_: object) -> None:
            raise RuntimeError("of no use")

        listeners = [
            planes.hosts[0].plane.listen(0, b"foo", CallSink(fail)),
            planes.hosts[0].plane.listen(0, b"foo", inbox.sink),
        ]
        client = planes.connect()
        client.send(b"PUB foo 1\r\n1\r\nPING\r\n")
        planes.settle()
        assert client.take_lines() == [b"PONG"]
        assert len(inbox.take()) == 1
        assert [str(error) for error in planes.hosts[0].policy.errors] == ["of no use"]
        planes.hosts[0].policy.errors.clear()
        for listener in listeners:
            planes.hosts[0].plane.unlisten(listener)


def test_sink_that_left_in_the_same_round_gets_nothing_more() -> None:
    with mesh(1) as planes:
        inbox = Inbox()
        second = 0

        def leave(*_: object) -> None:
            planes.hosts[0].plane.unlisten(second)

        first = planes.hosts[0].plane.listen(0, b"foo", CallSink(leave))
        second = planes.hosts[0].plane.listen(0, b"foo", inbox.sink)
        client = planes.connect()
        client.send(b"PUB foo 1\r\n1\r\n")
        planes.settle()
        assert inbox.take() == []
        planes.hosts[0].plane.unlisten(first)


def test_messages_for_sticky_interest_wait_while_its_worker_is_dead() -> None:
    with mesh(3) as planes:
        planes.hosts[1].plane.listen(0, b"kept.>", Inbox().sink, is_sticky=True)
        planes.hosts[1].plane.listen(0, b"lost.>", Inbox().sink)
        planes.hosts[1].plane.listen(0, b"gone.>", Inbox().sink, is_sticky=True)
        publisher = planes.connect(0, headers=True, no_responders=True)
        subscribe(planes, publisher, b"in 1")
        planes.kill(1)
        publisher.send(b"PUB kept.a in 1\r\n1\r\nPUB lost.a in 1\r\n2\r\nPUB gone.a in 1\r\n3\r\nPING\r\n")
        planes.settle()
        assert publisher.take_lines() == [b"PONG"]
        assert len(publisher.take_messages()) == 1  # there is no responder for lost.a
        planes.restart(1, DataPlane.hold_peers)
        inbox = Inbox()
        listener = planes.hosts[1].plane.listen(0, b"kept.>", inbox.sink, is_sticky=True)
        planes.settle()
        assert inbox.take() == []
        assert planes.hosts[1].plane.is_synced
        planes.hosts[1].plane.take_peers()
        planes.settle()
        assert [message[3] for message in inbox.take()] == [b"1"]
        # What it does not tell again is forgotten by all.
        assert not planes.hosts[0].plane.has_interest(0, b"gone.a")
        assert not planes.hosts[2].plane.has_interest(0, b"gone.a")
        publisher.send(b"PUB kept.a in 1\r\n4\r\n")
        planes.settle()
        assert [message[3] for message in inbox.take()] == [b"4"]
        planes.hosts[1].plane.unlisten(listener)


def test_publisher_is_held_back_when_too_much_waits_for_a_dead_worker() -> None:
    with mesh(2) as planes:
        planes.hosts[1].plane.listen(0, b"kept", Inbox().sink, is_sticky=True)
        publisher = planes.connect(0)
        planes.settle()
        planes.kill(1)
        block = b"PUB kept %d\r\n%b\r\n" % (1 << 20, b"x" * (1 << 20))
        publisher.send(block * 12 + b"PING\r\n")
        planes.settle()
        assert publisher.take_lines() == []
        planes.restart(1, DataPlane.hold_peers)
        inbox = Inbox()
        listener = planes.hosts[1].plane.listen(0, b"kept", inbox.sink, is_sticky=True)
        planes.hosts[1].plane.take_peers()
        planes.settle()
        assert publisher.take_lines() == [b"PONG"]
        assert len(inbox.take()) == 12
        planes.hosts[1].plane.unlisten(listener)


def test_watched_descriptor_is_told_once_for_each_event() -> None:
    told: list[int] = []
    descriptor = os.eventfd(0)
    with mesh(1) as planes:
        planes.hosts[0].plane.on_notified = lambda: told.append(1)
        planes.hosts[0].plane.watch(descriptor)
        for count in (1, 2):
            os.eventfd_write(descriptor, 1)
            planes.settle()
            assert len(told) == count
    os.close(descriptor)


def test_publishers_wait_while_the_store_is_behind_and_others_go_on() -> None:
    with mesh(2) as planes:
        inbox = Inbox()
        listener = planes.hosts[0].plane.listen(0, b"kept", inbox.sink)
        publisher, other, far = planes.connect(0), planes.connect(0), planes.connect(1)
        planes.settle()
        planes.hosts[0].plane.is_store_full = True
        publisher.send(b"PUB kept 1\r\n1\r\nPUB kept 1\r\n2\r\nPING\r\n")
        other.send(b"PUB elsewhere 0\r\n\r\nPING\r\n")
        far.send(b"PUB kept 1\r\n3\r\nPING\r\n")
        planes.settle()
        assert [message[3] for message in inbox.take()] == [b"1", b"3"]
        assert publisher.take_lines() == []
        assert other.take_lines() == far.take_lines() == [b"PONG"]
        planes.hosts[0].plane.is_store_full = False
        planes.hosts[0].plane.run()
        planes.settle()
        assert [message[3] for message in inbox.take()] == [b"2"]
        assert publisher.take_lines() == [b"PONG"]
        planes.hosts[0].plane.unlisten(listener)
