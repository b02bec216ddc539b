"""Scripts of publishes for test_jetstream_publishing.py: atomic and fast batches."""

from support.jetstream_publishes import Publish, publish

P = publish
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
