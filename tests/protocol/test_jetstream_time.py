"""What a stream does by itself as time passes: schedules, times to live, markers, batches that stop, ids that
grow old. The same expectations hold for nats-server."""

import base64
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.broker import Broker
from support.jetstream_client import JetStreamClient, encode_headers
from support.wait import wait_until

pytestmark = pytest.mark.servers("nats-server", "midge-1", "midge-2")

SECOND = 10**9
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+09:00)")


@pytest.fixture
def js(jetstream_server: Broker) -> Iterator[JetStreamClient]:
    client = jetstream_server.connect().handshake(headers=True, no_responders=True)
    yield JetStreamClient(client)
    client.close()


def stored(js: JetStreamClient, stream: str) -> list[tuple[str, str, bytes]]:
    """Return (subject, header lines with times replaced, payload) of every message."""
    found = []
    for sequence in range(1, js.info(stream)["state"]["last_seq"] + 1):
        message: dict[str, Any] = js.api(f"STREAM.MSG.GET.{stream}", {"seq": sequence}).get("message", {})
        if message:
            lines = base64.b64decode(message.get("hdrs", "")).decode()
            found.append(
                (message["subject"], TIME.sub("<time>", lines), base64.b64decode(message.get("data", "")))
            )
    return found


def wait_for(
    js: JetStreamClient, stream: str, is_so: Callable[[list[tuple[str, str, bytes]]], bool]
) -> list[Any]:
    """Return what the stream holds as soon as it is so."""
    return wait_until(lambda: (messages := stored(js, stream)) and is_so(messages) and messages, stream, 20)


def test_a_schedule_for_now_fires_once(js: JetStreamClient) -> None:
    js.create("ONCE", subjects=["ONCE.>"], allow_msg_schedules=True)
    schedule = (("Nats-Schedule", "@at 2026-01-01T00:00:00Z"), ("Nats-Schedule-Target", "ONCE.t"), ("A", "b"))
    js.publish("ONCE.s", b"x", schedule)
    messages = wait_for(js, "ONCE", lambda found: found[-1][0] == "ONCE.t")
    lines = "NATS/1.0\r\nA: b\r\nNats-Scheduler: ONCE.s\r\nNats-Schedule-Next: purge\r\n\r\n"
    assert messages == [("ONCE.t", lines, b"x")]


def test_a_schedule_that_repeats_tells_its_next_time(js: JetStreamClient) -> None:
    js.create("EVERY", subjects=["EVERY.>"], allow_msg_schedules=True, allow_msg_ttl=True)
    schedule = (
        ("Nats-Schedule", "@every 1s"),
        ("Nats-Schedule-Target", "EVERY.t"),
        ("Nats-Schedule-TTL", "1h"),
        ("Nats-Msg-Id", "i"),
        ("Nats-Expected-Last-Sequence", "0"),
    )
    js.publish("EVERY.s", b"x", schedule)
    messages = wait_for(js, "EVERY", lambda found: len(found) >= 3)
    made = "NATS/1.0\r\nNats-Scheduler: EVERY.s\r\nNats-Schedule-Next: <time>\r\nNats-TTL: 1h\r\n\r\n"
    assert messages[0] == ("EVERY.s", encode_headers((*schedule, ("Nats-Rollup", "sub"))).decode(), b"x")
    assert messages[1:3] == [("EVERY.t", made, b"x")] * 2
    js.publish("EVERY.s", b"", (("Nats-Rollup", "sub"),))
    state = js.info("EVERY")["state"]
    assert state["last_seq"] >= 4


