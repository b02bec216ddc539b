"""Schedules store their messages in time, once or again and again, and go on after a restart."""

import pytest
from support.faulty_files import RecordingFiles
from support.publishing import START_NS, FakeStream, make_stream

from storage.store import Store
from workers.jetstream import headers
from workers.jetstream.gojson_time import format_time
from workers.jetstream.schedules import next_time

SECOND = 10**9


def make(**members: object) -> FakeStream:
    return make_stream(allow_msg_schedules=True, allow_rollup_hdrs=True, allow_msg_ttl=True, **members)


def at(seconds: float) -> str:
    return "@at " + format_time(START_NS + int(seconds * SECOND))


def on_target(stream: FakeStream) -> list[tuple[bytes, bytes]]:
    return [(block, payload) for _, subject, block, payload in stream.stored() if subject == "s.t"]


def test_a_schedule_for_a_time_fires_once_and_is_purged() -> None:
    stream = make()
    stream.publish("s.x", b"hi", Nats_Schedule=at(5), Nats_Schedule_Target="s.t", A="b")
    stream.engine.advance(4.9)
    assert on_target(stream) == []
    stream.engine.advance(0.2)
    [(block, payload)] = on_target(stream)
    assert payload == b"hi"
    assert block == b"NATS/1.0\r\nA: b\r\nNats-Scheduler: s.x\r\nNats-Schedule-Next: purge\r\n\r\n"
    assert [subject for _, subject, *_ in stream.stored()] == ["s.t"]
    assert stream.engine.commits == 1
    stream.engine.advance(1000)
    assert len(stream.stored()) == 1


def test_a_schedule_of_the_past_fires_soon() -> None:
    stream = make()
    stream.publish("s.x", Nats_Schedule=at(-100), Nats_Schedule_Target="s.t")
    stream.engine.advance(0.3)
    assert len(on_target(stream)) == 1


def test_an_interval_fires_again_and_again() -> None:
    stream = make()
    stream.publish("s.x", Nats_Schedule="@every 10s", Nats_Schedule_Target="s.t")
    stream.engine.advance(35)
    assert [headers.get(block, headers.SCHEDULE_NEXT) for block, _ in on_target(stream)] == [
        format_time(START_NS + seconds * SECOND).encode() for seconds in (20, 30, 40)
    ]


def test_a_cron_schedule_fires_in_its_zone() -> None:
    """START_NS is 14:13:20 UTC, 16:13:20 in Berlin."""
    stream = make()
    stream.publish(
        "s.x",
        Nats_Schedule="0 14 16 * * *",
        Nats_Schedule_Target="s.t",
        Nats_Schedule_Time_Zone="Europe/Berlin",
    )
    stream.engine.advance(41)
    [(block, _)] = on_target(stream)
    assert headers.get(block, headers.SCHEDULE_NEXT) == b"2026-09-22T16:14:00+02:00"


def test_a_newer_schedule_replaces_the_one_of_its_subject() -> None:
    stream = make()
    stream.publish("s.x", b"1", Nats_Schedule=at(5), Nats_Schedule_Target="s.t")
    stream.publish("s.x", b"2", Nats_Schedule=at(9), Nats_Schedule_Target="s.t")
    stream.engine.advance(8)
    assert on_target(stream) == []
    stream.engine.advance(8)
    assert [payload for _, payload in on_target(stream)] == [b"2"]


@pytest.mark.parametrize("way", ["message", "purge", "delete", "unnoticed"])
def test_a_schedule_that_is_gone_does_not_fire(way: str) -> None:
    """`unnoticed` is a plain message that was stored without asking the publisher."""
    stream = make()
    stream.publish("s.x", Nats_Schedule="@every 5s", Nats_Schedule_Target="s.t")
    if way == "message":
        stream.publish("s.x")
    elif way == "purge":
        stream.publish("s.y", Nats_Scheduler="s.x", Nats_Schedule_Next="purge")
    elif way == "delete":
        stream.store.delete(1)
    else:
        stream.store.append(b"s.x", b"", b"", stream.engine.now_ns())
    stream.engine.advance(20)
    assert on_target(stream) == []
    assert len(stream.publisher.schedules) == 0


