"""Backups go from nats-server to midge and back, whole; the flow of chunks is nats-server's."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from support.archive_model import framed, tar
from support.broker import Broker
from support.jetstream_backup import (
    ACK,
    Backup,
    back_up,
    connected,
    contents,
    files_of,
    next_chunk,
    restore,
)
from support.jetstream_client import JetStreamClient
from support.wait import wait_until

from workers.jetstream.archive.archive import write

STATE_KEYS = ("messages", "bytes", "first_seq", "first_ts", "last_seq", "num_subjects", "num_deleted")


def fill(client: JetStreamClient, stream: str, count: int = 300, **config: object) -> None:
    """Make a stream with messages of many sizes, with gaps at its begin, in its middle and at its end."""
    random = Random(stream)
    client.create(stream, subjects=[f"{stream}.>"], **config)
    for number in range(1, count + 1):
        headers = [("Number", str(number))] if number % 3 == 0 else []
        payload = random.randbytes(random.choice((0, 1, 100, 5000))) + b"x" * random.choice((0, 10, 3000))
        client.publish(f"{stream}.{number % 7}.a", payload, headers)
    for sequence in (1, 2, 3, 50, 60, 61, 62, count - 1, count):
        client.api(f"STREAM.MSG.DELETE.{stream}", {"seq": sequence})


def state_of(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: answer["state"].get(key) for key in STATE_KEYS}


@pytest.mark.servers("midge-1", "midge-2")
@pytest.mark.parametrize("storage", ["file", "memory"])
def test_a_backup_goes_from_nats_server_to_midge_and_back(
    jetstream_oracle: Broker,
    jetstream_server: Broker,
    ask: Callable[[Broker], JetStreamClient],
    storage: str,
) -> None:
    """Messages, sequences, times and gaps are the same after both ways."""
    there, here = ask(jetstream_oracle), ask(jetstream_server)
    stream = f"WAY-{storage}-{jetstream_server.kind}"
    fill(there, stream, storage=storage)
    first = back_up(jetstream_oracle, there, stream)
    config = first.answer["config"]
    restored = restore(here, stream, first.data, **{**config, "name": stream})
    assert "error" not in restored, restored
    assert restored["type"] == "io.nats.jetstream.api.v1.stream_create_response"
    assert state_of(restored) == state_of(first.answer)
    assert restored["config"]["subjects"] == [f"{stream}.>"]
    second = back_up(jetstream_server, here, stream, chunk_size=2000)
    assert contents(second.data, stream)[2] == contents(first.data, stream)[2]
    assert second.answer["config"] == config
    there.api(f"STREAM.DELETE.{stream}")
    back = restore(there, stream, second.data, **config)
    assert "error" not in back, back
    assert state_of(back) == state_of(first.answer)
    assert (
        contents(back_up(jetstream_oracle, there, stream).data, stream)[2] == contents(first.data, stream)[2]
    )
    # The restored stream is a stream like any other.
    assert here.publish(f"{stream}.new", b"next")["seq"] == first.answer["state"]["last_seq"] + 1


@pytest.mark.servers("midge-1", "midge-2")
def test_a_restored_stream_is_still_there_after_a_start(
    jetstream_oracle: Broker,
    ask: Callable[[Broker], JetStreamClient],
    start: Callable[..., Broker],
) -> None:
    there = ask(jetstream_oracle)
    broker = start(jetstream=True)
    stream = f"KEEP-{broker.kind}"
    fill(there, stream)
    backup = back_up(jetstream_oracle, there, stream)
    here = ask(broker)
    before = restore(here, stream, backup.data, subjects=[f"{stream}.>"])
    begun = here.api("STREAM.RESTORE.HALF", {"config": {"name": "HALF"}, "state": {}})
    here.ask(begun["deliver_subject"], backup.data[: len(backup.data) // 2])
    broker.kill()
    broker.start_again()
    here = ask(broker)
    assert state_of(here.info(stream)) == state_of(before)
    # What was half restored is gone, and its name is free.
    assert here.info("HALF")["error"]["err_code"] == 10059
    here.create("HALF")


@pytest.mark.servers("midge-1", "midge-2")
def test_a_stop_does_not_wait_for_backups_and_restores(
    ask: Callable[[Broker], JetStreamClient], start: Callable[..., Broker]
) -> None:
    broker = start(jetstream=True)
    client = ask(broker)
    fill(client, "STOP", 30)
    data = back_up(broker, client, "STOP").data
    receiver = connected(broker)
    receiver.send(b"SUB _STOP 9\r\n")
    receiver.fence()
    request = {"deliver_subject": "_STOP", "chunk_size": 1024, "window_size": 1}
    client.api("STREAM.SNAPSHOT.STOP", request)
    next_chunk(receiver)
    begun = client.api("STREAM.RESTORE.HALF", {"config": {"name": "HALF"}, "state": {}})
    client.ask(begun["deliver_subject"], data[: len(data) // 2])
    receiver.close()
    broker.stop()
    assert "Traceback" not in broker.log()
    broker.start_again()
    client = ask(broker)
    assert client.api("STREAM.NAMES")["streams"] == ["STOP"]


@pytest.mark.servers("midge-1", "midge-2")
def test_the_files_of_an_older_server_are_restored(
    tmp_path: Path, jetstream_server: Broker, ask: Callable[[Broker], JetStreamClient]
) -> None:
    """Before 2.15 a backup is a tar file of the stream's directory; here one is made of nats-server's own."""
    stream = f"OLDER-{jetstream_server.kind}"
    broker = Broker("nats-server", tmp_path, jetstream=True, store_dir=str(tmp_path / "store"))
    there = ask(broker)
    fill(there, stream, max_msgs=200)
    expected = there.info(stream)
    _, _, messages = contents(back_up(broker, there, stream).data, stream)
    broker.stop()
    data = framed(tar(files_of(tmp_path / "store", stream)))
    restored = restore(ask(jetstream_server), stream, data, subjects=[f"{stream}.>"], max_msgs=200)
    assert "error" not in restored, restored
    assert state_of(restored) == state_of(expected)
    assert restored["created"] == expected["created"]
    backup = back_up(jetstream_server, ask(jetstream_server), stream)
    assert contents(backup.data, stream)[2] == messages


@pytest.mark.servers("nats-server")
def test_consumers_and_repeats_of_nats_server_are_read(
    jetstream_server: Broker, ask: Callable[[Broker], JetStreamClient]
) -> None:
    """Its encoder uses what plain Snappy does not have."""
    client = ask(jetstream_server)
    client.create("REPEATS", subjects=["REPEATS"])
    random = Random(1)
    lines = [random.randbytes(60) for _ in range(20)]
    payloads = [b"".join(random.choice(lines) for _ in range(40)) for _ in range(400)]
    for payload in payloads:
        client.publish("REPEATS", payload)
    client.api(
        "CONSUMER.DURABLE.CREATE.REPEATS.c",
        {"stream_name": "REPEATS", "config": {"durable_name": "c", "ack_policy": "explicit"}},
    )
    backup = back_up(jetstream_server, client, "REPEATS")
    facts, consumers, messages = contents(backup.data, "REPEATS")
    assert len(backup.data) < sum(map(len, payloads)) / 4
    assert [message.payload for message in messages] == payloads
    assert (facts.first_sequence, facts.last_sequence, facts.consumer_count) == (1, 400, 1)
    assert [consumer.name for consumer in consumers] == ["c"]
    assert contents(back_up(jetstream_server, client, "REPEATS", no_consumers=True).data, "REPEATS")[1] == []


def test_chunks_are_numbered_and_the_last_one_says_so(
    jetstream_server: Broker, ask: Callable[[Broker], JetStreamClient]
) -> None:
    client = ask(jetstream_server)
    stream = f"CHUNKS-{jetstream_server.kind}"
    fill(client, stream, 20)
    backup = back_up(jetstream_server, client, stream, chunk_size=1)
    *whole, rest, end = backup.chunks
    assert len(whole) > 5
    for index, chunk in enumerate(whole, 1):
        match = ACK.fullmatch(chunk.reply)
        assert match is not None, chunk.reply
        assert (match["stream"], match["length"], match["index"]) == (stream, "1024", str(index))
        assert (len(chunk.payload), chunk.headers) == (1024, b"")
    assert len({ACK.fullmatch(chunk.reply)["id"] for chunk in whole}) == 1  # type: ignore[index]
    assert (rest.reply, rest.headers) == ("", b"")
    assert 0 < len(rest.payload) < 1024
    assert (end.reply, end.headers) == ("", b"NATS/1.0 204\r\n\r\n")
    small = back_up(jetstream_server, client, stream)
    assert [(chunk.reply, chunk.headers) for chunk in small.chunks] == [("", b""), ("", b"")]
    assert small.answer["type"] == "io.nats.jetstream.api.v1.stream_snapshot_response"
    assert set(small.answer) == {"type", "config", "state"}


def test_a_window_holds_chunks_back_until_they_are_acknowledged(
    jetstream_server: Broker, ask: Callable[[Broker], JetStreamClient]
) -> None:
    client = ask(jetstream_server)
    stream = f"WINDOW-{jetstream_server.kind}"
    fill(client, stream, 30)
    receiver = ask(jetstream_server).client
    inbox = f"_WINDOW.{jetstream_server.kind}"
    receiver.send(f"SUB {inbox} 9\r\n".encode())
    receiver.fence()
    request = {"deliver_subject": inbox, "chunk_size": 1024, "window_size": 3000}
    client.api(f"STREAM.SNAPSHOT.{stream}", request)
    first, second = next_chunk(receiver), next_chunk(receiver)
    receiver.send(f"PUB {first.reply} 0\r\n\r\n".encode())
    third = next_chunk(receiver)
    assert [ACK.fullmatch(chunk.reply)["index"] for chunk in (first, second, third)] == ["1", "2", "3"]  # type: ignore[index]
    # Nobody acknowledges any more.
    end = next_chunk(receiver)
    assert (end.headers, end.payload, end.reply) == (b"NATS/1.0 408 No Flow Response\r\n\r\n", b"", "")


def test_a_receiver_that_goes_away_ends_the_backup(
    jetstream_server: Broker, ask: Callable[[Broker], JetStreamClient]
) -> None:
    client = ask(jetstream_server)
    stream = f"GONE-{jetstream_server.kind}"
    fill(client, stream, 30)
    events = ask(jetstream_server).client
    events.send(f"SUB $JS.EVENT.ADVISORY.STREAM.SNAPSHOT_COMPLETE.{stream} 9\r\n".encode())
    events.fence()
    receiver = connected(jetstream_server)
    receiver.send(f"SUB _GONE.{jetstream_server.kind} 9\r\n".encode())
    receiver.fence()
    request = {"deliver_subject": f"_GONE.{jetstream_server.kind}", "chunk_size": 1024, "window_size": 1}
    client.api(f"STREAM.SNAPSHOT.{stream}", request)
    next_chunk(receiver)
    receiver.close()
    event = json.loads(next_chunk(events).payload)
    assert (event["stream"], event["error"]) == (stream, "no interest")


REFUSALS: list[tuple[str, bytes, int]] = [
    ("STREAM.SNAPSHOT.{missing}", b'{"deliver_subject":"a"}', 10059),
    ("STREAM.SNAPSHOT.{missing}", b"", 10003),
    ("STREAM.SNAPSHOT.{stream}", b"{}", 10003),
    ("STREAM.SNAPSHOT.{stream}", b"[", 10025),
    ("STREAM.SNAPSHOT.{stream}", b'{"deliver_subject":"a","bogus":1}', 10025),
    ("STREAM.SNAPSHOT.{stream}", b'{"deliver_subject":"a.*"}', 10015),
    ("STREAM.SNAPSHOT.{stream}", b'{"deliver_subject":"a..b"}', 10015),
    ("STREAM.SNAPSHOT.{stream}", b'{"chunk_size":5}', 10015),
    ("STREAM.SNAPSHOT.{missing}", b'{"bogus":1}', 10059),
    ("STREAM.RESTORE.{missing}", b"", 10003),
    ("STREAM.RESTORE.{missing}", b"{}", 10003),
    ("STREAM.RESTORE.{missing}", b'{"bogus":{}}', 10025),
    ("STREAM.RESTORE.{missing}", b'{"config":{"name":"other"},"state":{}}', 10056),
    ("STREAM.RESTORE.{missing}", b'{"config":{"name":"{missing}","max_age":1},"state":{}}', 10052),
    ("STREAM.RESTORE.{missing}", b'{"config":{"max_bytes":1152921504606846976},"state":{}}', 10047),
    ("STREAM.RESTORE.{missing}", b'{"config":{},"state":{"subjects":{"a":-1}}}', 10025),
    ("STREAM.RESTORE.{stream}", b'{"config":{"name":"{stream}"},"state":{}}', 10130),
    ("STREAM.RESTORE.{stream}", b'{"config":{},"state":{}}', 10130),
    ("STREAM.RESTORE.a/b", b'{"config":{},"state":{}}', 10128),
]


@pytest.mark.parametrize(("call", "body", "code"), REFUSALS)
def test_requests_are_refused(
    jetstream_server: Broker, ask: Callable[[Broker], JetStreamClient], call: str, body: bytes, code: int
) -> None:
    client = ask(jetstream_server)
    client.create(f"REFUSE-{jetstream_server.kind}")
    names = {"stream": f"REFUSE-{jetstream_server.kind}", "missing": "NO-SUCH-STREAM"}
    for key, value in names.items():
        body = body.replace(b"{%b}" % key.encode(), value.encode())
    answer = client.api(call.format(**names), body)
    assert answer["error"]["err_code"] == code, answer
    assert answer.get("deliver_subject", "") == ""
    assert ("deliver_subject" in answer) == ("RESTORE" in call)


def small_backup(jetstream: Broker, client: JetStreamClient, stream: str) -> Backup:
    fill(client, stream, 20)
    return back_up(jetstream, client, stream)


def test_what_is_no_backup_is_refused_at_its_end(
    jetstream_server: Broker, ask: Callable[[Broker], JetStreamClient]
) -> None:
    client = ask(jetstream_server)
    data = small_backup(jetstream_server, client, f"SOUND-{jetstream_server.kind}").data
    changed = bytearray(data)
    changed[-40] ^= 1
    name = f"BAD-{jetstream_server.kind}"
    for bad, text in [
        (b"", "restore failed: EOF"),
        (b"garbage" * 100, "restore failed: s2: corrupt input"),
        (data[:500], "restore failed: s2: corrupt input"),
        (bytes(changed), "restore failed: s2: corrupt input"),
        (framed(b"x" * 1000), "restore failed: archive/tar: invalid tar header"),
    ]:
        answer = restore(client, name, bad)
        assert answer["error"]["err_code"] == 10062, answer
        assert answer["error"]["description"].startswith(text), answer
        assert client.info(name)["error"]["err_code"] == 10059
    overlapping = restore(client, name, data, subjects=[f"SOUND-{jetstream_server.kind}.>"])
    text = "restore failed: error adding stream: subjects overlap with an existing stream (10065)"
    assert overlapping["error"] == {"code": 500, "err_code": 10062, "description": text}
    too_early = restore(client, f"EARLY-{jetstream_server.kind}", data, first_seq=100)
    text = "restore failed: failed to store message sequence 4: expected sequence does not match store"
    assert too_early["error"] == {"code": 500, "err_code": 10062, "description": text}
    # And what is one goes in after that, whatever follows its end.
    assert "error" not in restore(client, name, data + b"garbage", chunk_bytes=100)


def test_a_chunk_without_a_reply_ends_the_restore(
    jetstream_server: Broker, ask: Callable[[Broker], JetStreamClient]
) -> None:
    client = ask(jetstream_server)
    events = ask(jetstream_server).client
    name = f"SILENT-{jetstream_server.kind}"
    events.send(f"SUB $JS.EVENT.ADVISORY.STREAM.RESTORE_COMPLETE.{name} 9\r\n".encode())
    events.fence()
    begun = client.api(f"STREAM.RESTORE.{name}", {"config": {"name": name}, "state": {}})
    assert re.fullmatch(rf"\$JS\.SNAPSHOT\.RESTORE\.{name}\.\w{{22}}", begun["deliver_subject"])
    client.client.send(f"PUB {begun['deliver_subject']} 3\r\nabc\r\n".encode())
    assert b'"stream":"%b"' % name.encode() in next_chunk(events).payload
    assert client.ask(begun["deliver_subject"], b"more")[0].status == 503


def made_up(*messages: tuple[bytes, bytes, bytes]) -> bytes:
    """A backup with these subjects, headers and payloads, from sequence 5 on, stored in 2020."""
    state = b'{"first_seq":5,"last_seq":%d,"consumer_count":0}' % (4 + len(messages))
    rows = [(sequence, 1_577_836_800_000_000_000, *message) for sequence, message in enumerate(messages, 5)]
    return b"".join(write(state, 1, [], rows))


def test_limits_and_times_to_live_hold_for_what_is_restored(
    jetstream_server: Broker, ask: Callable[[Broker], JetStreamClient]
) -> None:
    client = ask(jetstream_server)
    number = iter(range(100))

    def restored(*messages: tuple[bytes, bytes, bytes], **config: object) -> dict[str, Any]:
        return restore(client, f"LIMITS-{next(number)}-{jetstream_server.kind}", made_up(*messages), **config)

    plain = [(b"a.%d" % index, b"", b"x" * 100) for index in range(6)]
    state = restored(*plain, max_msgs=2)["state"]
    assert (state["messages"], state["first_seq"], state["last_seq"]) == (2, 9, 10)
    state = restored(*plain, max_msgs=2, discard="new")["state"]
    assert (state["messages"], state["first_seq"], state["last_seq"]) == (6, 5, 10)
    state = restored(*plain[:2], *plain, max_msgs_per_subject=1)["state"]
    assert (state["messages"], state["first_seq"], state["last_seq"]) == (6, 7, 12)
    refused = restored(*plain, max_msg_size=99)
    text = "restore failed: message sequence 5 exceeds maximum message size"
    assert refused["error"]["description"] == text
    timed = [(b"a", b"NATS/1.0\r\nNats-TTL: %b\r\n\r\n" % ttl, b"") for ttl in (b"10s", b"never", b"5")]
    state = restored(*timed, *plain[:1], allow_msg_ttl=True)["state"]
    assert (state["messages"], state["first_seq"], state["last_seq"]) == (2, 6, 8)
    refused = restored((b"a", b"NATS/1.0\r\nNats-TTL: soon\r\n\r\n", b""))
    assert refused["error"]["description"].startswith("restore failed: failed to parse message TTL: ")
    state = restored()["state"]
    assert (state["messages"], state["first_seq"], state["last_seq"]) == (0, 5, 4)


@pytest.mark.servers("midge-1")
def test_a_subject_that_clients_cannot_be_sent_is_refused(
    jetstream_server: Broker, ask: Callable[[Broker], JetStreamClient]
) -> None:
    client = ask(jetstream_server)
    for subject in (b"a b", b"a\r\nPING", b"a..b", b".", b"x" * 70_000):
        refused = restore(client, "SUBJECTS", made_up((subject, b"", b"")))
        assert refused["error"]["err_code"] == 10062, refused
    assert "error" not in restore(client, "SUBJECTS", made_up((b"a.\xff.b", b"", b"")))


@pytest.mark.servers("midge-1", "midge-2")
def test_a_restore_that_stalls_is_forgotten(
    jetstream_server: Broker, ask: Callable[[Broker], JetStreamClient]
) -> None:
    client = ask(jetstream_server)
    data = small_backup(jetstream_server, client, f"FROM-{jetstream_server.kind}").data
    name = f"STALL-{jetstream_server.kind}"
    begun = client.api(f"STREAM.RESTORE.{name}", {"config": {"name": name}, "state": {}})
    client.ask(begun["deliver_subject"], data[:-10])
    text = f"restore for stream '$G > {name}' is stalled"
    wait_until(lambda: text in jetstream_server.log(), "the restore to stall")
    assert client.ask(begun["deliver_subject"], data[-10:])[0].status == 503
    assert client.info(name)["error"]["err_code"] == 10059
    assert "error" not in restore(client, name, data)


def test_advisories_tell_of_backups_and_restores(
    jetstream_server: Broker, ask: Callable[[Broker], JetStreamClient]
) -> None:
    client = ask(jetstream_server)
    stream, name = f"TOLD-{jetstream_server.kind}", f"TOLD2-{jetstream_server.kind}"
    fill(client, stream, 20)
    events = ask(jetstream_server).client
    kinds = ("SNAPSHOT_CREATE", "SNAPSHOT_COMPLETE", "RESTORE_CREATE", "RESTORE_COMPLETE")
    for sid, kind in enumerate(kinds, 10):
        events.send(f"SUB $JS.EVENT.ADVISORY.STREAM.{kind}.* {sid}\r\n".encode())
    events.fence()
    backup = back_up(jetstream_server, client, stream)
    restore(client, name, backup.data)
    told = [json.loads(next_chunk(events).payload) for _ in range(4)]
    assert [event["type"] for event in told] == [
        f"io.nats.jetstream.advisory.v1.{kind.lower()}" for kind in kinds
    ]
    assert [list(event) for event in told] == [
        ["type", "id", "timestamp", "stream", "state", "client"],
        ["type", "id", "timestamp", "stream", "start", "end", "client"],
        ["type", "id", "timestamp", "stream", "client"],
        ["type", "id", "timestamp", "stream", "start", "end", "bytes", "client"],
    ]
    assert [event["stream"] for event in told] == [stream, stream, name, name]
    assert told[3]["bytes"] == len(backup.data)
    assert told[0]["state"] == backup.answer["state"]
