"""What is written to clients when there is much of it, when they do not read, and when time passes."""

import pytest
from support.planes import SECOND_NS, Client, Mesh, mesh
from support.wait import wait_until

from workers.errors import CloseReason

MILLISECOND_NS = 1_000_000


def subscribe(planes: Mesh, client: Client, *lines: bytes) -> None:
    client.send(b"".join(b"SUB %b\r\n" % line for line in lines) + b"PING\r\n")
    planes.settle()
    assert client.take_lines() == [b"PONG"]


def publish(payload: bytes, subject: bytes = b"foo") -> bytes:
    return b"PUB %b %d\r\n%b\r\n" % (subject, len(payload), payload)


def pattern(size: int, start: int = 0) -> bytes:
    """Return bytes that differ from place to place."""
    return bytes(range(start % 256, 256)) + bytes(range(256)) * (size // 256) if size > 256 else bytes(size)


def reason_of(planes: Mesh, client: Client) -> CloseReason | None:
    return planes.hosts[0].policy.reasons.get(client.client_id)


def pass_time(planes: Mesh, *clients: Client) -> None:
    """Look at deadlines, and let everything else come to rest."""
    planes.hosts[0].run_timers()
    planes.settle(*clients)


# ---- large messages


@pytest.mark.parametrize("size", [1000, 16383, 16384, 65536, 262144, 262200, 1 << 20])
def test_payload_of_any_size_reaches_every_subscriber(size: int) -> None:
    """From 16 KiB on payloads are not copied but written from where they were read."""
    with mesh() as planes:
        receivers = [planes.connect() for _ in range(3)]
        for receiver in receivers:
            subscribe(planes, receiver, b"foo 1", b"> 2")
        bodies = [pattern(size, number)[:size] for number in range(3)]
        planes.connect().send(b"".join(publish(body) for body in bodies))
        planes.settle()
        for receiver in receivers:
            messages = receiver.take_messages()
            for sid in (b"1", b"2"):
                assert [message.payload for message in messages if message.sid == sid] == bodies


@pytest.mark.parametrize("piece", [1000, 65537, 262144])
def test_large_payload_may_come_in_pieces(piece: int) -> None:
    with mesh() as planes:
        receiver, publisher = planes.connect(), planes.connect()
        subscribe(planes, receiver, b"foo 1")
        body = pattern(700_000)[:700_000]
        data = publish(body) + publish(b"next")
        for at in range(0, len(data), piece):
            publisher.send(data[at : at + piece])
            planes.settle()
        assert [message.payload for message in receiver.take_messages()] == [body, b"next"]


def test_slow_reader_gets_large_payloads_whole_while_others_publish_on() -> None:
    """What its socket does not take is copied before the memory that it was read into is used again."""
    with mesh() as planes:
        slow, publisher = planes.connect(buffer_bytes=1), planes.connect()
        subscribe(planes, slow, b"foo 1")
        bodies = [pattern(50_000 + number, number)[: 50_000 + number] for number in range(100)]
        for body in bodies:
            publisher.send(publish(body) + publish(b"small"))
            planes.settle(publisher)
            slow.receive(3000)
        planes.settle()
        received = [message.payload for message in slow.take_messages()]
        assert received[::2] == bodies
        assert received[1::2] == [b"small"] * 100


def test_many_small_messages_wait_in_order_for_a_slow_reader() -> None:
    with mesh() as planes:
        slow, publisher = planes.connect(buffer_bytes=1), planes.connect()
        subscribe(planes, slow, b"foo 1")
        for first in range(0, 100_000, 5000):
            publisher.send(b"".join(publish(b"%d" % number) for number in range(first, first + 5000)))
            planes.settle(publisher)
            slow.receive(7)
        stats = planes.hosts[0].plane.stats(slow.handle)
        assert stats["pending_bytes"] > 1_000_000
        planes.settle()
        assert [int(message.payload) for message in slow.take_messages()] == list(range(100_000))


# ---- slow consumers


def test_client_that_does_not_read_is_closed_at_its_pending_limit_and_costs_nobody_else() -> None:
    with mesh(max_pending=1 << 20) as planes:
        slow, fast, publisher = planes.connect(buffer_bytes=1), planes.connect(), planes.connect()
        subscribe(planes, slow, b"foo 1")
        subscribe(planes, fast, b"foo 1")
        sent = 0

        def is_closed() -> bool:
            nonlocal sent
            publisher.send(publish(b"x" * 10_000) * 10)
            sent += 10
            pass_time(planes, publisher, fast)
            return reason_of(planes, slow) is not None

        wait_until(is_closed, "the end of the slow consumer")
        assert reason_of(planes, slow) is CloseReason.SLOW_CONSUMER_PENDING_BYTES
        assert planes.counter("slow_consumers") == 1
        wait_until(lambda: pass_time(planes) or not publisher.unsent, "the publisher to be let go on")
        publisher.send(b"PING\r\n")
        wait_until(lambda: pass_time(planes) or publisher.lines, "its PONG")
        assert len(fast.take_messages()) == sent


def test_pending_limit_below_the_size_of_large_blocks_is_kept() -> None:
    with mesh(max_pending=100_000, max_payload=100_000) as planes:
        slow, publisher = planes.connect(buffer_bytes=1), planes.connect()
        subscribe(planes, slow, b"foo 1")

        def is_closed() -> bool:
            publisher.send(publish(b"x" * 1000))
            pass_time(planes, publisher)
            return reason_of(planes, slow) is not None

        wait_until(is_closed, "the end of the slow consumer")
        # What the kernel took before it was full, the limit, and the message that passed it.
        taken = planes.hosts[0].policy.final_stats[slow.client_id]["out_bytes"]
        pending = planes.hosts[0].policy.final_stats[slow.client_id]["pending_bytes"]
        assert 100_000 < pending < 102_000, f"{pending} of {taken} bytes were pending"


def test_publisher_to_a_nearly_full_client_is_held_back_for_a_moment() -> None:
    with mesh(max_pending=1 << 20) as planes:
        slow, publisher = planes.connect(buffer_bytes=1), planes.connect()
        subscribe(planes, slow, b"foo 1")
        publisher.send(publish(b"x" * 85_000) * 10)
        planes.settle(publisher)
        publisher.send(publish(b"x") + b"PING\r\n" + publish(b"y"))
        planes.settle(publisher)
        assert planes.counter("stalls") == 1
        publisher.send(b"PING\r\n")
        planes.settle(publisher)
        assert publisher.take_lines() in ([], [b"PONG"])
        wait_until(lambda: pass_time(planes, publisher) or publisher.lines, "the end of the pause")
        planes.settle()
        wait_until(lambda: pass_time(planes) or len(slow.messages) == 12, "everything")
        assert reason_of(planes, slow) is None


def test_client_that_takes_nothing_for_long_is_closed_at_its_write_deadline() -> None:
    with mesh(write_deadline_ns=100 * MILLISECOND_NS) as planes:
        slow, publisher = planes.connect(buffer_bytes=1), planes.connect()
        subscribe(planes, slow, b"foo 1")
        publisher.send(publish(b"x" * 100_000))
        planes.settle(publisher)
        wait_until(lambda: pass_time(planes, publisher) or reason_of(planes, slow), "the write deadline")
        assert reason_of(planes, slow) is CloseReason.SLOW_CONSUMER_WRITE_DEADLINE
        assert planes.counter("slow_consumers") == 1


def test_last_words_to_a_client_that_does_not_read_have_an_end() -> None:
    with mesh() as planes:
        slow, publisher = planes.connect(buffer_bytes=1), planes.connect()
        subscribe(planes, slow, b"foo 1")
        publisher.send(publish(b"x" * 100_000))
        planes.settle(publisher)
        planes.hosts[0].plane.fail(slow.handle, b"Stale Connection", CloseReason.STALE_CONNECTION)
        wait_until(lambda: pass_time(planes, publisher) or reason_of(planes, slow), "the end")
        assert reason_of(planes, slow) is CloseReason.STALE_CONNECTION


def test_output_before_a_failure_is_written_before_the_connection_closes() -> None:
    with mesh() as planes:
        slow, publisher = planes.connect(buffer_bytes=1), planes.connect()
        subscribe(planes, slow, b"foo 1")
        publisher.send(publish(b"x" * 100_000))
        planes.settle(publisher)
        planes.hosts[0].plane.fail(slow.handle, b"over", CloseReason.SERVER_SHUTDOWN)
        planes.hosts[0].plane.run()
        planes.settle()
        assert len(slow.take_messages()) == 1
        assert slow.take_lines() == [b"-ERR 'over'"]
        assert slow.is_closed


# ---- deadlines


def test_client_that_does_not_authenticate_is_closed() -> None:
    with mesh(auth_timeout_ns=100 * MILLISECOND_NS) as planes:
        client = planes.connect(auth_required=True, handshake=False)
        wait_until(lambda: pass_time(planes) or client.is_closed, "the authentication timeout")
        assert client.take_lines()[1:] == [b"-ERR 'Authentication Timeout'"]
        assert reason_of(planes, client) is CloseReason.AUTHENTICATION_TIMEOUT


def test_client_whose_credentials_are_being_checked_is_not_late() -> None:
    with mesh(auth_timeout_ns=50 * MILLISECOND_NS) as planes:
        planes.hosts[0].policy.is_undecided = True
        checked = planes.connect(auth_required=True, handshake=False)
        checked.send(b"CONNECT {}\r\n")
        late = planes.connect(auth_required=True, handshake=False)
        planes.settle()
        wait_until(lambda: pass_time(planes) or late.is_closed, "the authentication timeout")
        planes.hosts[0].run_timers()
        assert not checked.is_closed
        planes.hosts[0].plane.allow(checked.handle, 0)
        checked.send(b"PING\r\n")
        planes.hosts[0].plane.run()
        planes.settle()
        assert checked.take_lines()[-1] == b"PONG"


def test_silent_client_is_pinged_and_closed_when_it_does_not_answer() -> None:
    with mesh(ping_interval_ns=60 * MILLISECOND_NS, ping_max=2) as planes:
        client = planes.connect()
        wait_until(lambda: pass_time(planes) or client.is_closed, "the end of patience")
        assert client.take_lines() == [b"PING", b"PING", b"-ERR 'Stale Connection'"]
        assert reason_of(planes, client) is CloseReason.STALE_CONNECTION
        assert planes.counter("stale_connections") == 1


def test_client_that_answers_stays_and_its_round_trip_is_known() -> None:
    with mesh(ping_interval_ns=60 * MILLISECOND_NS, ping_max=1) as planes:
        client = planes.connect()
        pings = 0

        def has_answered_often() -> bool:
            nonlocal pings
            pass_time(planes)
            for _ in range(client.take_lines().count(b"PING")):
                client.send(b"PONG\r\n")
                pings += 1
            return pings >= 5

        wait_until(has_answered_often, "five pings")
        planes.settle()
        assert not client.is_closed
        assert 0 < planes.hosts[0].plane.stats(client.handle)["rtt_ns"] < 10 * SECOND_NS


def test_client_that_says_something_is_not_pinged() -> None:
    with mesh(ping_interval_ns=200 * MILLISECOND_NS, ping_max=1) as planes:
        busy, silent = planes.connect(), planes.connect()

        def is_silent_one_closed() -> bool:
            busy.send(b"PING\r\n")
            pass_time(planes)
            return silent.is_closed

        wait_until(is_silent_one_closed, "the silent one's end")
        # One PING comes to everybody soon after CONNECT.
        assert busy.take_lines().count(b"PING") == 1