def test_the_content_comes_from_the_source() -> None:
    stream = make()
    stream.publish(
        "s.x", b"own", Nats_Schedule="@every 5s", Nats_Schedule_Target="s.t", Nats_Schedule_Source="s.s"
    )
    stream.engine.advance(6)
    stream.publish("s.s", b"measured", Unit="C", Nats_Msg_Id="i", Nats_TTL="1h", Nats_Expected_Stream="S")
    stream.engine.advance(5)
    assert [payload for _, payload in on_target(stream)] == [b"own", b"measured"]
    assert on_target(stream)[1][0].startswith(b"NATS/1.0\r\nUnit: C\r\nNats-Scheduler: s.x\r\n")


def test_ttl_and_rollup_go_to_the_message_made() -> None:
    stream = make()
    stream.publish(
        "s.x",
        Nats_Schedule="@every 5s",
        Nats_Schedule_Target="s.t",
        Nats_Schedule_TTL="1h",
        Nats_Schedule_Rollup="sub",
    )
    stream.engine.advance(30)
    [(block, _)] = on_target(stream)
    assert headers.get(block, headers.TTL) == b"1h"
    assert headers.get(block, headers.ROLLUP) == b"sub"


def test_after_a_pause_a_schedule_fires_once_and_goes_on() -> None:
    stream = make()
    stream.publish("s.x", Nats_Schedule="@every 10s", Nats_Schedule_Target="s.t")
    stream.engine.advance(12)
    stream.engine.clock_ns += 1000 * SECOND
    stream.engine.advance(0)
    assert len(on_target(stream)) == 2
    stream.engine.advance(10)
    assert len(on_target(stream)) == 3


@pytest.mark.parametrize("down_seconds", [0, 4, 1000])
def test_schedules_go_on_after_a_restart(down_seconds: int) -> None:
    files = RecordingFiles()
    store = Store(files, threaded=False)
    stream = make(store=store.create_stream("s").stream, storage="file")
    stream.publish("s.x", b"every", Nats_Schedule="@every 10s", Nats_Schedule_Target="s.t")
    stream.publish("s.z", b"once", Nats_Schedule=at(25), Nats_Schedule_Target="s.t")
    stream.publish("s.plain")
    stream.engine.advance(13)
    store.wait(store.commit())
    stream.publisher.close()
    reopened = Store(files.killed(1 << 30), threaded=False).streams["s"].stream
    stream.engine.advance(down_seconds)
    again = FakeStream(stream.config, reopened, stream.engine)
    again.engine.advance(17 - min(down_seconds, 16))
    made = [payload for _, payload in on_target(again)]
    if down_seconds < 1000:
        assert made == [b"every", b"every", b"once", b"every"][: len(made)]
        assert made.count(b"once") == 1
    else:
        assert sorted(made) == [b"every", b"every", b"once"]


def test_a_restart_keeps_the_beat_of_an_interval() -> None:
    """The next time stands in the message that was made last."""
    stream = make()
    stream.publish("s.x", Nats_Schedule="@every 10s", Nats_Schedule_Target="s.t")
    stream.engine.advance(13)
    stream.publisher.close()
    again = FakeStream(stream.config, stream.store, stream.engine)
    again.engine.advance(7.1)
    assert len(on_target(again)) == 2


def test_switching_schedules_on_finds_those_that_are_there() -> None:
    stream = make()
    stream.publish("s.x", Nats_Schedule=at(5), Nats_Schedule_Target="s.t")
    stream.publisher.close()
    other = FakeStream(make_stream().config, stream.store, stream.engine)
    other.configure(allow_msg_schedules=True, allow_rollup_hdrs=True)
    assert len(other.publisher.schedules) == 1


def test_many_schedules_fire_in_order() -> None:
    stream = make()
    for number in range(50):
        stream.publish(
            f"s.x{number}", b"%d" % number, Nats_Schedule=at(50 - number), Nats_Schedule_Target="s.t"
        )
    stream.engine.advance(60)
    assert [payload for _, payload in on_target(stream)] == [b"%d" % number for number in range(49, -1, -1)]


def test_times_between_are_passed_over() -> None:
    start_ns = 1_000_000 * SECOND
    assert next_time("@every 10s", None, start_ns, start_ns + SECOND) == (start_ns + 10 * SECOND, True)
    late_ns = start_ns + 95 * SECOND
    assert next_time("@every 10s", None, start_ns, late_ns) == (late_ns + 10 * SECOND, True)
    assert next_time("* * * * * *", None, start_ns, late_ns) == (late_ns + SECOND, True)
