"""What a Publisher does over time and after a restart; what it answers is compared with nats-server in
tests/protocol/test_jetstream_publishing.py."""

import pytest
from support.faulty_files import RecordingFiles
from support.publishing import START_NS, FakeEngine, FakeStream, make_stream

from storage.errors import WriteFailed
from storage.store import Store
from workers.jetstream import headers
from workers.jetstream.stream_config import Republish

SECOND = 10**9


def reopened(stream: FakeStream) -> FakeStream:
    """Return a Publisher that begins over the same store, as after a restart."""
    return FakeStream(stream.config, stream.store, stream.engine)


def test_an_id_counts_for_the_window() -> None:
    stream = make_stream(duplicate_window=10 * SECOND)
    assert stream.publish(Nats_Msg_Id="i") == [b'{"stream":"S","seq":1}']
    stream.engine.advance(9)
    assert stream.publish(Nats_Msg_Id="i") == [b'{"stream":"S","seq":1,"duplicate": true}']
    stream.engine.advance(1)
    assert stream.publish(Nats_Msg_Id="i") == [b'{"stream":"S","seq":2}']


def test_ids_within_the_window_are_known_after_a_restart() -> None:
    stream = make_stream(duplicate_window=10 * SECOND)
    stream.publish(Nats_Msg_Id="old")
    stream.engine.advance(6)
    stream.publish(Nats_Msg_Id="new")
    stream.engine.advance(5)
    again = reopened(stream)
    assert again.publish(Nats_Msg_Id="new") == [b'{"stream":"S","seq":2,"duplicate": true}']
    assert again.publish(Nats_Msg_Id="old") == [b'{"stream":"S","seq":3}']


def test_the_last_id_is_known_after_a_restart() -> None:
    stream = make_stream()
    stream.publish(Nats_Msg_Id="i")
    again = reopened(stream)
    assert again.publish(Nats_Expected_Last_Msg_Id="i") == [b'{"stream":"S","seq":2}']
    assert b'"wrong last msg ID: "' in again.publish(Nats_Expected_Last_Msg_Id="i")[0]


def test_the_last_id_counts_without_a_window() -> None:
    stream = make_stream(duplicate_window=0)
    stream.publish(Nats_Msg_Id="i")
    assert stream.publish(Nats_Msg_Id="i", Nats_Expected_Last_Msg_Id="i") == [b'{"stream":"S","seq":2}']


def test_ids_survive_a_purge() -> None:
    stream = make_stream()
    stream.publish(Nats_Msg_Id="i")
    stream.store.purge_all()
    assert stream.publish(Nats_Msg_Id="i") == [b'{"stream":"S","seq":1,"duplicate": true}']


def test_ids_that_are_too_old_leave_the_memory_of_an_idle_stream() -> None:
    stream = make_stream(duplicate_window=10 * SECOND)
    for number in range(10):
        stream.publish(Nats_Msg_Id=number)
    stream.engine.advance(30)
    assert len(stream.publisher.dedup) == 1


def test_a_changed_window_counts_at_once() -> None:
    stream = make_stream()
    stream.publish(Nats_Msg_Id="i")
    stream.engine.advance(10)
    stream.configure(duplicate_window=5 * SECOND)
    assert stream.publish(Nats_Msg_Id="i") == [b'{"stream":"S","seq":2}']


def test_the_domain_is_part_of_every_acknowledgement() -> None:
    stream = make_stream(FakeEngine(js_domain="hub"))
    assert stream.publish(Nats_Msg_Id="i") == [b'{"stream":"S","domain":"hub","seq":1}']
    assert stream.publish(Nats_Msg_Id="i") == [b'{"stream":"S","domain":"hub","seq":1,"duplicate": true}']
    assert b"hub" not in stream.publish(Nats_Expected_Stream="x")[0]


def test_a_sealed_stream_takes_nothing() -> None:
    stream = make_stream(sealed=True)
    assert b"10109" in stream.publish()[0]
    assert b"10109" in stream.publish(Nats_Batch_Id="b")[0]
    assert b"10109" in stream.publish(reply=b"R.b.10.ok.1.0.$FI")[0]
    assert stream.stored() == []


def test_a_message_ends_after_its_ttl() -> None:
    stream = make_stream(allow_msg_ttl=True)
    stream.publish(Nats_TTL="2s")
    stream.publish(Nats_TTL="never")
    assert not stream.publisher.expire(START_NS + 2 * SECOND - 1, 100)
    assert stream.publisher.expire(START_NS + 2 * SECOND, 100)
    assert [sequence for sequence, *_ in stream.stored()] == [2]


def test_a_ttl_beyond_the_end_of_time_is_long() -> None:
    stream = make_stream(allow_msg_ttl=True)
    stream.publish(Nats_TTL="9223372036")
    assert not stream.publisher.expire((1 << 63) - 3, 100)


def test_the_last_message_of_a_subject_leaves_a_marker_and_the_marker_none() -> None:
    stream = make_stream(
        max_age=10 * SECOND, allow_msg_ttl=True, allow_rollup_hdrs=True, subject_delete_marker_ttl=3 * SECOND
    )
    stream.publish("s.a")
    stream.publish("s.a", Nats_TTL="4s")
    stream.publish("s.b", Nats_TTL="never")
    stream.engine.advance(10)
    assert stream.publisher.expire(stream.engine.now_ns(), 100)
    [kept, marker] = stream.stored()
    assert kept[1] == "s.b"
    assert marker[1:] == (
        "s.a",
        b"NATS/1.0\r\nNats-Marker-Reason: MaxAge\r\nNats-TTL: 3s\r\nNats-Rollup: sub\r\n\r\n",
        b"",
    )
    assert stream.engine.commits
    stream.engine.advance(3)
    stream.publisher.expire(stream.engine.now_ns(), 100)
    assert [subject for _, subject, *_ in stream.stored()] == ["s.b"]


