"""Scripts of publishes for test_jetstream_publishing.py: single messages and schedules."""

from support.jetstream_publishes import Publish, publish

P = publish
SECOND = 1_000_000_000
TTL = {"allow_msg_ttl": True}
ROLLUP = {"allow_rollup_hdrs": True}
COUNTER = {"allow_msg_counter": True}
SCHEDULES = {"allow_msg_schedules": True, "allow_msg_ttl": True}
FAR = "@at 2999-01-01T00:00:00Z"

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
