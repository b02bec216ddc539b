"""The engine's checks, fed with bytes instead of sockets: any split gives the same, every fault is found."""

import random
from collections.abc import Callable

import pytest

from loadtest.engine import Board, Engine, message_payload

NO_SOCKET = -1


def delivery(
    sequence: int, size: int, publisher: int = 0, sid: bytes = b"1", subject: bytes = b"bench"
) -> bytes:
    return b"MSG %b %b %d\r\n%b\r\n" % (subject, sid, size, message_payload(publisher, sequence, size))


def subscriber(size: int, **options: bool) -> Engine:
    """Return an engine whose connection 0 is a subscriber that expects messages of two publishers."""
    engine = Engine(Board(1, 1_000_000_000), 0, 2, size, 2, **options)
    engine.add_subscriber(NO_SOCKET, b"bench")
    return engine


@pytest.mark.parametrize("size", [0, 7, 8, 16, 300, 70_000])
def test_any_split_of_the_input_gives_the_same_messages(size: int) -> None:
    generator = random.Random(size)
    data = b"".join(delivery(sequence // 2, size, sequence % 2) for sequence in range(40))
    for longest in (1, 7, 1000, 100_000) if size < 1000 else (1000, 66_000, 700_000):
        engine = subscriber(size)
        position = 0
        while position < len(data):
            piece = generator.randint(1, longest)
            engine.feed(0, data[position : position + piece])
            position += piece
        assert engine.failure() is None
        assert engine.received() == [40]
        assert engine.delivered_bytes == 40 * size


@pytest.mark.parametrize(
    ("fault", "spoil"),
    [
        ("lost or reordered: sequence 6 came where 5 was due", lambda parts: [*parts[:5], *parts[6:]]),
        ("repeated or reordered: sequence 5 came where 6 was due", lambda parts: [*parts[:6], *parts[5:]]),
        ("lost or reordered: sequence 6", lambda parts: [*parts[:5], parts[6], parts[5], *parts[7:]]),
        ("a payload of 31 bytes where 32 were due", lambda parts: [*parts[:5], delivery(5, 31)]),
        ("a mark of publisher 9, there are 2", lambda parts: [*parts[:5], delivery(5, 32, 9)]),
        ("damaged payload in sequence 0", lambda parts: [parts[0][:-3] + b"!\r\n"]),
        ("no operation", lambda parts: [*parts[:5], parts[5][:-2] + b"\n\n", *parts[6:]]),
        ("subject or sid '2'", lambda parts: [*parts[:5], delivery(5, 32, sid=b"2")]),
        ("subject or sid 'other'", lambda parts: [*parts[:5], delivery(5, 32, subject=b"other")]),
        ("the server said 'Slow Consumer'", lambda parts: [*parts[:5], b"-ERR 'Slow Consumer'\r\n"]),
        ("bytes where 32 were due", lambda parts: [*parts[:5], b"MSG bench 1 900000000\r\n"]),
    ],
    ids=lambda value: value.split(":")[0] if isinstance(value, str) else "",
)
def test_a_fault_is_found_and_ends_the_counting(
    fault: str, spoil: Callable[[list[bytes]], list[bytes]]
) -> None:
    parts = [delivery(sequence, 32) for sequence in range(10)]
    engine = subscriber(32)
    engine.feed(0, b"".join(spoil(parts)))
    failure = engine.failure()
    assert failure is not None
    assert fault in failure
    before = engine.received()
    engine.feed(0, delivery(before[0], 32))
    assert engine.received() == before


def test_queue_members_may_see_gaps_but_no_message_twice() -> None:
    engine = subscriber(16, is_queue=True)
    engine.add_subscriber(NO_SOCKET, b"bench")
    for sequence in (0, 3, 4, 200):
        engine.feed(0, delivery(sequence, 16))
    for sequence in (1, 2, 5):
        engine.feed(1, delivery(sequence, 16))
    assert engine.failure() is None
    assert int.from_bytes(engine.seen(0), "little") == 0b111111 | 1 << 200
    assert engine.seen(1) == b""
    engine.feed(1, delivery(200, 16))
    assert "sequence 200" in str(engine.failure())


def test_latency_counts_from_the_due_moment_in_the_payload() -> None:
    engine = subscriber(16, has_due=True)
    due_ns = 1
    engine.feed(0, b"MSG bench 1 16\r\n%b\r\n" % message_payload(0, 0, 16, due_ns))
    assert engine.failure() is None
    assert engine.latency_max_ns == engine.last_ns - due_ns


def test_pings_are_answered() -> None:
    engine = subscriber(16)
    engine.feed(0, b"PING\r\n" * 3)
    assert engine.failure() is None
    assert engine.answered == 3 * len(b"PONG\r\n")


def test_messages_of_foreign_publishers_may_have_any_size() -> None:
    engine = subscriber(16, any_size=True)
    engine.feed(0, b"MSG bench 1 3\r\nabc\r\nMSG bench 1 0\r\n\r\n")
    assert engine.failure() is None
    assert engine.received() == [2]
    assert engine.delivered_bytes == 3


def test_a_reply_that_nothing_waits_for_is_a_fault() -> None:
    engine = Engine(Board(1, 1_000_000_000), 0, 1, 8, 1)
    engine.add_requester(NO_SOCKET, 0, b"service", b"_INBOX.x", 4, 10)
    engine.feed(0, b"MSG _INBOX.x.%016x 1 8\r\n%b\r\n" % (0, message_payload(0, 0, 8)))
    assert "a reply that nothing waits for" in str(engine.failure())


def test_a_request_without_responders_is_a_fault() -> None:
    engine = Engine(Board(1, 1_000_000_000), 0, 1, 8, 1)
    engine.add_requester(NO_SOCKET, 0, b"service", b"_INBOX.x", 4, 10)
    engine.feed(0, b"HMSG _INBOX.x.%016x 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n" % 0)
    assert "no responders" in str(engine.failure())


@pytest.mark.parametrize("seed", range(20))
def test_garbage_is_a_fault_or_harmless(seed: int) -> None:
    """Bytes of a good stream are changed, dropped and doubled: the engine counts or complains, and lives."""
    generator = random.Random(seed)
    for _ in range(50):
        data = bytearray(b"".join(delivery(sequence, 40) for sequence in range(20)))
        for _ in range(generator.randint(0, 4)):
            position = generator.randrange(len(data))
            change = generator.choice((b"", b"\r\n", b"9", b" ", bytes([generator.randrange(256)]) * 3))
            data[position : position + generator.randint(0, 9)] = change
        engine = subscriber(40, is_queue=bool(seed % 2))
        while data:
            size = generator.randint(1, 400)
            engine.feed(0, bytes(data[:size]))
            del data[:size]
        assert engine.received()[0] <= 21
        assert engine.failure() is None or engine.delivered < 21
