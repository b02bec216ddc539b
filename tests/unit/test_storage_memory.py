"""Streams in memory: what is deleted gives its memory back."""

from random import Random

from storage.limits import MEMORY_SEGMENT_BYTES, StreamLimits
from storage.memory import memory_stream
from storage.snapshot import Snapshot
from storage.stream import StreamStore

HEADERS = b"NATS/1.0\r\nA: b\r\n\r\n"


def log_bytes(stream: StreamStore) -> int:
    return sum(segment.log.memory_bytes for segment in stream.segments)


def overwrite(stream: StreamStore, keys: int, count: int, rng: Random) -> dict[bytes, bytes]:
    """Write random keys so often; return the newest value of each."""
    newest = {}
    for index in range(count):
        subject, payload = b"key.%d" % rng.randrange(keys), b"%d " % index * rng.randrange(1, 12)
        stream.append(subject, HEADERS if index % 7 == 0 else b"", payload, index)
        newest[subject] = payload
    return newest


def test_overwriting_keys_keeps_memory_bounded() -> None:
    stream = memory_stream(StreamLimits(max_messages_per_subject=1, segment_bytes=20_000))
    newest = overwrite(stream, 500, 3000, Random(1))
    settled = log_bytes(stream)
    newest |= overwrite(stream, 500, 60_000, Random(2))
    assert log_bytes(stream) < 2 * settled
    assert {one.subject: one.payload for one in stream.read(1, 1000)} == newest
    assert all(stream.peeked(one.sequence).astuple() == one.astuple() for one in stream.read(1, 1000))


def test_a_snapshot_outlives_the_rewriting_of_its_segments() -> None:
    stream = memory_stream(StreamLimits(max_messages_per_subject=1, segment_bytes=5_000))
    overwrite(stream, 100, 1000, Random(1))
    expected = [one.astuple() for one in stream.read(1, 1000)]
    snapshot = Snapshot(stream)
    overwrite(stream, 100, 5000, Random(2))
    assert [one.astuple() for one in snapshot] == expected


def test_segments_in_memory_are_small_whatever_the_limits_say() -> None:
    stream = memory_stream(StreamLimits())
    for index in range(12):
        stream.append(b"a", b"", bytes(1 << 20), index)
    stream.apply_limits(StreamLimits(max_messages=100))
    for index in range(12):
        stream.append(b"a", b"", bytes(1 << 20), index)
    assert all(segment.log.end <= MEMORY_SEGMENT_BYTES for segment in stream.segments)
    assert stream.purge_all() == 24
    assert len(stream.segments) == 1
