"""Reading messages where they lie, without a Python object each: the same answers as `get`."""

from collections.abc import Callable
from random import Random

import pytest
from support.faulty_files import RecordingFiles

from storage.limits import StreamLimits
from storage.memory import memory_stream
from storage.store import Store, StoreConfig
from storage.stream import StreamStore

KINDS = ("file", "memory", "compressed", "aes")
HEADERS = b"NATS/1.0\r\nA: b\r\n\r\n"
Make = Callable[[], StreamStore]


@pytest.fixture(params=KINDS)
def stored(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def open_store(files: RecordingFiles) -> Store:
    config = StoreConfig(key=bytes(range(32)), flush_bytes=500)
    return Store(files, config=config, rng=Random(1), threaded=False)


def make(kind: str, files: RecordingFiles) -> tuple[StreamStore, Store | None]:
    limits = StreamLimits(segment_bytes=1500)
    if kind == "memory":
        return memory_stream(limits), None
    store = open_store(files)
    cipher = kind if kind == "aes" else None
    return store.create_stream(
        "s", limits=limits, compression=kind == "compressed", cipher=cipher
    ).stream, store


def fill(stream: StreamStore, store: Store | None, count: int = 60) -> None:
    for index in range(count):
        headers = HEADERS if index % 3 == 0 else b""
        expires_ns = 10**9 if index % 5 == 0 else 0
        stream.append(
            b"a.%d" % (index % 7), headers, b"payload %d" % index, 1000 + index, expires_ns=expires_ns
        )
        if store is not None and index % 8 == 0:
            store.wait(store.commit())


def assert_peeks_as_it_gets(stream: StreamStore) -> None:
    for sequence in range(stream.last_sequence + 2):
        message, peeked = stream.get(sequence), stream.peeked(sequence)
        assert (peeked and peeked.astuple()) == (message and message.astuple())


def test_a_message_is_seen_where_it_lies(stored: str) -> None:
    files = RecordingFiles()
    stream, store = make(stored, files)
    fill(stream, store)
    stream.delete(5)
    stream.delete(60)
    assert len(stream.segments) > 2
    peeked = stream.peeked(4)
    assert peeked is not None
    assert peeked.astuple() == (4, 1003, b"a.3", HEADERS, b"payload 3")
    assert_peeks_as_it_gets(stream)
    if store is not None:
        store.close()
        assert_peeks_as_it_gets(open_store(files).streams["s"].stream)


def test_the_newest_of_a_subject_is_found(stored: str) -> None:
    stream, store = make(stored, RecordingFiles())
    fill(stream, store)
    assert stream.last_of(b"a.3") == 60
    stream.delete(60)
    assert stream.last_of(b"a.3") == 53
    assert stream.last_of(b"a") == 0
    stream.purge_all()
    assert stream.last_of(b"a.3") == 0


def test_a_walk_over_live_messages_steps_over_deleted_ones_and_segments(stored: str) -> None:
    stream, store = make(stored, RecordingFiles())
    fill(stream, store)
    gone = {1, 2, 17, 18, 19, 59, *range(30, 45)}
    stream.delete_many(gone)
    walked = [stream.next_from(0)]
    while walked[-1] <= stream.last_sequence:
        walked.append(stream.next_from(walked[-1] + 1))
    assert walked == [*sorted(set(range(1, 61)) - gone), 61]
