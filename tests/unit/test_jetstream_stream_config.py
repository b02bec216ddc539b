"""Stream configurations: reading, filling in, refusing, changing.

tests/protocol/test_jetstream_config.py compares the same functions with nats-server, case by case; here
stands what that cannot show.
"""

import json
from dataclasses import fields

import pytest

from storage.limits import StreamLimits
from workers.jetstream import durations, gojson, stream_checks, stream_sources, stream_update
from workers.jetstream.apierrors import ApiError
from workers.jetstream.stream_config import CONFIG, StreamConfig, StreamSource, Transform
from workers.jetstream.stream_rules import ServerLimits

SECOND = 1_000_000_000
NO_LIMITS = ServerLimits()
EVERYTHING = {
    "name": "S",
    "description": "d",
    "subjects": ["a.*", "b"],
    "retention": "workqueue",
    "max_consumers": 1,
    "max_msgs": 2,
    "max_bytes": 3,
    "max_age": 4 * SECOND,
    "max_msgs_per_subject": 5,
    "max_msg_size": 6,
    "discard": "new",
    "storage": "memory",
    "num_replicas": 1,
    "no_ack": True,
    "duplicate_window": SECOND,
    "placement": {"cluster": "c", "tags": ["t"]},
    "sources": [
        {
            "name": "o",
            "opt_start_time": "2024-01-01T00:00:00.5Z",
            "subject_transforms": [{"src": "x", "dest": "y"}],
            "external": {"api": "$JS.x.API", "deliver": "d"},
            "consumer": {"name": "c", "deliver_subject": "s"},
        },
        {"name": "p", "opt_start_seq": 7, "filter_subject": "f"},
    ],
    "compression": "s2",
    "first_seq": 8,
    "subject_transform": {"src": "a.*", "dest": "z.$1"},
    "republish": {"src": "a.*", "dest": "r.$1", "headers_only": True},
    "allow_direct": True,
    "mirror_direct": True,
    "discard_new_per_subject": True,
    "sealed": True,
    "deny_delete": True,
    "deny_purge": True,
    "allow_rollup_hdrs": True,
    "consumer_limits": {"inactive_threshold": 9, "max_ack_pending": 10},
    "allow_msg_ttl": True,
    "subject_delete_marker_ttl": SECOND,
    "allow_msg_counter": True,
    "allow_atomic": True,
    "allow_msg_schedules": True,
    "persist_mode": "async",
    "allow_batched": True,
    "metadata": {"a": "1", "b": "2"},
}


def parse(**members):
    return StreamConfig.parse(json.dumps(members).encode())[0]


def check(limits=NO_LIMITS, **members):
    is_pedantic = members.pop("pedantic", False)
    lookup = members.pop("lookup", {}).get
    return stream_checks.check(parse(**members), limits, is_pedantic=is_pedantic, lookup=lookup)


def refusal(function, *arguments, **members):
    with pytest.raises(ApiError) as refused:
        function(*arguments, **members)
    return refused.value.err_code, refused.value.description


def test_everything_is_read_and_written_in_order():
    config = parse(**EVERYTHING)
    assert json.dumps(config.to_json()) == json.dumps(EVERYTHING)
    assert {item.name for item in fields(config)} == EVERYTHING.keys() | {"mirror"}


def test_what_was_written_can_be_read_back():
    config = parse(**EVERYTHING)
    members = gojson.decode(gojson.encode(config.to_json()), CONFIG)
    assert StreamConfig.from_members(members) == config
    assert StreamConfig.from_members(config.to_json()) == config


def test_empty_configuration_shows_the_members_that_are_always_there():
    assert list(parse().to_json()) == [
        "name",
        "retention",
        "max_consumers",
        "max_msgs",
        "max_bytes",
        "max_age",
        "max_msgs_per_subject",
        "discard",
        "storage",
        "num_replicas",
        "compression",
        "allow_direct",
        "mirror_direct",
        "sealed",
        "deny_delete",
        "deny_purge",
        "allow_rollup_hdrs",
        "consumer_limits",
        "allow_msg_ttl",
    ]


def test_pedantic_is_of_the_request_alone():
    config, is_pedantic = StreamConfig.parse(b'{"name":"S","pedantic":true}')
    assert is_pedantic
    assert "pedantic" not in config.to_json()
    with pytest.raises(gojson.DecodeError):
        gojson.decode(b'{"pedantic":true}', CONFIG)


def test_unknown_member_is_ignored_when_not_strict():
    config, _ = StreamConfig.parse(b'{"name":"S","bogus":1}', strict=False)
    assert config.name == "S"


def test_defaults_are_filled_in():
    config = check(name="S")
    assert config.subjects == ("S",)
    assert (config.max_msgs, config.max_bytes, config.max_msg_size, config.max_consumers) == (-1, -1, -1, -1)
    assert (config.storage, config.num_replicas, config.duplicate_window) == ("file", 1, 120 * SECOND)