def test_a_schedule_takes_the_last_message_of_its_source(js: JetStreamClient) -> None:
    js.create("SOURCE", subjects=["SOURCE.>"], allow_msg_schedules=True)
    js.publish("SOURCE.s", b"source", (("Unit", "C"), ("Nats-Msg-Id", "i")))
    schedule = (
        ("Nats-Schedule", "* * * * * *"),
        ("Nats-Schedule-Target", "SOURCE.t"),
        ("Nats-Schedule-Source", "SOURCE.s"),
        ("Nats-Schedule-Rollup", "sub"),
        ("Nats-Schedule-Time-Zone", "Asia/Tokyo"),
    )
    js.publish("SOURCE.x", b"own", schedule)
    messages = wait_for(js, "SOURCE", lambda found: len(found) == 3)
    last = js.api("STREAM.MSG.GET.SOURCE", {"last_by_subj": "SOURCE.t"})["message"]
    assert b"+09:00\r\n" in base64.b64decode(last["hdrs"])
    made = "Unit: C\r\nNats-Scheduler: SOURCE.x\r\nNats-Schedule-Next: <time>\r\nNats-Rollup: sub\r\n"
    assert messages[2] == ("SOURCE.t", f"NATS/1.0\r\n{made}\r\n", b"source")


def test_the_last_message_of_a_subject_leaves_a_marker(js: JetStreamClient) -> None:
    js.create(
        "MARKER",
        subjects=["MARKER.>"],
        allow_msg_ttl=True,
        subject_delete_marker_ttl=SECOND,
        max_msgs_per_subject=1,
    )
    js.publish("MARKER.a", b"x", (("Nats-TTL", "1s"),))
    messages = wait_for(js, "MARKER", lambda found: "Marker" in found[-1][1])
    lines = "NATS/1.0\r\nNats-Marker-Reason: MaxAge\r\nNats-TTL: 1s\r\nNats-Rollup: sub\r\n\r\n"
    assert messages == [("MARKER.a", lines, b"")]
    wait_until(lambda: js.info("MARKER")["state"]["messages"] == 0, "the marker's end", 20)
    assert js.info("MARKER")["state"]["last_seq"] == 2


def test_a_message_that_never_ends_outlives_the_age_limit(js: JetStreamClient) -> None:
    js.create("NEVER", subjects=["NEVER.>"], allow_msg_ttl=True, max_age=SECOND)
    js.publish("NEVER.a", b"1")
    js.publish("NEVER.a", b"2", (("Nats-TTL", "never"),))
    js.publish("NEVER.a", b"3")
    wait_until(lambda: js.info("NEVER")["state"]["messages"] == 1, "the others' end", 20)
    assert [payload for _, _, payload in stored(js, "NEVER")] == [b"2"]


def test_a_batch_that_stops_is_abandoned(js: JetStreamClient, jetstream_server: Broker) -> None:
    js.create("STOPS", subjects=["STOPS.>"], allow_atomic=True)
    listener = jetstream_server.connect().handshake()
    listener.send(b"SUB $JS.EVENT.ADVISORY.STREAM.BATCH_ABANDONED.> 1\r\n")
    listener.fence()
    batch = (("Nats-Batch-Id", "b"), ("Nats-Batch-Sequence", "1"))
    js.ask("STOPS.a", b"", batch)
    advisory = listener.expect(rb"MSG \S+ABANDONED.STOPS 1 +\d+\r\n([^\r]*)\r\n", 30)[1].decode()
    listener.close()
    shape = (
        r'\{"type":"io.nats.jetstream.advisory.v1.stream_batch_abandoned","id":"\w{22}","timestamp":"[^"]*",'
    )
    assert re.fullmatch(shape + r'"stream":"STOPS","batch":"b","reason":"timeout"\}', advisory)
    later = js.publish("STOPS.a", b"", (("Nats-Batch-Id", "b"), ("Nats-Batch-Sequence", "2")))
    assert later["error"]["err_code"] == 10176


@pytest.mark.parametrize("storage", ["file", "memory"])
def test_an_id_is_new_after_its_window(js: JetStreamClient, storage: str) -> None:
    name = f"WINDOW{storage}"
    js.create(name, storage=storage, duplicate_window=SECOND // 2)
    message = (("Nats-Msg-Id", "i"),)
    assert js.publish(name, b"", message)["seq"] == 1
    assert js.publish(name, b"", message) == {"stream": name, "seq": 1, "duplicate": True}
    wait_until(lambda: js.publish(name, b"", message)["seq"] == 2, "the end of the window", 20)
