"""Fast batches: reply subjects, flow and what becomes of batches that stop; what they answer is compared with
nats-server in tests/protocol/test_jetstream_publishing.py."""

import json

import pytest
from support.publishing import FakeStream, make_stream

from storage.limits import StreamLimits
from workers.jetstream.batches import Staged
from workers.jetstream.fast_batches import COMMIT, PING, START, FastBatches, Operation


def send(
    stream: FakeStream, number: int, kind: int, *, name: str = "F", flow: int = 10, gap: str = "ok"
) -> list[bytes]:
    return stream.publish("s.a", b"x", reply=f"I.{name}.{flow}.{gap}.{number}.{kind}.$FI".encode())


@pytest.mark.parametrize(
    ("reply", "operation"),
    [
        (b"_INBOX.a.b.ID.10.ok.1.0.$FI", Operation(b"ID", 10, True, 1, START)),
        (b"i.ID.0.fail.9.2.$FI", Operation(b"ID", 10, False, 9, COMMIT)),
        (b"i.ID.99999.fail.1.4.$FI", Operation(b"ID", 65535, False, 1, PING)),
        (b"i.ID.x.ok.1.2.$FI", Operation(b"ID", 10, True, 1, COMMIT)),
        (b"ID.10.ok.1.0.$FI", None),
        (b"i.ID.10.maybe.1.0.$FI", None),
        (b"i.ID.10.ok.1.1.$FI", None),
        (b"i.ID.10.ok.2.0.$FI", None),
        (b"i.ID.10.ok.1.3.$FI", None),
        (b"i.ID.10.ok.1.5.$FI", None),
        (b"i.ID.10.ok.0.0.$FI", None),
    ],
)
def test_a_reply_subject_says_what_to_do(reply: bytes, operation: Operation | None) -> None:
    assert Operation.parse(reply) == operation


def test_answers_come_as_often_as_the_batches_share() -> None:
    stream = make_stream(allow_batched=True)
    flows = []
    send(stream, 1, 0, flow=1000)
    send(stream, 1, 0, name="G", flow=1000)
    for number in range(2, 600):
        for answer in send(stream, number, 1, name="G", flow=1000):
            flows.append(json.loads(answer)["msgs"])
    assert flows == [4, 8, 16, 32, 64, 128, 250, 250]


def test_a_batch_without_messages_for_ten_seconds_is_forgotten() -> None:
    stream = make_stream(allow_batched=True)
    send(stream, 1, 0)
    stream.engine.advance(9)
    send(stream, 2, 1)
    stream.engine.advance(9)
    assert len(stream.publisher.fast_batches) == 1
    stream.engine.advance(2)
    assert len(stream.publisher.fast_batches) == 0
    assert b"10208" in send(stream, 3, 1)[0]
    assert len(stream.stored()) == 2


def test_streams_share_the_number_of_batches() -> None:
    opened = Staged(batches=49_999)
    stream = make_stream(allow_batched=True)
    stream.publisher.fast_batches = FastBatches(stream.publisher, opened)
    send(stream, 1, 0)
    assert b"10211" in send(stream, 1, 0, name="G")[0]
    stream.publisher.close()
    assert opened.batches == 49_999


def test_a_stream_has_a_thousand_batches_at_most() -> None:
    stream = make_stream(allow_batched=True)
    for number in range(1000):
        send(stream, 1, 0, name=f"b{number}")
    assert b"10211" in send(stream, 1, 0, name="more")[0]


def test_a_last_message_that_cannot_be_stored_ends_the_batch() -> None:
    stream = make_stream(allow_batched=True)
    send(stream, 1, 0)
    stream.store.apply_limits(StreamLimits(max_message_bytes=0))
    assert b"10054" in send(stream, 2, 2)[0]
    assert len(stream.publisher.fast_batches) == 0
