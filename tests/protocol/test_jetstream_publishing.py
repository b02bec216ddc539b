"""Publishing into streams: the same messages get the same answers from nats-server, byte for byte, and leave
the same stream behind.

Each script runs against nats-server and against the Publisher, once as it is and once inside the broker. The
tables hold what is sent; what must come is asked of nats-server and not written down here.
"""

import itertools
from collections.abc import Iterator

import pytest
from support.broker import Broker
from support.jetstream_publishes import BrokerRunner, Publish, PublisherRunner, Runner, publish

pytestmark = pytest.mark.servers("midge-1", "midge-2")

_names = (f"PUBLISH{number}" for number in itertools.count())

P = publish
SECOND = 1_000_000_000
TTL = {"allow_msg_ttl": True}
ROLLUP = {"allow_rollup_hdrs": True}
COUNTER = {"allow_msg_counter": True}
SCHEDULES = {"allow_msg_schedules": True, "allow_msg_ttl": True}
ATOMIC = {"allow_atomic": True}
FAR = "@at 2999-01-01T00:00:00Z"


def batch(
    number: int, key: str = "a", payload: bytes = b"", *, name: str = "B", **headers: str | int
) -> Publish:
    """Return a message of an atomic batch."""
    return publish(key, payload, Nats_Batch_Id=name, Nats_Batch_Sequence=number, **headers)


def fast(
    number: int,
    kind: int,
    key: str = "a",
    *,
    name: str = "F",
    flow: str = "10",
    gap: str = "ok",
    **headers: str | int,
) -> Publish:
    """Return a message of a fast batch."""
    reply = f"R.@.{name}.{flow}.{gap}.{number}.{kind}.$FI"
    return publish(key, b"" if kind > 2 else b"x", reply=reply, **headers)


