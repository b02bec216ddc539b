"""Consumers go from nats-server to midge and back with their stream, and go on where they stood.

What was deleted is restored under another name: nats-server may stumble over what is left of a stream deleted
a moment ago.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.archive_model import framed, tar
from support.broker import Broker
from support.jetstream_backup import back_up, contents, files_of, restore
from support.jetstream_client import JetStreamClient
from support.jetstream_consumer_client import ConsumerClient, Delivery
from support.wait import wait_until

from workers.jetstream.archive.archive import write
from workers.jetstream.archive.items import ConsumerRecord

Ask = Callable[[Broker], JetStreamClient]

SECOND_NS = 1_000_000_000
LONG_NS = 3600 * SECOND_NS
NUMBERS = ("num_ack_pending", "num_redelivered", "num_pending")
CONSUMERS = ("pull", "all", "none", "temporary", "memory", "push", "start")


def pull(readers: ConsumerClient, stream: str, consumer: str, count: int) -> list[Delivery]:
    sid = readers.pull(stream, consumer, {"batch": count, "expires": LONG_NS})
    return [readers.next(sid) for _ in range(count)]


def make(client: JetStreamClient, stream: str, name: str, **config: object) -> None:
    """Make a consumer; it is durable unless it says `durable_name=""`."""
    config = {"name": name, "durable_name": name, "ack_policy": "explicit", **config}
    kind = "DURABLE.CREATE" if config["durable_name"] else "CREATE"
    answer = client.api(f"CONSUMER.{kind}.{stream}.{name}", {"stream_name": stream, "config": config})
    assert "error" not in answer, answer


def fill(broker: Broker, client: JetStreamClient, stream: str, **config: object) -> None:
    """Make a stream with consumers of all kinds that have got somewhere."""
    client.create(stream, subjects=[f"{stream}.>"], **config)
    for number in range(20):
        client.publish(f"{stream}.{number % 3}", b"%d" % number)
    readers = ConsumerClient(broker)
    make(client, stream, "pull", max_deliver=2, ack_wait=LONG_NS, metadata={"a": "<b>"})
    first, _, third, fourth, *_ = pull(readers, stream, "pull", 9)
    for message in (first, third):
        readers.ack_sync(message)
    readers.ack_sync(fourth, b"-NAK")
    [again] = pull(readers, stream, "pull", 1)
    # Delivered twice and refused twice: it is given up, and the next one that comes is another.
    readers.ack_sync(again, b"-NAK")
    [other] = pull(readers, stream, "pull", 1)
    readers.ack_sync(other, b"-NAK")
    pull(readers, stream, "pull", 1)
    make(client, stream, "all", ack_policy="all", filter_subject=f"{stream}.1", ack_wait=LONG_NS)
    readers.ack_sync(pull(readers, stream, "all", 4)[1])
    make(client, stream, "none", ack_policy="none")
    pull(readers, stream, "none", 3)
    make(client, stream, "temporary", durable_name="", inactive_threshold=LONG_NS)
    pull(readers, stream, "temporary", 2)
    make(client, stream, "memory", mem_storage=True, ack_wait=LONG_NS)
    readers.ack_sync(pull(readers, stream, "memory", 2)[0])
    make(
        client, stream, "push", deliver_subject=f"to.{stream}", filter_subject=f"{stream}.>", description="d"
    )
    make(client, stream, "start", deliver_policy="by_start_sequence", opt_start_seq=7)
    internal = {"durable_name": "", "ack_policy": "none", "direct": True, "inactive_threshold": LONG_NS}
    make(client, stream, "internal", deliver_subject=f"in.{stream}", **internal)
    readers.close()


def numbers(client: JetStreamClient, stream: str, *names: str) -> dict[str, dict[str, Any]]:
    """Return what CONSUMER.INFO tells of each, without moments."""
    told = {}
    for name in names:
        info = client.api(f"CONSUMER.INFO.{stream}.{name}")
        assert "error" not in info, info
        told[name] = {key: info[key] for key in NUMBERS}
        for key in ("delivered", "ack_floor"):
            told[name][key] = (info[key]["consumer_seq"], info[key]["stream_seq"])
        metadata = {"metadata": {k: v for k, v in info["config"]["metadata"].items() if k[:6] != "_nats."}}
        told[name]["config"] = info["config"] | metadata
    return told


def definitions(broker: Broker, client: JetStreamClient, stream: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the consumers that a backup holds."""
    records = contents(back_up(broker, client, stream).data, stream)[1]
    return [(one.name, json.loads(one.definition)) for one in records]


