"""Configurations of consumers as values; what brokers make of them is compared in tests/protocol."""

import json

import pytest

from workers.jetstream import consumer_checks, consumer_rules, consumer_update
from workers.jetstream.apierrors import ApiError
from workers.jetstream.asset_metadata import consumer_config_json
from workers.jetstream.consumer_checks import ConsumerLimits
from workers.jetstream.consumer_config import ConsumerConfig, CreateRequest
from workers.jetstream.stream_config import ConsumerLimits as StreamLimits
from workers.jetstream.stream_config import StreamConfig

SECOND = 1_000_000_000
NO_LIMITS = ConsumerLimits()
STREAM = StreamConfig(name="S", subjects=("s.>",), num_replicas=1)
WORK_QUEUE = STREAM.replace(retention="workqueue")
# Every member, in the order in which nats-server writes them.
FULL = {
    "durable_name": "c",
    "name": "c",
    "description": "text",
    "deliver_policy": "by_start_time",
    "opt_start_seq": 7,
    "opt_start_time": "2026-01-02T03:04:05.5+02:00",
    "ack_policy": "explicit",
    "ack_wait": SECOND,
    "max_deliver": 3,
    "backoff": [SECOND, 2 * SECOND],
    "filter_subject": "s.a",
    "filter_subjects": ["s.b", "s.c"],
    "replay_policy": "original",
    "rate_limit_bps": 8000,
    "sample_freq": "50%",
    "max_waiting": 5,
    "max_ack_pending": 6,
    "flow_control": True,
    "headers_only": True,
    "max_batch": 7,
    "max_expires": 8,
    "max_bytes": 9,
    "deliver_subject": "to",
    "deliver_group": "g",
    "idle_heartbeat": SECOND,
    "inactive_threshold": 10,
    "num_replicas": 1,
    "mem_storage": True,
    "direct": True,
    "sourcing": True,
    "metadata": {"a": "1", "b": "2"},
    "pause_until": "2027-01-01T00:00:00Z",
    "priority_groups": ["A"],
    "priority_policy": "overflow",
    "priority_timeout": 11,
}


def parse(**config):
    return CreateRequest.parse(json.dumps({"stream_name": "S", "config": config}).encode()).config


def check(config, stream=STREAM, limits=NO_LIMITS, **options):
    return consumer_checks.check(config, stream, limits, **options)


def refusal(function, *arguments, **options):
    with pytest.raises(ApiError) as caught:
        function(*arguments, **options)
    return caught.value.err_code


def test_every_member_is_read_and_written_in_order():
    config = parse(**FULL)
    assert list(config.to_json().items()) == list(FULL.items())
    assert ConsumerConfig.from_members(config.to_json()) == config


def test_empty_members_are_left_out():
    assert ConsumerConfig().to_json() == {
        "deliver_policy": "all",
        "ack_policy": "none",
        "replay_policy": "instant",
        "num_replicas": 0,
    }


def test_times_are_nanoseconds_and_keep_their_zone_when_shown():
    config = parse(opt_start_time="1970-01-01T02:00:01.5+02:00", pause_until="0001-01-01T00:00:00Z")
    assert (config.opt_start_time, config.pause_until) == (1_500_000_000, 0)
    assert config.to_json()["opt_start_time"] == "1970-01-01T02:00:01.5+02:00"
    paused = config.replace(pause_until=SECOND, opt_start_time=0)
    assert (paused.pause_until_text, paused.opt_start_time_text) == ("1970-01-01T00:00:01Z", "")


def test_what_a_configuration_says_of_its_consumer():
    pull, push = parse(name="e", filter_subject="s.a"), parse(durable_name="d", deliver_subject="to")
    assert (pull.is_pull, pull.is_push, pull.is_durable, pull.called, pull.filters) == (
        True,
        False,
        False,
        "e",
        ("s.a",),
    )
    assert (push.is_pull, push.is_push, push.is_durable, push.called, push.filters) == (
        False,
        True,
        True,
        "d",
        (),
    )
    assert parse(filter_subjects=["s.a", "s.b"]).filters == ("s.a", "s.b")
    assert [parse(sample_freq=text).sample_percent for text in ("", "5", "50%")] == [0, 5, 50]


def test_a_request_carries_its_action_and_mood():
    request = CreateRequest.parse(b'{"stream_name":"S","config":{},"action":"update","pedantic":true}')
    assert (request.stream_name, request.action, request.is_pedantic) == ("S", "update", True)
    assert CreateRequest.parse(b"") == CreateRequest()
    assert refusal(CreateRequest.parse, b'{"unknown":1}') == 10025
    assert CreateRequest.parse(b'{"unknown":1}', strict=False) == CreateRequest()


def test_checking_a_checked_configuration_changes_nothing():
    for config in (parse(ack_policy="explicit"), parse(deliver_subject="to"), parse(backoff=[SECOND])):
        once = check(config)
        assert check(once) == once