def test_a_marker_that_goes_by_age_leaves_none() -> None:
    stream = make_stream(
        max_age=SECOND, allow_msg_ttl=True, allow_rollup_hdrs=True, subject_delete_marker_ttl=60 * SECOND
    )
    stream.publish("s.a")
    for _ in range(2):
        stream.engine.advance(1)
        stream.publisher.expire(stream.engine.now_ns(), 100)
    assert stream.stored() == []


def test_interest_keeps_messages() -> None:
    stream = make_stream(retention="interest")
    assert stream.publish() == [b'{"stream":"S","seq":1}']
    stream.has_interest = True
    assert stream.publish() == [b'{"stream":"S","seq":2}']
    assert [sequence for sequence, *_ in stream.stored()] == [2]


def test_a_rollup_without_interest_takes_out_the_older_ones() -> None:
    stream = make_stream(retention="interest", allow_rollup_hdrs=True)
    stream.has_interest = True
    stream.publish("s.a")
    stream.publish("s.b")
    stream.has_interest = False
    stream.publish("s.a", Nats_Rollup="sub")
    assert [sequence for sequence, *_ in stream.stored()] == [2]


def test_a_rollup_takes_out_only_its_subject_among_many() -> None:
    stream = make_stream(allow_rollup_hdrs=True)
    for number in range(300):
        stream.publish(f"s.{number % 3}")
    stream.publish("s.1", Nats_Rollup="sub")
    assert len(stream.stored()) == 201
    stream.publish("s.x", Nats_Rollup="all")
    assert len(stream.stored()) == 1


def test_a_clock_that_goes_back_does_not_stop_publishing() -> None:
    stream = make_stream()
    stream.publish()
    stream.engine.clock_ns -= 5 * SECOND
    assert stream.publish() == [b'{"stream":"S","seq":2}']
    assert stream.store.state().last_ts_ns == START_NS


def test_a_store_that_fails_is_told_to_the_publisher() -> None:
    stream = make_stream()
    stream.store.failure = WriteFailed("no space left on device")
    assert b'"err_code":10077' in stream.publish()[0]


def test_a_copy_is_sent_where_its_subject_says() -> None:
    stream = make_stream(republish=Republish("s.*", "copy.{{wildcard(1)}}"))
    stream.publish("s.a", b"x")
    stream.publish("s.a.b", b"x")
    [copy] = [answer for answer in stream.answers if answer[0] != b"r"]
    assert copy[0] == b"copy.a"
    assert headers.get(copy[1], b"Nats-Time-Stamp") == b"2026-09-21T14:13:20Z"


def test_changed_features_count_at_once() -> None:
    stream = make_stream()
    assert b"10111" in stream.publish(Nats_Rollup="sub")[0]
    stream.configure(allow_rollup_hdrs=True)
    assert stream.publish(Nats_Rollup="sub") == [b'{"stream":"S","seq":1}']


@pytest.mark.parametrize("storage", ["file", "memory"])
def test_what_no_file_could_hold_is_refused_in_files(storage: str) -> None:
    store = None
    if storage == "file":
        store = Store(RecordingFiles(), threaded=False).create_stream("s").stream
    stream = make_stream(store=store, storage=storage)
    [answer] = stream.publish(payload=bytes((32 << 20) - 32))
    assert answer == (
        b'{"error":{"code":503,"err_code":10077,"description":"message too large"},"stream":"S","seq":0}'
        if storage == "file"
        else b'{"stream":"S","seq":1}'
    )


def test_close_stops_the_timers() -> None:
    stream = make_stream(
        allow_msg_schedules=True, allow_rollup_hdrs=True, allow_atomic=True, allow_batched=True
    )
    stream.publish("s.x", Nats_Schedule="@every 1s", Nats_Schedule_Target="s.t")
    stream.publish(Nats_Batch_Id="b", Nats_Batch_Sequence=1)
    stream.publish(reply=b"R.b.10.ok.1.0.$FI")
    stream.publisher.close()
    before = len(stream.stored())
    stream.engine.advance(300)
    assert (len(stream.stored()), stream.engine.advisories) == (before, [])


def test_many_messages_end_a_part_at_a_time() -> None:
    stream = make_stream(allow_msg_ttl=True, allow_rollup_hdrs=True, subject_delete_marker_ttl=SECOND)
    for number in range(50):
        stream.publish(f"s.{number}", Nats_TTL=50 - number)
    stream.engine.advance(30)
    for left in (41, 32, 23):
        assert stream.publisher.expire(stream.engine.now_ns(), 9)
        alive = [subject for _, subject, block, _ in stream.stored() if b"Marker" not in block]
        assert len(alive) == left
    assert stream.publisher.expire(stream.engine.now_ns(), 9)
    assert not stream.publisher.expire(stream.engine.now_ns(), 9)
    assert len([one for one in stream.stored() if b"Marker" in one[2]]) == 30