# Name → (configuration, script).
SINGLE = {
    "plain": ({}, [P(), P("b", b"x"), P(payload=b"y", reply=None), P(A="b"), P("c", b"z", A=1)]),
    "ids": (
        {},
        [
            *(P(Nats_Msg_Id="1"), P(Nats_Msg_Id="1"), P("b", Nats_Msg_Id="1"), P(Nats_Msg_Id="")),
            *(P(Nats_Msg_Id=""), P(Nats_Msg_Id="2", Nats_Expected_Stream="x"), P(Nats_Msg_Id="2")),
            P(Nats_Msg_Id="1", Nats_Expected_Last_Sequence=77),
        ],
    ),
    "expected stream": (
        {},
        [P(Nats_Expected_Stream="@"), P(Nats_Expected_Stream="x"), P(Nats_Expected_Stream="")],
    ),
    "expected last sequence": (
        {},
        [
            *(
                P(Nats_Expected_Last_Sequence=text)
                for text in ("1", "0", "0", "1", "x", "-1", "", "02", " 2")
            ),
            P(Nats_Expected_Last_Sequence="18446744073709551615"),
            P(Nats_Expected_Last_Sequence="18446744073709551619"),
        ],
    ),
    "expected last subject sequence": (
        {},
        [
            *(
                P("a", Nats_Expected_Last_Subject_Sequence=text)
                for text in ("1", "0", "0", "1", "x", "", "3")
            ),
            P("b", Nats_Expected_Last_Subject_Sequence="0"),
            *(
                P(
                    "c",
                    Nats_Expected_Last_Subject_Sequence=number,
                    Nats_Expected_Last_Subject_Sequence_Subject=subject,
                )
                for number in (0, 1, 2, 3, 4, 5)
                for subject in ("@.a", "@.*", "@.>", "@.none", "x.*", "bad..subject", "")
            ),
            P(Nats_Expected_Last_Subject_Sequence_Subject="@.a"),
        ],
    ),
    "expected last id": (
        {},
        [
            *(P(Nats_Expected_Last_Msg_Id="x"), P(Nats_Msg_Id="m1"), P(Nats_Expected_Last_Msg_Id="m1")),
            *(P(Nats_Expected_Last_Msg_Id="m1"), P(Nats_Msg_Id="m2"), P(Nats_Msg_Id="m1")),
            *(P(Nats_Msg_Id="m3", Nats_Expected_Last_Msg_Id="m2"), P(Nats_Expected_Last_Msg_Id="m2")),
            *(P(Nats_Expected_Last_Msg_Id=""), P("b"), P(Nats_Expected_Last_Msg_Id="m3")),
        ],
    ),
    "expectations together": (
        {},
        [
            P(),
            P(Nats_Expected_Last_Sequence=9, Nats_Expected_Last_Subject_Sequence=8, Nats_Expected_Stream="x"),
            P(Nats_Expected_Last_Sequence=9, Nats_Expected_Last_Subject_Sequence=8),
            P(Nats_Expected_Last_Sequence=9, Nats_TTL="1s"),
            P(Nats_Expected_Last_Sequence=9, Nats_Schedule="x"),
            P(Nats_Expected_Last_Msg_Id="z", Nats_Rollup="sub"),
        ],
    ),
    "headers as they come": (
        {},
        [
            Publish("a", b"x", b"NATS/1.0\r\n\r\n"),
            Publish("a", b"x", b"NATS/1.0 503\r\n\r\n"),
            Publish("a", b"x", b"NATS/1.0 100 Idle Heartbeat\r\nA: 1\r\n\r\n"),
            Publish("a", b"x", b"NATS/1.0\r\nNats-Msg-Id:i1\r\nNats-Msg-Id: i2\r\n\r\n"),
            Publish("a", b"x", b"NATS/1.0\r\nNats-Msg-Id:   i1\r\n\r\n"),
            Publish("a", b"x", b"NATS/1.0\r\nNats-Msg-Id: i1 \r\n\r\n"),
            Publish("a", b"x", b"NATS/1.0\r\nnats-msg-id: i1\r\nNATS-MSG-ID: i1\r\n\r\n"),
            Publish("a", b"x", b"NATS/1.0\r\nX: Nats-Msg-Id: i1\r\nNats-Msg-Idx: i1\r\n\r\n"),
            Publish("a", b"x", b"NATS/1.0\r\nNats-Msg-Idx: i1\r\nNats-Msg-Id: i9\r\n\r\n"),
            Publish("a", b"x", b"NATS/1.0\r\nNats-Request-Info: {}\r\n\r\n"),
            Publish("a", b"x", b"NATS/1.0\r\nNats-Request-Info: {}\r\nA: b\r\n\r\n"),
            Publish("a", b"x", b"NATS/1.0\r\nNats-Stream-Source: x\r\n\r\n"),
            Publish("a", b"x", b"NATS/1.0\r\nNats-Required-Api-Level: 99\r\n\r\n"),
        ],
    ),
    "ttl": (
        TTL,
        [
            *(
                P(f"t{number}", Nats_TTL=text)
                for number, text in enumerate(("1h", "100", "never", "NEVER", "90m10s"))
            ),
            *(
                P(Nats_TTL=text)
                for text in (
                    "0",
                    "-1",
                    "500ms",
                    "abc",
                    "",
                    "-1s",
                    "1.5h",
                    "1h 1m",
                    "1999999ms",
                    "99999999999",
                )
            ),
        ],
    ),
    "ttl where there is none": ({}, [P(Nats_TTL=text) for text in ("1h", "100", "never", "0", "abc", "")]),
    "ttl below the marker's": (
        {"subject_delete_marker_ttl": 60 * SECOND},
        [
            P(Nats_TTL="1s", A="b"),
            P(Nats_TTL="100s"),
            P(Nats_TTL="never"),
            P("b", b"x", Nats_TTL="30", Nats_Rollup="sub"),
        ],
    ),
    "ttl below the marker's, one a subject": (
        {"subject_delete_marker_ttl": 60 * SECOND, "max_msgs_per_subject": 1},
        [P(Nats_TTL="30s")],
    ),
    "rollup": (
        ROLLUP,
        [
            *(P("a"), P("b"), P("a"), P("c"), P("a", b"x", Nats_Rollup="sub"), P("b", Nats_Rollup="SUB")),
            *(P("b", Nats_Rollup="x"), P("d", Nats_Rollup=""), P("d"), P("d", Nats_Rollup="All"), P("a")),
            P("a", Nats_Rollup="x\ty"),
        ],
    ),
    "rollup where there is none": ({}, [P(), P(Nats_Rollup="sub"), P(Nats_Rollup="x"), P(Nats_Rollup="")]),
    "rollup without purge": (
        {"deny_purge": True},
        [P(), P(Nats_Rollup="sub")],
    ),
    "sizes": (
        {"max_msg_size": 60},
        [
            *(P(payload=b"x" * size) for size in (59, 60, 61)),
            *(P(payload=b"x" * size, A="b") for size in (41, 42, 43, 44, 45)),
            P(payload=b"x" * 100, Nats_Expected_Stream="x"),
            P(payload=b"x" * 100, Nats_Msg_Id="1"),
            P(payload=b"x", Nats_Msg_Id="1"),
        ],
    ),
    "long headers": (
        {},
        [P(A="x" * size) for size in (65515, 65516, 65517, 65518, 65519, 65520, 70000)],
    ),
    "no ack": ({"no_ack": True}, [P(), P("refused", Nats_Expected_Stream="x"), P(Nats_Msg_Id="1")]),
    "discard new": (
        {"discard": "new", "max_msgs": 3},
        [P(), P("b"), P("c"), P("d"), P("a"), P(Nats_Msg_Id="x"), P(Nats_Msg_Id="x"), P(Nats_Rollup="all")],
    ),
    "discard new by bytes": (
        {"discard": "new", "max_bytes": 300},
        [P(payload=b"x" * 100), P(payload=b"x" * 100), P(payload=b"x" * 10), P(payload=b"x" * 80)],
    ),
    "discard new with a limit a subject": (
        {"discard": "new", "max_msgs": 3, "max_msgs_per_subject": 1},
        [P("a"), P("b"), P("c"), P("d"), P("a"), P("c", b"x")],
    ),
    "discard new a subject": (
        {"discard": "new", "max_msgs_per_subject": 2, "discard_new_per_subject": True, **ROLLUP},
        [
            P("a"),
            P("a"),
            P("a"),
            P("b"),
            P("a", Nats_Rollup="sub"),
            P("a"),
            P("a"),
            P("a", Nats_Rollup="all"),
        ],
    ),
    "discard old": (
        {"max_msgs": 3, "max_msgs_per_subject": 2},
        [*(P("a"), P("a"), P("a"), P("b"), P("c"), P("d"), P("a"))],
    ),
    "discard old by bytes": (
        {"max_bytes": 300},
        [P(payload=b"x" * size) for size in (100, 100, 10, 80, 260, 290)],
    ),
    "transform": (
        {"subject_transform": {"src": "@.*.*", "dest": "@.{{wildcard(2)}}.{{wildcard(1)}}"}},
        [
            P("a.b"),
            P("c"),
            P(
                "x.y",
                Nats_Expected_Last_Subject_Sequence=1,
                Nats_Expected_Last_Subject_Sequence_Subject="@.b.a",
            ),
        ],
    ),
    "republish": (
        {"republish": {"src": "@.a.>", "dest": "RP.@.>"}},
        [
            P("a.1", b"x"),
            P("b.1", b"x"),
            P("a.1", b"y", A="b"),
            P("a.2", b"z"),
            P("a.1", Nats_Expected_Stream="x"),
            P("a.1"),
        ],
    ),
    "republish headers only": (
        {"republish": {"src": "@.>", "dest": "RP.@.>", "headers_only": True}},
        [P("a.1", b"x"), P("a.1", b"yy", A="b", Nats_Msg_Id="i"), P("b", b"", Nats_Msg_Id="i")],
    ),
    "interest": (
        {"retention": "interest"},
        [
            P(),
            P(Nats_Msg_Id="x"),
            P(Nats_Msg_Id="x"),
            P(Nats_Expected_Last_Sequence=2),
            P(Nats_Expected_Last_Msg_Id="x"),
        ],
    ),
    "work queue": ({"retention": "workqueue"}, [P(), P(Nats_Msg_Id="x"), P(Nats_Msg_Id="x")]),
    "counter": (
        COUNTER,
        [
            *(
                P(Nats_Incr=text)
                for text in ("1", "+41", "-100", "0", "x", "", "1.5", "+", "9" * 60, "-" + "9" * 60, "007")
            ),
            *(P(), P(payload=b"x"), P(payload=b"x", Nats_Incr="1"), P("b", Nats_Incr="5", A="b")),
            *(P(Nats_Incr="1", Nats_Rollup="sub"), P(Nats_Incr="1", Nats_Expected_Stream="@")),
            *(P(Nats_Incr="1", Nats_Expected_Last_Sequence="1"), P(Nats_Incr="1", Nats_Msg_Id="i")),
            *(P(Nats_Incr="1", Nats_Msg_Id="i"), P(Nats_Incr="1", Nats_Expected_Last_Msg_Id="i")),
            P(Nats_Incr="1", Nats_Expected_Last_Subject_Sequence="1"),
            P(Nats_Incr="1", Nats_Expected_Last_Subject_Sequence_Subject="x"),
            P(Nats_Incr="x", Nats_Expected_Stream="x"),
        ],
    ),
    "counter with a bound": (
        {**COUNTER, "max_msg_size": 60},
        [P(Nats_Incr="9" * 20), P(Nats_Incr="9" * 12), P("b", Nats_Incr="1")],
    ),
    "increments where there are none": (
        {},
        [P(Nats_Incr="1"), P(Nats_Incr="x"), P(Nats_Incr=""), P(payload=b"x", Nats_Incr="1")],
    ),
}
SCHEDULE = {
    "schedules": (
        SCHEDULES,
        [
            P("s1", b"x", Nats_Schedule=FAR, Nats_Schedule_Target="@.t"),
            P("s1", b"y", Nats_Schedule=FAR, Nats_Schedule_Target="@.t", Nats_Rollup="sub"),
            P("s1", b"y", Nats_Schedule=FAR, Nats_Schedule_Target="@.t", Nats_Rollup="all"),
            P("s1", b"z"),
            *(
                P("s2", b"x", Nats_Schedule=text, Nats_Schedule_Target="@.t")
                for text in (
                    *(
                        "",
                        "x",
                        "@at x",
                        "@at",
                        "@at 2999-01-01",
                        "@every 1s",
                        "@every 999ms",
                        "@every x",
                        "@every -1s",
                    ),
                    *(
                        "@yearly",
                        "@annually",
                        "@monthly",
                        "@weekly",
                        "@daily",
                        "@midnight",
                        "@hourly",
                        "@never",
                    ),
                    *(
                        "0 0 0 1 1 *",
                        "0 0 0 1 1",
                        "60 * * * * *",
                        "0 0 0 31 2 *",
                        "0 0 0 1 jan sun",
                        "0 0 0 ? * *",
                    ),
                    *(
                        "0 0 1-5/2,7 1 1 *",
                        "0 0 24 1 1 *",
                        "0 0 0 0 1 *",
                        "0 0 0 1 13 *",
                        "0 0 0 1 1 7",
                        "0 0 0 1 1 */8",
                    ),
                    *(
                        "@at 2999-01-01T00:00:00+02:00",
                        "@at 2999-01-01T00:00:00.5Z",
                        "@AT 2999-01-01T00:00:00Z",
                    ),
                )
            ),
        ],
    ),
    "schedule targets": (
        SCHEDULES,
        [
            P("s", Nats_Schedule=FAR),
            *(
                P("s", Nats_Schedule=FAR, Nats_Schedule_Target=text)
                for text in ("", "@.s", "@.*", "@.>", "other", "@..t", "@.t", "@")
            ),
            *(
                P("s", Nats_Schedule=FAR, Nats_Schedule_Target="@.t", Nats_Schedule_Source=text)
                for text in ("", "@.s", "@.t", "@.*", "other", "@.u")
            ),
            *(
                P("s", Nats_Schedule=FAR, Nats_Schedule_Target="@.t", Nats_Schedule_TTL=text)
                for text in ("", "1h", "0", "x", "never", "100ms")
            ),
            *(
                P("s", Nats_Schedule=FAR, Nats_Schedule_Target="@.t", Nats_Schedule_Rollup=text)
                for text in ("", "sub", "all", "SUB", "x")
            ),
            *(
                P("s", Nats_Schedule=text, Nats_Schedule_Target="@.t", Nats_Schedule_Time_Zone=zone)
                for text in (FAR, "0 0 0 1 1 *", "@every 1h", "@yearly", "")
                for zone in ("", "UTC", "Europe/Berlin", "Europe/Nowhere", "x", "../etc", "Local")
            ),
            P("s", Nats_Schedule_Time_Zone="x"),
            P("s", Nats_Schedule_Time_Zone=""),
            P("s", Nats_Schedule_Target="@.t"),
        ],
    ),
    "schedulers": (
        SCHEDULES,
        [
            P("s", Nats_Schedule=FAR, Nats_Schedule_Target="@.t"),
            P("p"),
            P("a", Nats_Scheduler="@.s"),
            P("a", Nats_Schedule_Next="purge"),
            P("a", Nats_Schedule_Next="2999-01-01T00:00:00Z", Nats_Scheduler="@.s"),
            P("a", Nats_Schedule_Next="purge", Nats_Scheduler="@.a"),
            P("a", Nats_Schedule_Next="purge", Nats_Scheduler="@.*"),
            P("a", Nats_Schedule_Next="purge", Nats_Scheduler="@.p"),
            P("a", Nats_Schedule_Next="purge", Nats_Scheduler="@.none"),
            P("a", Nats_Schedule_Next="purge", Nats_Scheduler="@.s"),
            P("a", Nats_Schedule_Next="", Nats_Scheduler=""),
        ],
    ),
    "schedules where there are none": (
        {},
        [
            P("s", Nats_Schedule=FAR, Nats_Schedule_Target="@.t"),
            P("s", Nats_Schedule="x", Nats_Schedule_Target="@.t"),
            P("s", Nats_Schedule=""),
            P("s", Nats_Schedule_Time_Zone="x"),
            P("s", Nats_Schedule_Next="purge", Nats_Scheduler="@.a"),
            P("s", Nats_Schedule_Next="x", Nats_Scheduler="@.a"),
            P("s", Nats_Scheduler="@.a"),
        ],
    ),
    "schedules without ttl": (
        {"allow_msg_schedules": True},
        [
            P("s", Nats_Schedule=FAR, Nats_Schedule_Target="@.t", Nats_Schedule_TTL="1h"),
            P("s", Nats_Schedule=FAR, Nats_Schedule_Target="@.t", Nats_Schedule_TTL="x"),
            P("s", Nats_Schedule=FAR, Nats_Schedule_Target="@.t", Nats_TTL="1h"),
        ],
    ),
}
BATCH = {
    "a batch": (ATOMIC, [P(), batch(1), batch(2, "b", b"x"), batch(3, "c", Nats_Batch_Commit=1), P()]),
    "a batch that ends apart": (
        ATOMIC,
        [batch(1), batch(2, "b", b"x"), batch(3, Nats_Batch_Commit="eob"), P()],
    ),
    "a batch of one": (ATOMIC, [batch(1, Nats_Batch_Commit=1), batch(1, Nats_Batch_Commit="eob"), P()]),
    "two batches": (
        ATOMIC,
        [
            *(batch(1, name="A"), batch(1, name="B"), P(), batch(2, name="A", Nats_Batch_Commit=1)),
            *(batch(2, name="B", Nats_Batch_Commit=1), batch(2, name="A", Nats_Batch_Commit=1)),
        ],
    ),
    "batches where there are none": ({}, [batch(1), batch(1, Nats_Batch_Commit=1), P(Nats_Batch_Id="")]),
    "broken batches": (
        ATOMIC,
        [
            *(P(Nats_Batch_Id="x"), P(Nats_Batch_Id="x", Nats_Batch_Sequence="y"), batch(0), batch(2)),
            *(batch(1), batch(3), batch(2, Nats_Batch_Commit=1), batch(1), batch(1), batch(2), P()),
            *(batch(1, name="x" * 64), batch(1, name="x" * 65), batch(1), batch(2, Nats_Batch_Commit="x")),
            *(batch(2, Nats_Batch_Commit=1), batch(1, Nats_Batch_Commit=""), batch(1001), batch(1002)),
            *(batch(1002, Nats_Batch_Commit="eob"), batch(1001, Nats_Batch_Commit="eob")),
            *(
                batch(1, name=" "),
                batch(2, name='"', Nats_Batch_Commit=1),
                batch(1, name='"', Nats_Batch_Commit=1),
            ),
            *(batch(1, Nats_Required_Api_Level=99), batch(1, Nats_Required_Api_Level="x")),
            batch(1, Nats_Required_Api_Level=2, Nats_Batch_Commit=1),
        ],
    ),
    "a batch that is too long": (
        ATOMIC,
        [batch(number) for number in range(1, 1001)] + [batch(1001)],
    ),
    "the longest batch": (
        ATOMIC,
        [*(batch(number) for number in range(1, 1001)), batch(1001, Nats_Batch_Commit="eob")],
    ),
    "too many batches": (ATOMIC, [batch(1, name=str(number)) for number in range(52)]),
    "batches with expectations": (
        ATOMIC,
        [
            P(),
            *(batch(1, Nats_Expected_Last_Sequence=1), batch(2, Nats_Batch_Commit=1)),
            *(batch(1, Nats_Expected_Last_Sequence=1), batch(2, Nats_Batch_Commit=1)),
            *(batch(1), batch(2, Nats_Batch_Commit=1, Nats_Expected_Last_Sequence=4)),
            *(batch(1), batch(2, Nats_Batch_Commit=1, Nats_Expected_Last_Sequence=3)),
            *(batch(1, "x", Nats_Expected_Last_Subject_Sequence=0), batch(2, Nats_Batch_Commit=1)),
            *(batch(1, "y"), batch(2, "y", Nats_Batch_Commit=1, Nats_Expected_Last_Subject_Sequence=0)),
            *(
                batch(
                    1,
                    "z",
                    Nats_Expected_Last_Subject_Sequence=4,
                    Nats_Expected_Last_Subject_Sequence_Subject="@.x",
                ),
                batch(
                    2,
                    "z2",
                    Nats_Expected_Last_Subject_Sequence=4,
                    Nats_Expected_Last_Subject_Sequence_Subject="@.x",
                    Nats_Batch_Commit=1,
                ),
            ),
            *(
                batch(
                    1,
                    "z",
                    Nats_Expected_Last_Subject_Sequence=4,
                    Nats_Expected_Last_Subject_Sequence_Subject="@.x",
                ),
                batch(
                    2,
                    "z2",
                    Nats_Expected_Last_Subject_Sequence=5,
                    Nats_Expected_Last_Subject_Sequence_Subject="@.x",
                    Nats_Batch_Commit=1,
                ),
            ),
            *(batch(1, Nats_Expected_Last_Msg_Id="x"), batch(2, Nats_Batch_Commit=1)),
            *(batch(1, Nats_Expected_Stream="x"), batch(2, Nats_Batch_Commit=1), P()),
            batch(1, Nats_Expected_Last_Subject_Sequence_Subject="x", Nats_Batch_Commit=1),
        ],
    ),
    "batches with ids": (
        ATOMIC,
        [
            P(Nats_Msg_Id="1"),
            *(batch(1, Nats_Msg_Id="1"), batch(2, Nats_Batch_Commit=1)),
            *(batch(1, Nats_Msg_Id="2"), batch(2, Nats_Msg_Id="2", Nats_Batch_Commit=1)),
            *(batch(1, Nats_Msg_Id="2"), batch(2, Nats_Msg_Id="3", Nats_Batch_Commit=1)),
            *(P(Nats_Msg_Id="2"), P(Nats_Msg_Id="3"), P(Nats_Expected_Last_Msg_Id="3")),
        ],
    ),
    "batches with rollups": (
        {**ATOMIC, **ROLLUP},
        [
            *(P(), P("b")),
            *(batch(1, Nats_Rollup="sub"), batch(2, "b", Nats_Batch_Commit=1)),
            *(batch(1), batch(2, Nats_Rollup="sub", Nats_Batch_Commit=1)),
            *(batch(1), batch(2, Nats_Rollup="all", Nats_Batch_Commit=1)),
            *(batch(1, Nats_Rollup="x"), batch(2, Nats_Batch_Commit=1)),
            *(batch(1, Nats_Rollup="all"), batch(2, Nats_Batch_Commit=1)),
        ],
    ),
    "batches with ttl": (
        {**ATOMIC, **TTL},
        [
            *(batch(1, Nats_TTL="1h"), batch(2, Nats_Batch_Commit=1)),
            *(batch(1, Nats_TTL="x"), batch(2, Nats_Batch_Commit=1), P()),
        ],
    ),
    "batches with limits": (
        {**ATOMIC, "discard": "new", "max_msgs": 4, "max_bytes": 1000, "max_msg_size": 500},
        [
            *(P(), P(), batch(1), batch(2), batch(3, Nats_Batch_Commit=1)),
            *(batch(1), batch(2, "b", b"x" * 400, Nats_Batch_Commit=1), P()),
            *(batch(1, "b", b"x" * 500), batch(1)),
        ],
    ),
    "batches with a limit a subject": (
        {**ATOMIC, **ROLLUP, "discard": "new", "max_msgs_per_subject": 2, "discard_new_per_subject": True},
        [
            *(P(), batch(1), batch(2, Nats_Batch_Commit=1)),
            *(batch(1), batch(2, "b", Nats_Batch_Commit=1)),
            *(batch(1, Nats_Rollup="sub"), batch(2, Nats_Batch_Commit=1)),
            *(batch(1, Nats_Rollup="sub"), batch(2, "b", Nats_Batch_Commit=1)),
        ],
    ),
    "batches of counters": (
        {**ATOMIC, **COUNTER},
        [
            P(Nats_Incr="1"),
            *(
                batch(1, Nats_Incr="2"),
                batch(2, Nats_Incr="3"),
                batch(3, "b", Nats_Incr="4", Nats_Batch_Commit=1),
            ),
            *(batch(1, Nats_Incr="2"), batch(2, Nats_Batch_Commit=1), P(Nats_Incr="1")),
        ],
    ),
    "batches of schedules": (
        {**ATOMIC, **SCHEDULES},
        [
            batch(1, "s", Nats_Schedule=FAR, Nats_Schedule_Target="@.t"),
            batch(2, "a", Nats_Schedule_Next="purge", Nats_Scheduler="@.s", Nats_Batch_Commit=1),
            batch(1, "p"),
            batch(2, "a", Nats_Schedule_Next="purge", Nats_Scheduler="@.p", Nats_Batch_Commit=1),
            batch(1, "s", Nats_Schedule="x", Nats_Batch_Commit=1),
        ],
    ),
    "batches with a transform": (
        {**ATOMIC, "subject_transform": {"src": "@.*", "dest": "@.x.{{wildcard(1)}}"}},
        [batch(1), batch(2, "b", Nats_Batch_Commit=1)],
    ),
    "batches without acks": ({**ATOMIC, "no_ack": True}, [batch(1), batch(2, Nats_Batch_Commit=1)]),
}
FAST = {
    "a fast batch": (
        {"allow_batched": True},
        [P(), *(fast(n, 0 if n == 1 else 1) for n in range(1, 26)), fast(26, 2), P()],
    ),
    "a fast batch that ends apart": ({"allow_batched": True}, [fast(1, 0), fast(2, 1), fast(3, 3), P()]),
    "a fast batch of one": (
        {"allow_batched": True},
        [fast(1, 2), fast(1, 2, gap="fail"), fast(1, 0), fast(2, 3)],
    ),
    "fast batches where there are none": ({}, [fast(1, 0), fast(1, 9)]),
    "replies that are no fast batch": (
        {"allow_batched": True},
        [
            *(
                P(reply=text)
                for text in ("R.@.$FI", "R.@.1.$FI", "R.@.1.1.$FI", "R.@.ok.1.0.$FI", "R.@.F.10.no.1.0.$FI")
            ),
            *(fast(1, 1), fast(0, 0), fast(2, 0), fast(1, 3), fast(1, 5), fast(2, 1), fast(1, 4), fast(2, 4)),
            *(
                fast(1, 0, name="x" * 64),
                fast(1, 0, name="y" * 65),
                fast(1, 0, flow="x"),
                fast(2, 4, flow="x"),
            ),
            P(reply="R.@.F.10.ok.18446744073709551615.1.$FI"),
            P(reply="R.@.F.10.ok.x.1.$FI"),
        ],
    ),
    "gaps that may be": (
        {"allow_batched": True},
        [
            fast(1, 0),
            fast(3, 1),
            fast(4, 1),
            fast(4, 1),
            fast(5, 1),
            fast(6, 2),
            fast(1, 0),
            fast(9, 4),
            fast(10, 1),
            fast(20, 2),
        ],
    ),
    "gaps that may not be": (
        {"allow_batched": True},
        [
            *(fast(1, 0, gap="fail"), fast(3, 1, gap="fail"), fast(4, 1, gap="fail")),
            *(fast(1, 0, gap="fail"), fast(2, 4, gap="fail"), fast(2, 1, gap="fail")),
            *(fast(1, 0, gap="fail"), fast(1, 4, gap="fail"), fast(2, 1, gap="fail"), fast(2, 1, gap="fail")),
        ],
    ),
    "pings": (
        {"allow_batched": True},
        [
            fast(1, 0, flow="2"),
            fast(1, 4, flow="2"),
            *(fast(n, 1, flow="2") for n in range(2, 9)),
            fast(8, 4),
            fast(9, 3),
        ],
    ),
    "flow": (
        {"allow_batched": True},
        [
            *(fast(n, int(n > 1), flow="600") for n in range(1, 1202)),
            *(fast(1, 0, name="G", flow="600"), *(fast(n, 1, name="G", flow="600") for n in range(2, 40))),
            *(fast(n, 1, flow="600") for n in range(1202, 2000)),
            *(fast(40, 3, name="G", flow="600"), fast(2000, 3, flow="600")),
        ],
    ),
    "refused in fast batches": (
        {"allow_batched": True},
        [
            *(
                fast(1, 0),
                fast(2, 1, Nats_Expected_Last_Sequence=77),
                fast(3, 1),
                fast(4, 2, Nats_TTL="1s"),
                P(),
            ),
            *(
                fast(1, 0, gap="fail"),
                fast(2, 1, gap="fail", Nats_Expected_Last_Sequence=77),
                fast(3, 1, gap="fail"),
            ),
            *(fast(1, 0, gap="fail", Nats_Expected_Stream="x"), fast(2, 1, gap="fail")),
            *(fast(1, 0, Nats_Expected_Stream="x"), fast(2, 1), fast(3, 3)),
            *(fast(1, 2, gap="fail", Nats_Rollup="sub"), fast(1, 2, Nats_Rollup="sub")),
        ],
    ),
    "ids in fast batches": (
        {"allow_batched": True},
        [
            P(Nats_Msg_Id="1"),
            *(
                fast(1, 0, Nats_Msg_Id="1"),
                fast(2, 1, Nats_Msg_Id="2"),
                fast(3, 1, Nats_Msg_Id="2"),
                fast(4, 2),
            ),
            *(
                fast(1, 0, gap="fail", Nats_Msg_Id="1"),
                fast(2, 1, gap="fail"),
                fast(3, 2, gap="fail", Nats_Msg_Id="2"),
            ),
            *(fast(1, 2, gap="fail", Nats_Msg_Id="1"), fast(1, 2, Nats_Msg_Id="1")),
            *(fast(n, int(n > 1), flow="2", Nats_Msg_Id="1") for n in range(1, 8)),
        ],
    ),
    "required levels in fast batches": (
        {"allow_batched": True},
        [fast(1, 0, Nats_Required_Api_Level=99), fast(1, 0, Nats_Required_Api_Level=2), fast(2, 3)],
    ),
    "limits in fast batches": (
        {"allow_batched": True, "discard": "new", "max_msgs": 3},
        [*(fast(n, int(n > 1)) for n in range(1, 6)), fast(6, 3)],
    ),
    "counters in fast batches": (
        {"allow_batched": True, **COUNTER},
        [Publish("a", b"", (("Nats-Incr", "2"),), f"R.@.F.10.ok.{n}.{int(n > 1)}.$FI") for n in range(1, 5)]
        + [fast(5, 3)],
    ),
    "fast batches without acks": (
        {"allow_batched": True, "no_ack": True},
        [fast(1, 0), fast(2, 1), fast(3, 2)],
    ),
}
SCRIPTS = {**SINGLE, **SCHEDULE, **BATCH, **FAST}


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerRunner]:
    broker = Broker("nats-server", tmp_path_factory.mktemp("oracle"), jetstream=True)
    runner = BrokerRunner(broker)
    yield runner
    runner.close()
    broker.stop()


@pytest.fixture(scope="module")
def tested(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerRunner]:
    broker = Broker(kind, tmp_path_factory.mktemp(kind), jetstream=True)
    runner = BrokerRunner(broker)
    yield runner
    runner.close()
    broker.stop()


def compare(tested: Runner, oracle: Runner, storage: str, name: str) -> None:
    """Run a script on both with a stream of the same name."""
    config, script = SCRIPTS[name]
    stream = next(_names)
    expected = oracle.run(stream, {"storage": storage, **config}, script)
    found = tested.run(stream, {"storage": storage, **config}, script)
    assert found.answers == expected.answers
    assert found.stored == expected.stored
    assert found.state == expected.state
    assert found.copies == expected.copies


@pytest.mark.servers("nats-server")
@pytest.mark.parametrize("storage", ["file", "memory"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_the_publisher_answers_as_nats_server_does(
    kind: str, oracle: BrokerRunner, storage: str, name: str
) -> None:
    compare(PublisherRunner(oracle), oracle, storage, name)


@pytest.mark.parametrize("storage", ["file", "memory"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_the_broker_answers_as_nats_server_does(
    tested: BrokerRunner, oracle: BrokerRunner, storage: str, name: str
) -> None:
    compare(tested, oracle, storage, name)