def test_limits_of_server_account_and_stream_bound_what_is_pending():
    asks = parse(ack_policy="explicit")
    assert check(asks).max_ack_pending == 1000
    assert check(asks, limits=ConsumerLimits(max_ack_pending=50)).max_ack_pending == 50
    assert check(asks, limits=ConsumerLimits(account_max_ack_pending=40)).max_ack_pending == 40
    bounded = STREAM.replace(consumer_limits=StreamLimits(SECOND, 30))
    assert check(asks, bounded).max_ack_pending == 30
    assert check(asks, bounded).inactive_threshold == SECOND
    too_much = asks.replace(max_ack_pending=60)
    for limits in (ConsumerLimits(max_ack_pending=50), ConsumerLimits(account_max_ack_pending=40)):
        assert refusal(check, too_much, limits=limits) == 10121
    assert refusal(check, too_much, bounded) == 10121
    assert refusal(check, asks.replace(inactive_threshold=2 * SECOND), bounded) == 10153


def test_requests_are_bounded_by_the_server():
    limits = ConsumerLimits(max_request_batch=10)
    assert check(parse(), limits=limits).max_batch == 10
    assert refusal(check, parse(), limits=limits, is_pedantic=True) == 10157
    assert refusal(check, parse(max_batch=11), limits=limits) == 10125


def test_only_what_is_not_durable_goes_away_by_itself():
    assert consumer_checks.stamp(parse(name="e")).inactive_threshold == 5 * SECOND
    assert consumer_checks.stamp(parse(name="e", inactive_threshold=7)).inactive_threshold == 7
    assert consumer_checks.stamp(parse(durable_name="d")).inactive_threshold == 0


@pytest.mark.parametrize(
    ("members", "level"),
    [
        ({}, "0"),
        ({"pause_until": "2027-01-01T00:00:00Z"}, "1"),
        ({"priority_policy": "overflow", "priority_groups": ["A"]}, "1"),
        ({"ack_policy": "flow_control"}, "4"),
    ],
)
def test_metadata_tells_the_level_that_a_consumer_needs(members, level):
    config = parse(metadata={"z": "1"}, **members)
    assert consumer_config_json(config)["metadata"] == {"_nats.req.level": level, "z": "1"}
    shown = consumer_config_json(config, "2.15.1")["metadata"]
    assert shown == {"_nats.level": "5", "_nats.req.level": level, "_nats.ver": "2.15.1", "z": "1"}


def test_a_deliver_subject_in_use_stays():
    old, new = check(parse(deliver_subject="a")), check(parse(deliver_subject="b"))
    consumer_update.check_update(old, new, lambda subject: False)
    assert refusal(consumer_update.check_update, old, new, lambda subject: subject == "a") == 10013


def test_room_for_consumers():
    def room(count, *, stream=-1, account=-1):
        consumer_rules.check_room(STREAM.replace(max_consumers=stream), count, account)

    room(999)
    room(5000, stream=5001)
    room(5000, account=5001)
    for count, stream, account in ((1000, -1, -1), (2, 2, -1), (2, 5, 2), (2, 2, 5), (2, -1, 2)):
        assert refusal(room, count, stream=stream, account=account) == 10026


def test_a_work_queue_gives_each_message_to_one_consumer():
    def queue(config, *others, is_new=True):
        consumer_rules.check_work_queue(check(config), WORK_QUEUE, map(check, others), is_new=is_new)

    explicit = parse(ack_policy="explicit")
    some, other = explicit.replace(filter_subject="s.a"), explicit.replace(filter_subject="s.b")
    everything = explicit.replace(filter_subject="s.>")
    queue(explicit)
    queue(some, other)
    assert refusal(queue, parse(ack_policy="all")) == 10098
    assert refusal(queue, explicit.replace(deliver_policy="new")) == 10101
    assert refusal(queue, explicit, some) == 10099
    assert refusal(queue, some, explicit) == 10100
    assert refusal(queue, some, everything) == 10100
    assert refusal(queue, everything, some, is_new=False) == 10100
    queue(explicit, some, is_new=False)
    consumer_rules.check_work_queue(check(explicit), STREAM, [check(explicit)], is_new=True)


def test_new_bounds_of_a_stream_name_the_consumers_that_exceed_them():
    consumers = [("b", check(parse(ack_policy="explicit"))), ("a", check(parse(inactive_threshold=SECOND)))]

    def update(*limits):
        bounded = STREAM.replace(consumer_limits=StreamLimits(*limits))
        consumer_rules.check_stream_update(STREAM, bounded, consumers)

    update(0, 0)
    update(SECOND, 1000)
    assert refusal(update, 0, 999) == 10069
    with pytest.raises(ApiError, match=r"^change to limits violates consumers: a, b$"):
        update(SECOND - 1, 5)
