"""Which message ids a stream holds, found again after a start: what deduplication begins with."""

from random import Random

import pytest
from support.faulty_files import RecordingFiles

from storage.limits import StreamLimits
from storage.memory import memory_stream
from storage.store import Store, StoreConfig
from storage.stream import StreamStore

CONFIG = StoreConfig(key=bytes(range(32)), flush_bytes=500, compact_fraction=0.9)


def with_id(text: bytes) -> bytes:
    return b"NATS/1.0\r\nA: b\r\nNats-Msg-Id: " + text + b"\r\nC: d\r\n\r\n"


def fill(stream: StreamStore, start: int = 0) -> None:
    """Append 40 messages a nanosecond apart; every third has an id, every fifth other headers."""
    for index in range(start, start + 40):
        headers = b"NATS/1.0\r\nX-Nats-Msg-Id: no\r\n\r\n" if index % 5 == 0 else b""
        stream.append(b"a", with_id(b"id-%d" % index) if index % 3 == 0 else headers, b"x" * 20, 1000 + index)


def expected(start: int, stop: int) -> list[tuple[bytes, int, int]]:
    return [(b"id-%d" % index, index + 1, 1000 + index) for index in range(start, stop) if index % 3 == 0]


def open_store(files: RecordingFiles) -> Store:
    return Store(files, config=CONFIG, rng=Random(1), threaded=False)


@pytest.mark.parametrize("coding", ["plain", "compressed", "aes"])
@pytest.mark.parametrize("is_killed", [False, True])
def test_ids_are_found_again_after_a_start(coding: str, is_killed: bool) -> None:
    files = RecordingFiles()
    store = open_store(files)
    stream = store.create_stream(
        "s",
        limits=StreamLimits(segment_bytes=700),
        compression=coding == "compressed",
        cipher="aes" if coding == "aes" else None,
    ).stream
    fill(stream)
    store.wait(store.commit())
    store.checkpoint_all()
    fill(stream, 40)
    store.wait(store.commit())
    assert stream.message_ids(0) == expected(0, 80)
    if is_killed:
        files = files.crash(len(files.trace), Random(1))
    else:
        store.close()
    stream = open_store(files).streams["s"].stream
    assert stream.message_ids(0) == expected(0, 80)
    assert stream.message_ids(1050) == expected(50, 80)
    assert stream.message_ids(2000) == []


def test_deleted_messages_have_no_ids_and_compaction_keeps_the_others() -> None:
    store = open_store(RecordingFiles())
    stream = store.create_stream("s", limits=StreamLimits(segment_bytes=900)).stream
    fill(stream)
    stream.delete_many(range(1, 11))
    stream.delete_many(range(13, 16))
    store.wait(store.commit())
    for _ in range(5):
        store.housekeeping()
        store.wait(store.commit())
    kept = [one for one in expected(10, 40) if not 13 <= one[1] <= 15]
    assert stream.message_ids(0) == kept


def test_a_message_without_an_id_costs_no_reading() -> None:
    stream = memory_stream()
    for index in range(10):
        stream.append(b"a", b"NATS/1.0\r\nNats-Msg-Idx: 1\r\nNats-Msg-Id:\r\n\r\n" * (index % 2), b"", index)
    assert not any(segment.has_ids for segment in stream.segments)
    assert stream.message_ids(0) == []
    stream.append(b"a", with_id(b"x"), b"", 10)
    assert stream.message_ids(0) == [(b"x", 11, 10)]
