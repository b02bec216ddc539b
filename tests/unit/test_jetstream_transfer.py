"""Blocks of messages between streams: what is packed comes out again, and is stored as it should be."""

import struct

import pytest

from storage.limits import StreamLimits
from storage.memory import memory_stream
from storage.stream import StreamStore
from storage.subjects import SubjectFilter
from workers.jetstream.transfer import Block, pack

HEADERS = b"NATS/1.0\r\nX: y\r\n\r\n"
MESSAGE_ID = b"NATS/1.0\r\nNats-Msg-Id: 1\r\n\r\n"


def stream_of(*messages: tuple[bytes, bytes, bytes], **limits: int) -> StreamStore:
    """Return a stream that holds (subject, headers, payload) messages, one a second."""
    store = memory_stream(StreamLimits(**limits))
    for second, message in enumerate(messages, start=1):
        store.append(*message, second * 10**9)
    return store


def packed(store: StreamStore, start: int = 1, stop: int = 100, **options: int) -> tuple[bytes, int]:
    """Return the block of all messages and what comes next."""
    options = {"count_max": 100, "bytes_max": 1 << 20, **options}
    return pack(store, SubjectFilter(store.subjects, [b">"]), start, stop, **options)


def contents(store: StreamStore) -> list[tuple[int, int, bytes, bytes, bytes]]:
    return [message.astuple() for message in store.read(1, 1000)]


def test_a_block_is_as_it_is_drawn():
    data, following = packed(stream_of((b"a.b", HEADERS, b"one")), stop=1)
    head = struct.pack("<QqIIH", 1, 10**9, len(HEADERS), 3, 3)
    assert (data, following) == (head + b"a.b" + HEADERS + b"one", 2)


def test_filters_and_bounds_say_what_is_packed():
    store = stream_of(*((b"a" if number % 2 else b"b", b"", b"%d" % number) for number in range(10)))
    of_a = SubjectFilter(store.subjects, [b"a"])
    data, following = pack(store, of_a, 1, 9, 2, 1 << 20)
    assert (len(data), following) == (2 * (26 + 1 + 1), 5)
    data, following = pack(store, of_a, 5, 7, 100, 1 << 20)
    assert (len(data), following) == (28, 8)
    assert pack(store, of_a, 9, 9, 100, 1 << 20) == (b"", 10)
    # The message that passes the bound is the last.
    assert pack(store, of_a, 1, 10, 100, 29)[1] == 5


def test_a_mirror_is_equal_and_has_the_same_gaps():
    origin = stream_of(*((b"s", HEADERS if number % 2 else b"", b"%d" % number) for number in range(6)))
    for sequence in (1, 3, 4):
        origin.delete(sequence)
    mirror = stream_of()
    block = Block(packed(origin)[0])
    block.mirror(mirror, None, has_window=False)
    assert block.is_done
    assert block.last_sequence == 6
    assert contents(mirror) == contents(origin)
    assert (mirror.first_sequence, mirror.last_sequence) == (2, 6)
    again = Block(packed(origin)[0])
    again.mirror(mirror, None, has_window=False)
    assert again.is_done
    assert mirror.messages == 3


@pytest.mark.parametrize(
    "headers",
    [
        b"NATS/1.0\r\nNats-Expected-Stream: S\r\n\r\n",
        b"NATS/1.0\r\nA: b\r\nNats-TTL: 1s\r\n\r\n",
        b"NATS/1.0 100\r\nA: b\r\n\r\n",
        b"NATS/1.0\r\nNats-Msg-Id: 1\r\nNats-Rollup: all\r\n\r\n",
    ],
)
def test_headers_for_the_server_are_left_to_the_caller(headers):
    data = packed(stream_of((b"a", b"", b"1"), (b"b", headers, b"2"), (b"c", b"", b"3")))[0]
    mirrored, sourced = Block(data), Block(data)
    mirrored.mirror(stream_of(), None, has_window=False)
    sourced.source(stream_of(), 1, b"O", b"> >", b"id", None, has_window=False)
    for block in (mirrored, sourced):
        assert (block.is_done, block.last_sequence) == (False, 1)
        assert block.message() == (2, 2 * 10**9, b"b", headers, b"2")
        block.skip()
        assert block.message()[2] == b"c"


def test_ids_matter_where_duplicates_are_looked_for():
    data = packed(stream_of((b"a", MESSAGE_ID, b"")))[0]
    for has_window in (False, True):
        block = Block(data)
        block.mirror(stream_of(), None, has_window=has_window)
        assert block.is_done is not has_window


def test_sourced_messages_say_where_they_are_from():
    data = packed(stream_of((b"a.1", b"", b"one"), (b"a.2", HEADERS, b"two")))[0]
    store = stream_of((b"own", b"", b""))
    Block(data).source(store, 5, b"ORIGIN", b"a.* >", b"identity", None, has_window=True)
    source = b"Nats-Stream-Source: ORIGIN %d a.* > a.%d identity\r\n\r\n"
    assert contents(store)[1:] == [
        (2, 10**9, b"a.1", b"NATS/1.0\r\n" + source % (1, 1), b"one"),
        (3, 10**9, b"a.2", HEADERS[:-2] + source % (2, 2), b"two"),
    ]


def test_subjects_are_transformed():
    data = packed(stream_of((b"a.1", b"", b"")))[0]
    mirror, sourcing = stream_of(), stream_of()
    Block(data).mirror(mirror, bytes.upper, has_window=False)
    Block(data).source(sourcing, 5, b"O", b"> >", b"id", bytes.upper, has_window=False)
    assert [contents(store)[0][2] for store in (mirror, sourcing)] == [b"A.1", b"A.1"]
    assert b" a.1 id\r\n" in contents(sourcing)[0][3]


def test_a_refused_message_is_left_to_the_caller():
    data = packed(stream_of((b"a", b"", b"1"), (b"b", b"", b"2")))[0]
    for store in (stream_of(max_messages=1, discard_new=True), stream_of(max_messages=1, discard_new=True)):
        block = Block(data)
        block.mirror(store, None, has_window=False)
        assert (block.is_done, block.last_sequence, store.last_sequence) == (False, 1, 1)


@pytest.mark.parametrize("cut", [1, 10, 26, 27])
def test_a_block_that_is_cut_off_is_refused(cut):
    data = packed(stream_of((b"a", b"", b"1")))[0]
    with pytest.raises(ValueError, match="ends within"):
        Block(data[:-cut] or b"x").mirror(stream_of(), None, has_window=False)
