"""The same promises for streams in files and in memory."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
from support.faulty_files import RecordingFiles

from storage import queries
from storage.limits import (
    MAXIMUM_BYTES,
    MAXIMUM_MESSAGES,
    MAXIMUM_PER_SUBJECT,
    NEVER_NS,
    REFUSALS,
    TOO_LARGE,
    StreamLimits,
)
from storage.memory import memory_stream
from storage.snapshot import Snapshot
from storage.store import Store
from storage.stream import StreamStore
from storage.subjects import SubjectFilter

Make = Callable[..., StreamStore]


@pytest.fixture(params=["file", "memory", "compressed", "aes", "chacha"])
def make(request: pytest.FixtureRequest) -> Make:
    """Return a function that makes an empty stream with limits."""
    kind = request.param

    def file_stream(**limits: int | bool) -> StreamStore:
        from storage.store import StoreConfig

        config = StoreConfig(key=bytes(range(32)))
        store = Store(RecordingFiles(), config=config, rng=Random(1), threaded=False)
        store.on_durable = lambda durable, keep=store: None
        return store.create_stream(
            "s",
            limits=StreamLimits(**limits),
            compression=kind == "compressed",
            cipher=kind if kind in ("aes", "chacha") else None,
        ).stream

    def memory(**limits: int | bool) -> StreamStore:
        return memory_stream(StreamLimits(**limits))

    return memory if kind == "memory" else file_stream


def fill(stream: StreamStore, count: int = 10, subject: bytes = b"a") -> None:
    for index in range(count):
        stream.append(subject, b"", b"%d" % index, 1000 + index)


def test_an_empty_stream_reports_zeros(make: Make) -> None:
    state = make().state()
    assert (state.messages, state.bytes, state.first_seq, state.last_seq, state.first_ts_ns) == (
        0,
        0,
        0,
        0,
        0,
    )


def test_a_message_reads_as_it_was_written(make: Make) -> None:
    stream = make()
    assert stream.append(b"a.b", b"NATS/1.0\r\n\r\n", b"payload", 7) == 1
    message = stream.get(1)
    assert message is not None
    assert message.astuple() == (1, 7, b"a.b", b"NATS/1.0\r\n\r\n", b"payload")
    assert stream.get(2) is None
    assert stream.get(0) is None


def test_bytes_are_counted_as_nats_server_counts_them(make: Make) -> None:
    stream = make()
    is_memory = stream.hot_log is not None and stream.hot_log.is_memory
    stream.append(b"abc", b"", b"12345", 1)
    assert stream.state().bytes == (16 + 3 + 5 if is_memory else 30 + 3 + 5)
    stream.append(b"abc", b"hdr", b"12345", 1)
    assert stream.state().bytes == (24 + 27 if is_memory else 38 + 45)


def test_after_a_purge_first_is_behind_last_and_the_last_time_stays(make: Make) -> None:
    stream = make()
    fill(stream)
    assert stream.purge_all() == 10
    state = stream.state()
    assert (state.messages, state.first_seq, state.last_seq, state.first_ts_ns, state.last_ts_ns) == (
        0,
        11,
        10,
        0,
        1009,
    )
    assert stream.append(b"a", b"", b"", 2000) == 11


def test_deleted_messages_between_are_counted_and_the_first_moves(make: Make) -> None:
    stream = make()
    fill(stream)
    assert stream.delete(1)
    assert stream.delete(5, erase=True)
    assert not stream.delete(5)
    assert stream.state().first_seq == 2
    assert stream.state().num_deleted == 1
    assert stream.deleted() == [5]


def test_discard_old_evicts_the_oldest(make: Make) -> None:
    stream = make(max_messages=3)
    fill(stream)
    assert [message.payload for message in stream.read(1, 10)] == [b"7", b"8", b"9"]


def test_discard_new_refuses(make: Make) -> None:
    stream = make(max_messages=2, discard_new=True)
    assert [stream.append(b"a", b"", b"", index) for index in range(3)] == [1, 2, MAXIMUM_MESSAGES]
    stream = make(max_bytes=50, discard_new=True)
    assert stream.append(b"a", b"", b"x" * 10, 1) == 1
    assert stream.append(b"a", b"", b"x" * 30, 1) == MAXIMUM_BYTES
    stream = make(max_messages_per_subject=1, discard_new=True, discard_new_per_subject=True)
    assert [stream.append(b"a", b"", b"", 1), stream.append(b"a", b"", b"", 1)] == [1, MAXIMUM_PER_SUBJECT]
    assert stream.append(b"b", b"", b"", 1) == 2
    stream = make(max_message_bytes=4)
    assert stream.append(b"a", b"", b"12345", 1) == TOO_LARGE
    assert REFUSALS[MAXIMUM_BYTES] == "maximum bytes exceeded"


def test_a_replacement_under_discard_new_is_taken_when_it_frees_the_place(make: Make) -> None:
    stream = make(max_messages=2, max_messages_per_subject=1, discard_new=True)
    assert [stream.append(subject, b"", b"", 1) for subject in (b"a", b"b", b"a", b"c")] == [
        1,
        2,
        3,
        MAXIMUM_MESSAGES,
    ]


def test_a_replacement_under_discard_new_must_not_be_larger_when_bytes_are_short(make: Make) -> None:
    stream = make(max_bytes=100, max_messages_per_subject=1, discard_new=True)
    assert [stream.append(b"a", b"", b"x" * size, 1) for size in (60, 61, 50)] == [1, MAXIMUM_BYTES, 2]


def test_lower_limits_evict_nothing_under_discard_new(make: Make) -> None:
    stream = make(discard_new=True)
    fill(stream, 5)
    stream.apply_limits(StreamLimits(max_messages=3, discard_new=True))
    assert stream.enforce_limits() == 0
    assert stream.messages == 5


def test_messages_expire_by_age_and_by_their_own_time(make: Make) -> None:
    stream = make(max_age_ns=100)
    stream.append(b"a", b"", b"", 1000, expires_ns=1010)
    stream.append(b"b", b"", b"", 1001)
    stream.append(b"b", b"", b"", 1050)
    assert stream.expire(1009) == []
    assert stream.expire(1010) == [(1, b"a", True)]
    assert stream.expire(1101) == [(2, b"b", False)]
    assert stream.expire(1150) == [(3, b"b", True)]


def test_purge_by_filter_keeps_the_newest_asked_for(make: Make) -> None:
    stream = make()
    for index in range(10):
        stream.append(b"a.%d" % (index % 2), b"", b"", index)
    assert queries.purge(stream, SubjectFilter(stream.subjects, [b"a.1"]), keep=2) == 3
    assert queries.subject_counts(stream, SubjectFilter(stream.subjects, [b">"])) == {b"a.0": 5, b"a.1": 2}
    assert queries.purge(stream, SubjectFilter(stream.subjects, [b">"]), before=6) == 3


def test_a_snapshot_shows_the_stream_as_it_was(make: Make) -> None:
    stream = make(segment_bytes=400)
    fill(stream, 30)
    stream.delete(4)
    snapshot = Snapshot(stream)
    stream.purge_all()
    fill(stream, 3, b"b")
    assert [message.sequence for message in snapshot] == [1, 2, 3, *range(5, 31)]
    assert snapshot.state.messages == 29


def test_skipped_sequences_hold_nothing(make: Make) -> None:
    stream = make()
    fill(stream, 2)
    stream.skip_to(200_000, 1500)
    assert stream.state().last_ts_ns == 1500
    assert stream.append(b"a", b"", b"x", 2000) == 200_001
    assert stream.state().num_deleted == 199_998
    assert [message.sequence for message in stream.read(1, 9)] == [1, 2, 200_001]
    with pytest.raises(ValueError, match="skip to 5"):
        stream.skip_to(5, 1)


def test_real_files_and_threads_give_the_same(tmp_path: Path) -> None:
    store = Store(tmp_path)
    stream = store.create_stream("s", b"definition").stream
    fill(stream, 5000)
    store.wait(store.commit())
    before = stream.state()
    store.close()
    store = Store(tmp_path)
    assert store.streams["s"].stream.state() == before
    assert store.streams["s"].control.definition == b"definition"
    assert len(store.streams["s"].stream.read(1, 10_000)) == 5000
    store.close()


def test_a_message_that_never_ends_outlives_the_age_limit(make: Make) -> None:
    stream = make(max_age_ns=100)
    stream.append(b"a", b"", b"", 1000)
    stream.append(b"kept", b"", b"", 1001, expires_ns=NEVER_NS)
    stream.append(b"a", b"", b"", 1002)
    assert [sequence for sequence, _, _ in stream.expire(5000)] == [1, 3]
    assert stream.expire(5000) == []
    assert stream.get(2) is not None


def test_messages_far_apart_do_not_share_one_long_segment(tmp_path: Path) -> None:
    """A segment's columns can leave memory only when it is sealed."""
    with closing(Store(str(tmp_path))) as store:
        stream = store.create_stream("sparse").stream
        for sequence in range(60_000, 60_000 * 41, 60_000):
            stream.skip_to(sequence - 1, 1)
            stream.append(b"a", b"", b"%d" % sequence, 1)
        assert len(stream.segments) > 1
        assert max(segment.rows for segment in stream.segments) <= 1 << 20
        store.wait(store.commit())
        state = stream.state()
        assert (state.messages, state.first_seq, state.last_seq) == (40, 60_000, 2_400_000)
    with closing(Store(str(tmp_path))) as store:
        stream = store.streams["sparse"].stream
        assert stream.state() == state
        assert stream.get(120_000).payload == b"120000"


def test_when_the_next_message_ends_is_known(make: Make) -> None:
    stream = make(max_age_ns=100)
    assert stream.next_expiry_ns() == 0
    stream.append(b"a", b"", b"", 1000, expires_ns=NEVER_NS)
    assert stream.next_expiry_ns() == 0
    stream.append(b"b", b"", b"", 1001)
    stream.append(b"c", b"", b"", 1002, expires_ns=1050)
    stream.append(b"d", b"", b"", 1003, expires_ns=5000)
    assert stream.next_expiry_ns() == 1050
    assert stream.expire(1050) == [(3, b"c", True)]
    assert stream.next_expiry_ns() == 1101
    assert stream.expire(1200) == [(2, b"b", True), (4, b"d", True)]
    assert stream.next_expiry_ns() == 0
    assert stream.state().first_seq == 1


def test_what_is_remembered_of_messages_that_are_gone_stays_bounded(make: Make) -> None:
    stream = make(max_messages_per_subject=1)
    for index in range(5000):
        stream.append(b"a", b"", b"", 1000 + index, expires_ns=NEVER_NS if index % 2 else 10**18)
    assert len(stream.expiries) + len(stream.never) <= 1030
