"""Atomic batches are there whole or not at all, also after a crash; what they answer is compared with
nats-server in tests/protocol/test_jetstream_publishing.py."""

from random import Random

import pytest
from support.faulty_files import RecordingFiles
from support.publishing import FakeEngine, FakeStream, block, make_stream

from storage.store import Store, StoreConfig
from workers.jetstream.batches import AtomicBatches, Staged


def send(
    stream: FakeStream, number: int, payload: bytes = b"", *, name: str = "b", **headers: str | int
) -> list[bytes]:
    return stream.publish(f"s.{number}", payload, Nats_Batch_Id=name, Nats_Batch_Sequence=number, **headers)


def commit(stream: FakeStream, number: int, payload: bytes = b"", *, name: str = "b") -> list[bytes]:
    return send(stream, number, payload, name=name, Nats_Batch_Commit=1)


def test_nothing_can_be_seen_before_the_commit() -> None:
    stream = make_stream(allow_atomic=True)
    assert [send(stream, number) for number in (1, 2, 3)] == [[b""], [b""], [b""]]
    assert (stream.stored(), stream.store.last_sequence) == ([], 0)
    assert commit(stream, 4) == [b'{"stream":"S","seq":4,"batch":"b","count":4}']
    assert [sequence for sequence, *_ in stream.stored()] == [1, 2, 3, 4]


def test_a_batch_that_is_refused_leaves_nothing() -> None:
    stream = make_stream(allow_atomic=True)
    send(stream, 1)
    send(stream, 2, Nats_Expected_Last_Sequence=77)
    assert b"10071" in commit(stream, 3)[0]
    assert (stream.stored(), len(stream.publisher.batches)) == ([], 0)
    assert stream.publish() == [b'{"stream":"S","seq":1}']


def test_what_the_server_adds_must_not_break_a_batch_in_the_middle() -> None:
    """A schedule gets one more header."""
    headers: dict[str, str | int] = {
        "Nats_Batch_Id": "b",
        "Nats_Batch_Sequence": 2,
        "Nats_Batch_Commit": 1,
        "Nats_Schedule": "@at 2999-01-01T00:00:00Z",
        "Nats_Schedule_Target": "s.t",
    }
    stream = make_stream(
        allow_atomic=True,
        allow_msg_schedules=True,
        allow_rollup_hdrs=True,
        max_msg_size=len(block(**headers)),
    )
    send(stream, 1)
    assert b"10054" in stream.publish("s.x", **headers)[0]
    assert stream.stored() == []


def test_a_batch_without_messages_for_ten_seconds_is_abandoned() -> None:
    stream = make_stream(allow_atomic=True)
    send(stream, 1, name="slow")
    stream.engine.advance(6)
    send(stream, 2, name="slow")
    send(stream, 1, name="other")
    stream.engine.advance(9.9)
    assert stream.engine.advisories == []
    stream.engine.advance(0.2)
    assert len(stream.publisher.batches) == 0
    assert stream.engine.advisories == [
        (
            "$JS.EVENT.ADVISORY.STREAM.BATCH_ABANDONED.S",
            "io.nats.jetstream.advisory.v1.stream_batch_abandoned",
            {"stream": "S", "batch": name, "reason": "timeout"},
        )
        for name in ("slow", "other")
    ]
    assert b"10176" in commit(stream, 3, name="slow")[0]


@pytest.mark.parametrize(
    ("reason", "number", "headers"),
    [
        ("incomplete", 3, {}),
        ("unsupported", 2, {"Nats_Required_Api_Level": 99}),
        ("large", 1001, {}),
    ],
)
def test_a_batch_that_goes_wrong_is_told(reason: str, number: int, headers: dict[str, int]) -> None:
    stream = make_stream(allow_atomic=True)
    for before in range(1, 1001 if reason == "large" else 2):
        send(stream, before)
    send(stream, number, **headers)
    assert [fields["reason"] for _, _, fields in stream.engine.advisories] == [reason]