def test_checking_again_changes_nothing():
    once = check(name="S", max_age=SECOND, subject_delete_marker_ttl=SECOND, republish={"dest": "r.>"})
    assert stream_checks.check(once, ServerLimits()) == once


def test_window_keeps_to_age_and_to_the_servers_limit():
    assert check(name="S", max_age=SECOND).duplicate_window == SECOND
    limits = ServerLimits(duplicate_window=90 * SECOND)
    assert check(limits, name="S").duplicate_window == 90 * SECOND
    assert refusal(check, limits, name="S", pedantic=True) == (
        10157,
        "pedantic mode: duplicate window limits are higher than current limits",
    )
    assert refusal(check, limits, name="S", duplicate_window=91 * SECOND) == (
        10052,
        "duplicates window can not be larger then server limit of 1m30s",
    )


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1500, "1.5µs"),
        (100_000_000, "100ms"),
        (SECOND, "1s"),
        (90 * SECOND + 50_000_000, "1m30.05s"),
        (3600 * SECOND, "1h0m0s"),
        (-5 * SECOND, "-5s"),
    ],
)
def test_durations_are_written_as_go_writes_them(ns, text):
    assert durations.format_duration(ns) == text


def test_account_may_demand_and_bound_max_bytes():
    assert refusal(check, ServerLimits(max_bytes_required=True), name="S")[0] == 10113
    limits = ServerLimits(memory_max_stream_bytes=10, storage_max_stream_bytes=20)
    assert refusal(check, limits, name="S", storage="memory", max_bytes=11)[0] == 10122
    assert refusal(check, limits, name="S", max_bytes=21)[0] == 10122
    assert check(limits, name="S", max_bytes=20).max_bytes == 20


def test_stream_that_takes_all_subjects_must_not_acknowledge():
    assert refusal(check, name="S", subjects=[">"])[1] == "capturing all subjects requires no-ack to be true"
    assert check(name="S", subjects=[">"], no_ack=True).subjects == (">",)


def test_mirror_inherits_direct_access_from_its_origin():
    origin = check(name="O", allow_direct=True)
    config = check(name="M", mirror={"name": "O"}, lookup={"O": origin})
    assert config.mirror_direct
    assert config.subjects == ()


def test_external_delivery_prefix_must_not_catch_the_streams_subjects():
    origin = check(name="O", subjects=["d.>"])
    sources = [{"name": "O"}, {"name": "P", "external": {"api": "", "deliver": "d"}}]
    code, text = refusal(check, name="S", sources=sources, lookup={"O": origin})
    assert (code, text) == (10022, "stream external delivery prefix d overlaps with stream subject d.>")


def test_sources_are_told_apart_by_place_filter_and_transforms():
    plain = StreamSource("o")
    names = {
        stream_sources.index_name(source)
        for source in (
            plain,
            StreamSource("o", filter_subject="x"),
            StreamSource("o", subject_transforms=(Transform("x", "y"),)),
            StreamSource("p"),
        )
    }
    assert len(names) == 4
    assert stream_sources.index_name(StreamSource("o", filter_subject=">")) == stream_sources.index_name(
        plain
    )


def test_start_time_of_a_source_is_known_in_nanoseconds():
    assert StreamSource("o", opt_start_time="1970-01-01T00:00:01.5Z").opt_start_time_ns == 1_500_000_000
    assert StreamSource("o").opt_start_time_ns == 0


def test_limits_are_handed_to_the_store():
    config = check(
        name="S",
        max_msgs=1,
        max_bytes=2,
        max_age=SECOND,
        max_msg_size=3,
        max_msgs_per_subject=4,
        discard="new",
    )
    assert config.limits() == StreamLimits(
        max_messages=1,
        max_bytes=2,
        max_age_ns=SECOND,
        max_message_bytes=3,
        max_messages_per_subject=4,
        discard_new=True,
    )
    assert check(name="S").limits() == StreamLimits()


def test_sealing_turns_the_stream_to_stone():
    old = check(name="S", max_age=SECOND, allow_rollup_hdrs=True)
    new = stream_update.check_update(
        old, check(name="S", sealed=True, max_age=SECOND, allow_rollup_hdrs=True)
    )
    assert (new.max_age, new.discard, new.deny_delete, new.deny_purge, new.allow_rollup_hdrs) == (
        0,
        "new",
        True,
        True,
        False,
    )


def test_metadata_of_the_server_does_not_make_a_difference():
    existing = check(name="S", metadata={"a": "1"})
    asked = check(name="S", metadata={"a": "1", "_nats.ver": "2.15.1", "_nats.req.level": "0"})
    assert stream_update.is_same(existing, asked)
