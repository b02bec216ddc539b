"""Consumers as backups have them: what is read, and what is refused, in nats-server's words."""

import json

import pytest

from workers.jetstream.account import Account
from workers.jetstream.archive.errors import ArchiveError
from workers.jetstream.archive.items import ConsumerRecord
from workers.jetstream.consumer_backups import BackedUpConsumer, read_record
from workers.jetstream.consumer_config import ConsumerConfig
from workers.jetstream.stream_config import StreamConfig

STATE = {
    "delivered": {"consumer_seq": 9, "stream_seq": 8},
    "ack_floor": {"consumer_seq": 1, "stream_seq": 2},
    "pending": {"10": {"Sequence": 9, "Timestamp": 5}, "7": {"Sequence": 4, "Timestamp": -6}},
    "redelivered": {"4": 2, "7": 1},
}


def record(name: str = "c", config: object = None, state: object = None, **options: object) -> ConsumerRecord:
    config = {"durable_name": name, "ack_policy": "explicit"} if config is None else config
    state = STATE | {"pending": {"7": STATE["pending"]["7"]}} if state is None else state  # type: ignore[index]
    return ConsumerRecord(name, json.dumps({"config": config, "state": state}).encode(), **options)  # type: ignore[arg-type]


def read(
    one: ConsumerRecord, stream: StreamConfig | None = None, *others: ConsumerConfig
) -> BackedUpConsumer:
    return read_record(one, stream or StreamConfig(name="S"), others, Account(0, "$G"))


def test_a_state_is_read() -> None:
    name, config, created_ns, state = read(record(created_ns=7))
    assert (name, config.durable_name, created_ns) == ("c", "c", 7)
    assert config.max_ack_pending == 1000
    assert state == {
        "delivered": (9, 8),
        "ack_floor": (1, 2),
        "pending": {7: (4, -6)},
        "redelivered": {4: 2, 7: 1},
    }


def test_what_go_takes_for_the_same_is_read() -> None:
    config, state_text = (
        b'{"Durable_Name":"c","later":1}',
        b'{"Delivered":{"Stream_Seq":3},"pending":{"2":null}}',
    )
    name, _, _, state = read(ConsumerRecord("c", b'{"Config":%b,"STATE":%b}' % (config, state_text)))
    assert (name, state["delivered"], state["ack_floor"]) == ("c", (0, 3), (0, 0))
    assert state["pending"] == {2: (0, 0)}


def test_a_consumer_that_is_not_durable_keeps_its_name() -> None:
    name, config, *_ = read(record("e", {"ack_policy": "explicit"}))
    assert (name, config.name, config.durable_name) == ("e", "e", "")
    assert config.inactive_threshold == 5_000_000_000
    _, config, *_ = read(record("e", {"name": "e", "inactive_threshold": 9}))
    assert config.inactive_threshold == 9


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (ConsumerRecord("c", b"{"), 'failed to decode consumer "c" state: '),
        (
            ConsumerRecord("c", b"[]"),
            "cannot unmarshal array into Go value of type server.SnapshotConsumerSt",
        ),
        (ConsumerRecord("c", b'{"state":{}}'), 'consumer "c" is missing config'),
        (ConsumerRecord("c", b'{"config":{},"state":null}'), 'consumer "c" is missing state'),
        (record(config={"ack_wait": "x"}), "SnapshotConsumerState.config.ack_wait of type time.Duration"),
        (record(config={"ack_policy": "x"}), "can not unmarshal"),
        (record(state={"delivered": 5}), "SnapshotConsumerState.state.delivered of type server.SequencePair"),
        (record(state={"pending": {"x": {}}}), "state.pending.x of type uint64"),
        (record(state={"redelivered": {"-1": 1}}), "state.redelivered.-1 of type uint64"),
        (record(state={"redelivered": {"9223372036854775808": 1}}), "of type uint64"),
        (record(config={"durable_name": "c", "name": "d"}), r'failed to add consumer "c": .*\(10132\)'),
        (record("a.b"), r'failed to add consumer "a.b": .*\(10052\)'),
        (record("a" * 256), r"\(10102\)"),
        (record(config={"durable_name": "c", "direct": True, "deliver_subject": "x"}), r"\(10091\)"),
        (record("taken"), r"consumer name already in use \(10013\)"),
        (record(state=STATE | {"ack_floor": {"consumer_seq": 10}}), "bad ack floor for consumer"),
        (record(state=STATE | {"ack_floor": {"stream_seq": 9}}), "bad ack floor for stream"),
        (record(state=STATE), 'set consumer "c" state: bad pending entry, sequence \\[10\\] out of range'),
        (record(state={"pending": {"0": {}}}), "bad pending entry, sequence \\[0\\] out of range"),
        (record(state={"delivered": {"stream_seq": 1 << 63}}), "out of range"),
    ],
)
def test_what_cannot_be_brought_back_is_refused(one: ConsumerRecord, text: str) -> None:
    with pytest.raises(ArchiveError, match=text):
        read(one, None, ConsumerConfig(durable_name="taken", name="taken"))


def test_what_the_stream_does_not_allow_is_refused() -> None:
    other = ConsumerConfig(durable_name="d", ack_policy="explicit")
    with pytest.raises(ArchiveError, match=r"maximum consumers limit reached \(10026\)"):
        read(record(), StreamConfig(name="S", max_consumers=1), other)
    with pytest.raises(ArchiveError, match=r"\(10099\)"):
        read(record(), StreamConfig(name="S", retention="workqueue"), other)


def test_files_of_an_older_server_are_refused_in_its_words_and_their_state_is_taken_as_it_is() -> None:
    refusal = 'error restoring consumer ["c"]'
    with pytest.raises(ArchiveError) as caught:
        read(record(config={"durable_name": "d", "name": "c"}, refusal=refusal))
    assert str(caught.value).startswith(f"{refusal}: Consumer Durable and Name have to be equal")
    assert list(read(record(state=STATE, refusal=refusal)).state["pending"]) == [10, 7]
