"""The objects of API answers, and the metadata that the server adds to configurations."""

import json

import pytest

from storage.limits import StreamState
from workers.jetstream import apierrors, asset_metadata, gojson, stream_json
from workers.jetstream.stream_config import External, StreamConfig, StreamSource, Transform

EMPTY = StreamState(0, 0, 0, 0, 0, 0, 0, 0)


def text(value):
    return gojson.encode(value).decode()


def test_answer_begins_with_its_type():
    assert text(stream_json.response("stream_delete", {"success": True})) == (
        '{"type":"io.nats.jetstream.api.v1.stream_delete_response","success":true}'
    )


@pytest.mark.parametrize(
    ("name", "rest"),
    [
        ("stream_create", ""),
        ("stream_info", ',"total":0,"offset":0,"limit":0'),
        ("stream_names", ',"total":0,"offset":0,"limit":0,"streams":null'),
        ("stream_list", ',"total":0,"offset":0,"limit":0,"streams":[]'),
        ("stream_purge", ',"purged":0'),
        ("stream_restore", ',"deliver_subject":""'),
        ("consumer_names", ',"total":0,"offset":0,"limit":0,"consumers":[]'),
        ("consumer_pause", ',"paused":false,"pause_until":"0001-01-01T00:00:00Z"'),
    ],
)
def test_refusal_has_the_members_that_go_leaves_in(name, rest):
    answer = stream_json.error_response(name, apierrors.stream_not_found())
    assert text(answer) == (
        f'{{"type":"io.nats.jetstream.api.v1.{name}_response",'
        f'"error":{{"code":404,"err_code":10059,"description":"stream not found"}}{rest}}}'
    )


def test_refusal_can_be_given_other_members():
    answer = stream_json.error_response("stream_names", apierrors.bad_request(), {"x": 1})
    assert list(answer) == ["type", "error", "x"]


def test_state_of_an_empty_stream_is_short():
    assert text(stream_json.stream_state(EMPTY)) == (
        '{"messages":0,"bytes":0,"first_seq":0,"first_ts":"0001-01-01T00:00:00Z","last_seq":0,'
        '"last_ts":"0001-01-01T00:00:00Z","consumer_count":0}'
    )


def test_state_shows_what_there_is_in_order():
    state = StreamState(2, 100, 1, 1_000_000_000, 4, 2_500_000_000, 2, 2, (9,), 30)
    value = stream_json.stream_state(state, subjects={"b": 1, "a": 1}, deleted=[2, 3], consumer_count=5)
    assert text(value) == (
        '{"messages":2,"bytes":100,"first_seq":1,"first_ts":"1970-01-01T00:00:01Z","last_seq":4,'
        '"last_ts":"1970-01-01T00:00:02.5Z","num_subjects":2,"subjects":{"a":1,"b":1},"num_deleted":2,'
        '"deleted":[2,3],"lost":{"msgs":[9],"bytes":30},"consumer_count":5}'
    )


def test_information_has_its_members_in_order():
    config = StreamConfig(name="S", metadata={"z": "1", "A": "2"})
    value = stream_json.stream_info(
        config,
        created_ns=1_000_000_000,
        state={},
        now_ns=2_000_000_000,
        domain="D",
        version="2.15.1",
        leader="L",
        mirror={"name": "m"},
        sources=[{"name": "s"}],
    )
    assert list(value) == ["config", "created", "state", "domain", "cluster", "mirror", "sources", "ts"]
    assert value["cluster"] == {"leader": "L"}
    assert json.dumps(value["config"]["metadata"]) == (
        '{"A": "2", "_nats.level": "5", "_nats.req.level": "0", "_nats.ver": "2.15.1", "z": "1"}'
    )
    assert (value["created"], value["ts"]) == ("1970-01-01T00:00:01Z", "1970-01-01T00:00:02Z")


def test_information_in_a_list_does_not_tell_the_servers_version():
    value = stream_json.stream_info(StreamConfig(name="S"), created_ns=0, state={}, now_ns=0)
    assert list(value) == ["config", "created", "state", "ts"]
    assert value["config"]["metadata"] == {"_nats.req.level": "0"}


def test_source_information_shows_where_it_stands():
    source = StreamSource(
        "o", filter_subject="f", subject_transforms=(Transform("a", "b"),), external=External("x", "y")
    )
    value = stream_json.source_info(
        source, lag=1, active_ns=2, error=apierrors.stream_not_found(), sequence=3
    )
    assert list(value) == [
        "name",
        "external",
        "lag",
        "seq",
        "active",
        "error",
        "filter_subject",
        "subject_transforms",
    ]
    assert stream_json.source_info(StreamSource("o")) == {"name": "o", "lag": 0, "active": -1}


def test_account_information_has_its_members_in_order():
    value = stream_json.account_info(
        memory=1,
        storage=2,
        reserved_memory=3,
        reserved_storage=4,
        streams=5,
        consumers=6,
        limits={"max_memory": -1},
        api_total=7,
        api_errors=8,
        domain="D",
        api_inflight=9,
    )
    assert text(value) == (
        '{"memory":1,"storage":2,"reserved_memory":3,"reserved_storage":4,"streams":5,"consumers":6,'
        '"limits":{"max_memory":-1},"domain":"D","api":{"level":5,"total":7,"errors":8,"inflight":9}}'
    )


@pytest.mark.parametrize(
    ("members", "level"),
    [
        ({}, 0),
        ({"allow_msg_ttl": True}, 1),
        ({"subject_delete_marker_ttl": 1}, 1),
        ({"allow_msg_counter": True}, 2),
        ({"allow_atomic": True, "allow_msg_ttl": True}, 2),
        ({"allow_msg_schedules": True}, 2),
        ({"persist_mode": "async"}, 2),
        ({"allow_batched": True, "allow_atomic": True}, 4),
    ],
)
def test_required_level_follows_the_newest_feature(members, level):
    assert asset_metadata.required_level(StreamConfig(**members)) == level


@pytest.mark.parametrize(
    ("value", "is_supported"),
    [("0", True), ("5", True), ("+5", True), ("-1", True), ("05", True), ("6", False), ("", False)]
    + [(value, False) for value in ("x", "5x", "1.0", " 5", "--1", "+", "٥")],
)
def test_required_level_of_a_request_is_a_number_up_to_ours(value, is_supported):
    assert asset_metadata.is_level_supported(value) is is_supported