@pytest.mark.servers("midge-1", "midge-2")
@pytest.mark.parametrize("storage", ["file", "memory"])
@pytest.mark.parametrize("first", ["nats-server", "midge"])
def test_consumers_go_from_one_server_to_the_other_and_back(
    jetstream_oracle: Broker, jetstream_server: Broker, ask: Ask, storage: str, first: str
) -> None:
    """Configurations, numbers and every pending message's time are the same after both ways."""
    brokers = [jetstream_oracle, jetstream_server]
    begin, end = brokers if first == "nats-server" else brokers[::-1]
    here, there = ask(begin), ask(end)
    stream = f"CARRY-{storage}-{jetstream_server.kind}-{first}"
    fill(begin, here, stream, storage=storage)
    expected = numbers(here, stream, *CONSUMERS)
    backup = back_up(begin, here, stream)
    config = backup.answer["config"]
    assert backup.answer["state"]["consumer_count"] == len(CONSUMERS)
    records = definitions(begin, here, stream)
    assert [name for name, _ in records] == list(CONSUMERS)
    assert expected["pull"]["num_redelivered"] == 2
    restored = restore(there, stream, backup.data, **config)
    assert restored.get("state", restored)["consumer_count"] == len(CONSUMERS)
    assert numbers(there, stream, *CONSUMERS) == expected
    assert there.api(f"CONSUMER.NAMES.{stream}")["consumers"] == sorted(CONSUMERS)
    assert definitions(end, there, stream) == records
    here.api(f"STREAM.DELETE.{stream}")
    back = restore(
        here, f"{stream}-BACK", back_up(end, there, stream).data, **config | {"name": f"{stream}-BACK"}
    )
    assert "error" not in back, back
    assert numbers(here, f"{stream}-BACK", *CONSUMERS) == expected


def test_a_backup_may_leave_consumers_out(jetstream_server: Broker, ask: Ask) -> None:
    client = ask(jetstream_server)
    stream = f"OUT-{jetstream_server.kind}"
    client.create(stream)
    make(client, stream, "c")
    backup = back_up(jetstream_server, client, stream, no_consumers=True)
    assert backup.answer["state"]["consumer_count"] == 1
    facts, consumers, _ = contents(backup.data, stream)
    assert (facts.consumer_count, consumers) == (0, [])
    client.api(f"STREAM.DELETE.{stream}")
    assert restore(client, f"{stream}-2", backup.data)["state"]["consumer_count"] == 0


@pytest.mark.servers("midge-1", "midge-2")
def test_restored_consumers_are_still_there_after_a_start(
    jetstream_oracle: Broker, ask: Ask, start: Callable[..., Broker]
) -> None:
    there = ask(jetstream_oracle)
    broker = start(jetstream=True)
    stream = f"LAST-{broker.kind}"
    kept = [name for name in CONSUMERS if name != "memory"]
    fill(jetstream_oracle, there, stream)
    data = back_up(jetstream_oracle, there, stream).data
    restored = restore(ask(broker), stream, data, subjects=[f"{stream}.>"])
    assert "error" not in restored, restored
    here = ask(broker)
    before = dict(definitions(broker, here, stream))
    expected = numbers(here, stream, *kept)
    created = here.api(f"CONSUMER.INFO.{stream}.pull")["created"]
    broker.kill()
    broker.start_again()
    here = ask(broker)
    assert numbers(here, stream, *kept) == expected
    assert here.api(f"CONSUMER.INFO.{stream}.pull")["created"] == created
    after = dict(definitions(broker, here, stream))
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}