def test_streams_share_the_number_of_batches_and_the_memory_for_them() -> None:
    staged = Staged(batches=999)
    stream = make_stream(allow_atomic=True)
    stream.publisher.batches = AtomicBatches(stream.publisher, staged)
    send(stream, 1, b"x" * 1000, name="a")
    assert (staged.batches, staged.size > 1000) == (1000, True)
    assert b"10210" in send(stream, 1, name="b")[0]
    staged.size = 1 << 40
    assert b"10023" in send(stream, 2, name="a")[0]
    assert (staged.batches, len(stream.publisher.batches)) == (999, 0)


def test_close_gives_back_what_was_staged() -> None:
    staged = Staged()
    stream = make_stream(allow_atomic=True)
    stream.publisher.batches = AtomicBatches(stream.publisher, staged)
    send(stream, 1, b"x")
    stream.publisher.close()
    assert (staged.batches, staged.size) == (0, 0)


@pytest.mark.parametrize("message_bytes", [10, 2000])
@pytest.mark.parametrize("seed", range(4))
def test_after_a_power_cut_a_batch_is_there_whole_or_not_at_all(message_bytes: int, seed: int) -> None:
    """With 2,000 bytes a message the batch needs several frames of the journal."""
    files, rng = RecordingFiles(), Random(seed)
    config = StoreConfig(journal_file_bytes=48 << 10, checkpoint_bytes=1 << 20)
    store = Store(files, config=config, rng=Random(seed), threaded=False)
    stream = make_stream(store=store.create_stream("s").stream, storage="file", allow_atomic=True)
    stream.publish("s.before", b"kept")
    store.wait(store.commit())
    begin = len(files.trace)
    for number in range(1, 31):
        send(stream, number, bytes(message_bytes))
    commit(stream, 31, bytes(message_bytes))
    stream.publish("s.after", b"later")
    store.wait(store.commit())
    counts = set()
    for cut in range(begin, len(files.trace) + 1):
        reopened = Store(files.crash(cut, rng), config=config, rng=rng, threaded=False).streams["s"].stream
        again = FakeStream(stream.config, reopened, FakeEngine())
        assert again.stored()[0][1] == "s.before"
        counts.add(len(again.stored()) - 1)
        sequence = again.store.last_sequence + 1
        assert again.publish() == [b'{"stream":"S","seq":%d}' % sequence]
    assert counts <= {0, 31, 32}
    assert 32 in counts


def test_the_beginning_of_a_batch_is_taken_out_at_the_start() -> None:
    """As a crash between two frames of one commit leaves it."""
    stream = make_stream(allow_atomic=True)
    stream.publish("s.before")
    for number in (1, 2):
        headers = b"NATS/1.0\r\nNats-Batch-Id: b\r\nNats-Batch-Sequence: %d\r\n\r\n" % number
        stream.store.append(b"s.a", headers, b"", stream.engine.now_ns())
    again = FakeStream(stream.config, stream.store, stream.engine)
    assert [subject for _, subject, *_ in again.stored()] == ["s.before"]
    assert again.publish() == [b'{"stream":"S","seq":2}']
    assert again.engine.commits == 1


def test_a_beginning_with_nothing_before_it_is_taken_out_too() -> None:
    stream = make_stream(allow_atomic=True)
    headers = b"NATS/1.0\r\nNats-Batch-Id: b\r\nNats-Batch-Sequence: 1\r\n\r\n"
    stream.store.append(b"s.a", headers, b"", stream.engine.now_ns())
    assert FakeStream(stream.config, stream.store, stream.engine).stored() == []


def test_a_batch_that_was_committed_stays() -> None:
    stream = make_stream(allow_atomic=True)
    send(stream, 1)
    send(stream, 2, Nats_Batch_Commit="eob")
    assert len(FakeStream(stream.config, stream.store, stream.engine).stored()) == 1