@pytest.mark.servers("midge-1", "midge-2", "nats-server")
def test_what_was_pending_is_delivered_again_after_its_ack_wait(
    jetstream_oracle: Broker, jetstream_server: Broker, ask: Ask
) -> None:
    there, here = ask(jetstream_oracle), ask(jetstream_server)
    stream = f"AGAIN-{jetstream_server.kind}"
    there.create(stream, subjects=[stream])
    for number in range(5):
        there.publish(stream, b"%d" % number)
    make(there, stream, "c", ack_wait=SECOND_NS)
    readers = ConsumerClient(jetstream_oracle)
    first, second, third = pull(readers, stream, "c", 3)
    readers.ack_sync(first)
    readers.ack_sync(third, b'-NAK {"delay": %d}' % LONG_NS)
    backup = back_up(jetstream_oracle, there, stream)
    there.api(f"STREAM.DELETE.{stream}")
    readers.close()
    stream += "-2"
    restored = restore(here, stream, backup.data)
    assert "error" not in restored, restored
    readers = ConsumerClient(jetstream_server)
    got = pull(readers, stream, "c", 3)
    # Those that were never delivered may come before or after; the one with a delay does not come.
    again = [message for message in got if message.payload == second.payload]
    assert sorted(message.payload for message in got) == [b"1", b"3", b"4"]
    assert again[0].reply.startswith(b"$JS.ACK.%b.c.2.2." % stream.encode())
    for message in got:
        readers.ack_sync(message)
    readers.close()
    info = here.api(f"CONSUMER.INFO.{stream}.c")
    assert (info["num_ack_pending"], info["num_pending"]) == (1, 0)
    assert info["ack_floor"] == info["ack_floor"] | {"consumer_seq": 2, "stream_seq": 2}


def test_a_delay_is_part_of_a_backup(jetstream_server: Broker, ask: Ask) -> None:
    client = ask(jetstream_server)
    stream = f"DELAY-{jetstream_server.kind}"
    client.create(stream, subjects=[stream])
    client.publish(stream)
    make(client, stream, "c", ack_wait=SECOND_NS)
    readers = ConsumerClient(jetstream_server)
    readers.ack_sync(pull(readers, stream, "c", 1)[0], b'-NAK {"delay": %d}' % LONG_NS)
    readers.close()
    [(_, first)] = definitions(jetstream_server, client, stream)
    pending = first["state"]["pending"]["1"]
    assert pending["Timestamp"] > time.time_ns() + LONG_NS // 2
    data = back_up(jetstream_server, client, stream).data
    client.api(f"STREAM.DELETE.{stream}")
    restore(client, f"{stream}-2", data)
    [(_, second)] = definitions(jetstream_server, client, f"{stream}-2")
    assert second["state"]["pending"]["1"] == pending


@pytest.mark.servers("midge-1", "midge-2", "nats-server")
def test_consumers_of_an_older_server_are_restored(
    tmp_path: Path, jetstream_server: Broker, ask: Ask
) -> None:
    broker = Broker("nats-server", tmp_path, jetstream=True, store_dir=str(tmp_path / "store"))
    there, here = ask(broker), ask(jetstream_server)
    stream = f"OLDER-C-{jetstream_server.kind}"
    names = [name for name in CONSUMERS if name != "memory"]
    fill(broker, there, stream)
    expected = numbers(there, stream, *names)
    created = there.api(f"CONSUMER.INFO.{stream}.pull")["created"]
    broker.stop()
    files = files_of(tmp_path / "store", stream)
    restored = restore(here, stream, framed(tar(files)), subjects=[f"{stream}.>"])
    assert "error" not in restored, restored
    assert numbers(here, stream, *names) == expected
    assert here.api(f"CONSUMER.INFO.{stream}.pull")["created"] == created
    here.api(f"STREAM.DELETE.{stream}")
    for name, content, text in (
        (
            "o.dat",
            b"\x17" + files["obs/all/o.dat"][1:],
            "error creating store for consumer: corrupt state file",
        ),
        (
            "o.dat",
            files["obs/all/o.dat"][:5],
            "error creating store for consumer: corrupt state file (10104)",
        ),
        (
            "meta.inf",
            files["obs/all/meta.inf"].replace(b'policy":"all","', b'policy":"any","'),
            "can not unmarshal",
        ),
        ("meta.inf", b"{", ""),
    ):
        refused = restore(here, stream, framed(tar(files | {f"obs/all/{name}": content})))
        assert refused["error"]["err_code"] == 10062, refused
        start = f'restore failed: error restoring consumer ["all"]: {text}'
        assert refused["error"]["description"].startswith(start), refused
        here.api(f"STREAM.DELETE.{stream}")


def archive(*consumers: tuple[str, object], stream: str) -> bytes:
    """A backup of the messages 5 to 8, with subjects in turn, and of consumers given as JSON."""
    state = {"first_seq": 5, "last_seq": 8, "consumer_count": len(consumers)}
    records = [ConsumerRecord(name, json.dumps(value).encode()) for name, value in consumers]
    subjects = (b"%b.%d" % (stream.encode(), number % 2) for number in range(5, 9))
    rows = [(number, SECOND_NS, subject, b"", b"x") for number, subject in enumerate(subjects, 5)]
    return b"".join(write(json.dumps(state).encode(), 1, records, rows))


def consumer(name: str = "c", state: dict[str, object] | None = None, **config: object) -> tuple[str, object]:
    """One that has 6 and 7 pending, and 5 acknowledged."""
    pending = {"6": {"Sequence": 2, "Timestamp": time.time_ns()}, "7": {"Sequence": 3, "Timestamp": 1}}
    position = {
        "delivered": {"consumer_seq": 3, "stream_seq": 7},
        "ack_floor": {"consumer_seq": 1, "stream_seq": 5},
    }
    full = {**position, "pending": pending, "redelivered": {"7": 2}, **(state or {})}
    return name, {"config": {"durable_name": name, "ack_policy": "explicit", **config}, "state": full}


def unfit(stream: str) -> list[tuple[list[tuple[str, object]], str, dict[str, object]]]:
    """Consumers that cannot be restored, how the answer begins, and the stream's configuration."""
    none = {"pending": None, "redelivered": None}
    return [
        (
            [consumer(state={"ack_floor": {"consumer_seq": 4}})],
            'failed to set consumer "c" state: bad ack',
            {},
        ),
        (
            [consumer(state={"pending": {"9": {}}})],
            'failed to set consumer "c" state: bad pending entry, sequence [9] out of range',
            {},
        ),
        (
            [consumer(max_deliver=2, backoff=[1, 2, 3])],
            'failed to add consumer "c": max deliver is required',
            {},
        ),
        ([consumer(ack_policy="x")], 'failed to decode consumer "c" state: can not unmarshal', {}),
        (
            [consumer(state={"delivered": 5})],
            'failed to decode consumer "c" state: json: cannot unmarshal',
            {},
        ),
        ([("c", {"state": {}})], 'consumer "c" is missing config', {}),
        ([("c", {"config": {}})], 'consumer "c" is missing state', {}),
        ([consumer("a.b")], 'failed to add consumer "a.b": consumer durable name can not contain', {}),
        (
            [consumer(deliver_subject=f"{stream}.1")],
            'failed to add consumer "c": consumer deliver subject',
            {},
        ),
        (
            [consumer(), consumer("d")],
            'failed to add consumer "d": maximum consumers limit reached (10026)',
            {"max_consumers": 1},
        ),
        (
            [consumer(), consumer("d", none)],
            'failed to add consumer "d": multiple non-filtered consumers not allowed on workqueue stream (',
            {"retention": "workqueue"},
        ),
    ]


def test_consumers_that_cannot_be_restored_are_told(jetstream_server: Broker, ask: Ask) -> None:
    client = ask(jetstream_server)
    stream = f"REFUSED-{jetstream_server.kind}"
    for index, (consumers, text, config) in enumerate(unfit(stream)):
        name = f"{stream}-{index}"
        data = archive(*consumers, stream=stream)
        refused = restore(client, name, data, subjects=[f"{stream}.>"], **config)
        assert refused["error"]["err_code"] == 10062, refused
        assert refused["error"]["description"].startswith(f"restore failed: {text}"), refused
        # nats-server keeps what it had until then; there is nothing to delete here.
        client.api(f"STREAM.DELETE.{name}")
    restored = restore(client, stream, archive(consumer(), stream=stream), subjects=[f"{stream}.>"])
    assert restored["state"]["consumer_count"] == 1, restored
    assert numbers(client, stream, "c")["c"]["num_redelivered"] == 1


def test_what_restored_consumers_acknowledged_is_removed_where_that_is_meant(
    jetstream_server: Broker, ask: Ask
) -> None:
    client = ask(jetstream_server)
    stream = f"MEANT-{jetstream_server.kind}"
    done = {
        "delivered": {"consumer_seq": 2, "stream_seq": 8},
        "ack_floor": {"consumer_seq": 2, "stream_seq": 8},
        "pending": None,
        "redelivered": None,
    }
    one = {"pending": {"7": {"Sequence": 3, "Timestamp": 1}}}
    left = []
    for retention in ("limits", "interest", "workqueue"):
        for consumers in (
            [
                consumer("c", one, filter_subject=f"{stream}.1"),
                consumer("d", done, filter_subject=f"{stream}.0"),
            ],
            [consumer()],
            [],
        ):
            data = archive(*consumers, stream=stream)
            name = f"{stream}-{len(left)}"
            restored = restore(client, name, data, subjects=[f"{stream}.>"], retention=retention)
            assert "error" not in restored, restored
            left.append((retention, len(consumers), restored["state"]["messages"]))
            client.api(f"STREAM.DELETE.{name}")
    assert left == [
        ("limits", 2, 4),
        ("limits", 1, 4),
        ("limits", 0, 4),
        ("interest", 2, 1),
        ("interest", 1, 3),
        ("interest", 0, 4),
        ("workqueue", 2, 1),
        ("workqueue", 1, 3),
        ("workqueue", 0, 4),
    ]


def test_a_message_that_limits_took_while_restoring_is_no_longer_pending(
    jetstream_server: Broker, ask: Ask
) -> None:
    client = ask(jetstream_server)
    stream = f"TOOK-{jetstream_server.kind}"
    subjects = [f"{stream}.>"]
    restored = restore(client, stream, archive(consumer(), stream=stream), subjects=subjects, max_msgs=2)
    assert restored["state"]["messages"] == 2
    wait_until(
        lambda: client.api(f"CONSUMER.INFO.{stream}.c")["num_ack_pending"] == 1, "a pending message to go"
    )
    assert numbers(client, stream, "c")["c"]["ack_floor"] == (2, 6)


@pytest.mark.servers("midge-1", "midge-2")
def test_a_consumer_behind_the_first_message_stands_where_it_stood(
    jetstream_server: Broker, ask: Ask
) -> None:
    """nats-server begins it anew."""
    client = ask(jetstream_server)
    stream = f"BEHIND-{jetstream_server.kind}"
    client.create(stream, subjects=[stream], max_msgs=3)
    make(client, stream, "c")
    for _ in range(4):
        client.publish(stream)
    readers = ConsumerClient(jetstream_server)
    readers.ack_sync(pull(readers, stream, "c", 1)[0])
    readers.close()
    for _ in range(6):
        client.publish(stream)
    expected = numbers(client, stream, "c")
    backup = back_up(jetstream_server, client, stream)
    client.api(f"STREAM.DELETE.{stream}")
    restore(client, stream, backup.data, **backup.answer["config"])
    assert numbers(client, stream, "c") == expected
    assert expected["c"]["delivered"] == (1, 2)
