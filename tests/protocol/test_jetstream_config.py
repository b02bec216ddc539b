"""Stream configurations: what brokers answer to CREATE and UPDATE, midge's modules make of the same body.

The other side is support/jetstream_config_model.py, which runs the very functions that midge runs. `@` in a
step stands for a prefix of its own, so that no name is used twice.
"""

import json
import random

import pytest
from support.broker import Broker
from support.jetstream_config_model import ConfigModel

CREATE, UPDATE = "CREATE", "UPDATE"
SECOND = 1_000_000_000
RANDOM_STREAMS = 150


class Oracle:
    """Asks a server."""

    def __init__(self, client):
        self._client = client
        client.send(b"SUB _I.config 1\r\n")

    def ask(self, operation, name, body):
        """Return `config` or `error` of the answer."""
        subject = f"$JS.API.STREAM.{operation}.{name}".encode()
        self._client.send(b"PUB %s _I.config %d\r\n%s\r\n" % (subject, len(body), body))
        size = int(self._client.expect(rb"MSG _I.config 1 (\d+)\r\n")[1])
        answer = json.loads(self._client.expect(rb".{%d}\r\n" % size)[0])
        return {key: answer[key] for key in ("config", "error") if key in answer}


@pytest.fixture(scope="module")
def oracle(kind, tmp_path_factory):
    broker = Broker(kind, tmp_path_factory.mktemp("oracle"), jetstream=True, max_control_line=8192)
    client = broker.connect().handshake(headers=True, no_responders=True)
    yield Oracle(client), client.info["version"]
    client.close()
    broker.stop()


def create(name="@", **members):
    return CREATE, name, json.dumps({"name": name, **members})


def update(name="@", **members):
    return UPDATE, name, json.dumps({"name": name, **members})


def source(**members):
    return create(sources=[{"name": "@o", **members}])


def mirror(**members):
    return create(mirror={"name": "@o", **members})


def transform(src, dest):
    """Return a create step with a subject transform."""
    return create(subjects=["@.*.*", "@.x.>"], subject_transform={"src": src, "dest": dest})


CONSUMER = {"name": "c", "deliver_subject": "d"}
TEXTS = {
    "no_body": (CREATE, "@", ""),
    "other_name": (CREATE, "@", '{"name":"@b"}'),
    "update_other_name": (UPDATE, "@", '{"name":"@b"}'),
    "separator": create("@/x"),
    "backslash": create("@\\x"),
    "update_unknown": update("@"),
    "update_no_name": (UPDATE, "@", "{}"),
    "long_name": create("@" + "n" * 255),
    "description_4096": create(description="d" * 4096),
    "description_4097": create(description="é" * 2049),
    "metadata_fits": create(metadata={"k": "v" * (128 * 1024 - 18)}),
    "metadata_too_long": create(metadata={"k": "v" * (128 * 1024 - 17)}),
    "metadata_reserved": create(
        metadata={"_nats.ver": "x", "_nats.level": "9", "_nats.req.level": "9", "a": "1"}
    ),
    "sealed": create(sealed=True),
    "mirror_direct_alone": create(mirror_direct=True),
    "replicas": create(num_replicas=2),
    "replicas_6": create(num_replicas=6),
    "replicas_negative": create(num_replicas=-1),
    "html": create(description="<&> \u2028"),
}
LIMIT_FIELDS = ("max_msgs", "max_bytes", "max_msgs_per_subject", "max_msg_size", "max_consumers")
VALUES = {
    **{f"{name}_{value}": create(**{name: value}) for name in LIMIT_FIELDS for value in (0, -1, -2, 7)},
    **{f"{name}_pedantic": create(**{name: -2}, pedantic=True) for name in LIMIT_FIELDS},
    "age_negative": create(max_age=-1),
    "age_short": create(max_age=99_999_999),
    "age": create(max_age=100_000_000),
    "age_pedantic": create(max_age=SECOND, pedantic=True),
    "window_longer_than_age": create(max_age=SECOND, duplicate_window=2 * SECOND),
    "window_negative": create(duplicate_window=-1),
    "window_short": create(duplicate_window=99_999_999),
    "window": create(duplicate_window=100_000_000),
    "rollup_without_purge": create(deny_purge=True, allow_rollup_hdrs=True),
    "counter": create(allow_msg_counter=True),
    "counter_discard_new": create(allow_msg_counter=True, discard="new"),
    "counter_ttl": create(allow_msg_counter=True, allow_msg_ttl=True),
    "counter_schedules": create(allow_msg_counter=True, allow_msg_schedules=True),
    "counter_interest": create(allow_msg_counter=True, retention="interest"),
    "per_subject_discard_old": create(discard_new_per_subject=True),
    "per_subject_without_limit": create(discard_new_per_subject=True, discard="new"),
    "per_subject": create(discard_new_per_subject=True, discard="NEW", max_msgs_per_subject=1),
    "marker_negative": create(subject_delete_marker_ttl=-1),
    "marker_short": create(subject_delete_marker_ttl=SECOND - 1),
    "marker": create(subject_delete_marker_ttl=SECOND, deny_purge=True),
    "marker_pedantic": create(subject_delete_marker_ttl=SECOND, pedantic=True),
    "marker_pedantic_rollup": create(subject_delete_marker_ttl=SECOND, allow_msg_ttl=True, pedantic=True),
    "schedules": create(allow_msg_schedules=True, deny_purge=True),
    "schedules_discard_new": create(allow_msg_schedules=True, discard="new"),
    "schedules_pedantic": create(allow_msg_schedules=True, pedantic=True),
    "async": create(persist_mode="async"),
    "async_memory": create(persist_mode="async", storage="memory"),
    "async_replicas": create(persist_mode="async", num_replicas=3),
    "async_atomic": create(persist_mode="async", allow_atomic=True),
    "default_mode": create(persist_mode=""),
    "levels": create(allow_batched=True, allow_atomic=True, allow_msg_ttl=True),
    "placement": create(placement={"cluster": "c", "tags": ["t"]}),
    "placement_empty": create(placement={}),
    "placement_preferred": create(placement={"preferred": "p"}),
    "consumer_limits": create(consumer_limits={"inactive_threshold": 5, "max_ack_pending": 6}),
    "first_seq": create(first_seq=100),
    "compression": create(compression="s2"),
    "nulls": create(subjects=None, max_msgs=None, mirror=None, metadata=None, no_ack=None),
}
SUBJECTS = {
    f"subjects_{index}": create(subjects=given, no_ack=no_ack)
    for index, (given, no_ack) in enumerate(
        (
            (["@.a", "@.a"], False),
            (["@.a", "@.b", "@.*"], False),
            (["@.>", "@.a.b"], False),
            (["@.a."], False),
            (["@..a"], False),
            (["@.>.a"], False),
            (["@.a b"], False),
            (["@.a\tb"], False),
            ([""], False),
            ([], False),
            ([">"], False),
            (["$JS.@"], False),
            (["$JS.EVENT.@.>"], False),
            (["$JSC.@.*"], False),
            (["$NRG.@"], False),
            (["$SYS.@"], False),
            (["$SYS.ACCOUNT.@"], False),
            (["*.@"], False),
            (["*.*.@x"], False),
            (["$JS.API.@"], True),
            (["@.é\u200b", '@.*"'], False),
            (['@."x', "@.*"], False),
            (["@.*a", "@.b"], False),
            (["@.*", "@.*a"], False),
        )
    )
}
DESTINATIONS = (
    "t.$1.$2",
    "t.$2.$1",
    "t.$3",
    "t.$0",
    "t.$x",
    "t.{{wildcard(1)}}",
    "t.{{Wildcard( 2 )}}",
    "t.{{wildcard(3)}}",
    "t.{{wildcard()}}",
    "t.{{wildcard(a)}}",
    "t.{{wildcard(1,2)}}",
    "t.{{partition(5)}}",
    "t.{{partition(5,1,2)}}",
    "t.{{partition(5,9)}}",
    "t.{{partition(x)}}",
    "t.{{partition(5,x)}}",
    "t.{{partition(9999999999)}}",
    "t.{{split(1,-)}}",
    "t.{{split(1)}}",
    "t.{{split(1,-,x)}}",
    "t.{{split(x,-)}}",
    "t.{{split(1, )}}",
    "t.{{splitFromLeft(1,2)}}",
    "t.{{SplitFromRight(1,2)}}",
    "t.{{splitfromleft(1)}}",
    "t.{{sliceFromLeft(1,2)}}",
    "t.{{sliceFromRight(1,99999999999)}}",
    "t.{{left(1,2)}}",
    "t.{{right(1,2)}}",
    "t.{{right(1)}}",
    "t.{{random(5)}}",
    "t.{{random()}}",
    "t.{{random(1,2)}}",
    "t.{{unknown(1)}}",
    "t.{{wildcard(1)",
    "t.{{}}",
    "t.*",
    "t.>",
    "t.a b",
    "t..x",
    "t.>.x",
    "",
)
TRANSFORMS = {
    f"transform_{pattern}_{index}": transform(src, dest)
    for index, dest in enumerate(DESTINATIONS)
    for pattern, src in (("wild", "@.*.*"), ("plain", "@.x.y"), ("tail", "@.x.>"), ("all", ""))
}
TRANSFORMS["transform_bad_source"] = transform("@..x", "t")
REPUBLISH = {
    f"republish_{index}": create(subjects=["@.*"], republish=republish, **more)
    for index, (republish, more) in enumerate(
        (
            ({"dest": "r.@.>"}, {}),
            ({"dest": "r.@.>"}, {"pedantic": True}),
            ({"src": "@.*", "dest": "r.@.$1", "headers_only": True}, {}),
            ({"src": "@.*", "dest": "@.$1"}, {}),
            ({"src": "@.*", "dest": "r.$2"}, {}),
            ({"src": "@.*", "dest": "r.>"}, {}),
            ({"dest": ""}, {}),
            ({"dest": ">"}, {}),
            ({"src": ">", "dest": ">"}, {"subject_transform": {"src": "@.*", "dest": "s.@.$1"}}),
            (
                {"src": ">", "dest": ">"},
                {"subject_transform": {"src": "@.*", "dest": "s.$1"}, "pedantic": True},
            ),
        )
    )
}
PAIR = [{"src": "a.*", "dest": "b.$1"}, {"src": "a.b", "dest": "c"}]
EXTERNAL = {"api": "$JS.hub.API", "deliver": "d.@"}
ORIGINS = {
    f"{kind}_{name}": [create("@o", subjects=["@o.>"], allow_direct=True, max_msg_size=100), step]
    for kind, make in (("mirror", mirror), ("source", source))
    for name, step in {
        "plain": make(),
        "unknown": make(name="@nobody"),
        "bad_name": make(name="a.b"),
        "no_name": make(name=""),
        "start_seq": make(opt_start_seq=5),
        "start_time": make(opt_start_time="2024-01-01T00:00:00.120+02:00"),
        "start_both": make(opt_start_seq=5, opt_start_time="2024-01-01T00:00:00Z"),
        "bad_time": make(opt_start_time="2024-13-01T00:00:00Z"),
        "filter": make(filter_subject="@o.x"),
        "bad_filter": make(filter_subject="a..b"),
        "filter_and_transforms": make(filter_subject="x", subject_transforms=PAIR),
        "overlapping": make(subject_transforms=PAIR),
        "transforms": make(subject_transforms=[PAIR[0], {"src": "z", "dest": ""}]),
        "bad_transform_source": make(subject_transforms=[{"src": "a..b", "dest": "x"}]),
        "bad_transform": make(subject_transforms=[{"src": "a.*", "dest": "x.$2"}]),
        "consumer": make(consumer=CONSUMER),
        "consumer_empty": make(consumer={}),
        "consumer_wild": make(consumer={"name": "c", "deliver_subject": "d.*"}),
        "consumer_start": make(consumer=CONSUMER, opt_start_seq=1),
        "consumer_filter": make(consumer=CONSUMER, filter_subject="x"),
        "external": make(external=EXTERNAL),
        "external_wild": make(external={"api": "$JS.hub.API", "deliver": "d.*"}),
        "external_api_wild": make(external={"api": "$JS.*.API", "deliver": ""}),
        "external_own_api": make(external={"api": "$JS.API", "deliver": ""}),
        "external_empty": make(external={}),
    }.items()
}
ORIGINS |= {
    f"mirror_with_{name}": [create("@o"), create(mirror={"name": "@o"}, **members)]
    for name, members in {
        "subjects": {"subjects": ["@"]},
        "sources": {"sources": [{"name": "@o"}]},
        "first_seq": {"first_seq": 5},
        "counter": {"allow_msg_counter": True},
        "atomic": {"allow_atomic": True},
        "batch": {"allow_batched": True},
        "schedules": {"allow_msg_schedules": True},
        "markers": {"subject_delete_marker_ttl": SECOND},
        "window": {"duplicate_window": SECOND},
        "direct": {"mirror_direct": True},
        "pedantic": {"mirror_direct": True, "pedantic": True},
    }.items()
}
ORIGINS |= {
    "sources_with_subjects": [create("@o"), create(sources=[{"name": "@o"}], subjects=["@.s"])],
    "sources_with_schedules": [create(sources=[{"name": "@o"}], allow_msg_schedules=True)],
    "sources_twice": [create(sources=[{"name": "@o"}, {"name": "@o"}])],
    "sources_twice_filtered": [create(sources=[{"name": "@o"}, {"name": "@o", "filter_subject": "x"}])],
    "sources_null": [create(sources=[None])],
    "source_consumer_twice": [
        create(
            sources=[
                {"name": "@o", "consumer": CONSUMER},
                {"name": "@o", "consumer": CONSUMER, "subject_transforms": PAIR[:1]},
            ]
        )
    ],
    "source_smaller_messages": [
        create("@o", max_msg_size=100),
        create(sources=[{"name": "@o"}], max_msg_size=50),
    ],
    "mirror_smaller_messages": [
        create("@o", max_msg_size=100),
        create(mirror={"name": "@o"}, max_msg_size=50),
    ],
    "cycle_to_itself": [create(sources=[{"name": "@"}])],
    "cycle_by_two": [
        create("@o"),
        create(sources=[{"name": "@o"}]),
        update("@o", sources=[{"name": "@"}]),
        update("@o", sources=[{"name": "@", "filter_subject": "elsewhere"}]),
    ],
    "cycle_by_mirror": [create("@o"), create(mirror={"name": "@o"}), update("@o", sources=[{"name": "@"}])],
}
CHANGES = {
    name: [create(**before), update(**after)]
    for name, (before, after) in {
        "nothing": ({}, {}),
        "description": ({}, {"description": "new"}),
        "storage": ({}, {"storage": "memory"}),
        "retention": ({}, {"retention": "interest"}),
        "retention_to_workqueue": ({}, {"retention": "workqueue"}),
        "retention_from_workqueue": ({"retention": "workqueue"}, {}),
        "undeny_delete": ({"deny_delete": True}, {}),
        "undeny_purge": ({"deny_purge": True}, {}),
        "deny": ({}, {"deny_delete": True, "deny_purge": True}),
        "seal": ({"max_age": SECOND, "allow_rollup_hdrs": True}, {"sealed": True, "allow_rollup_hdrs": True}),
        "ttl_off": ({"allow_msg_ttl": True}, {}),
        "ttl_on": ({}, {"allow_msg_ttl": True}),
        "counter_on": ({}, {"allow_msg_counter": True}),
        "counter_off": ({"allow_msg_counter": True}, {}),
        "schedules_on": ({}, {"allow_msg_schedules": True}),
        "schedules_off": ({"allow_msg_schedules": True}, {"allow_rollup_hdrs": True}),
        "persist_mode": ({}, {"persist_mode": "async"}),
        "replicas": ({}, {"num_replicas": 3}),
        "add_mirror": ({}, {"mirror": {"name": "@o"}}),
        "change_mirror": ({"mirror": {"name": "@o"}}, {"mirror": {"name": "@p"}}),
        "drop_mirror": ({"mirror": {"name": "@o"}}, {}),
        "keep_mirror": ({"mirror": {"name": "@o"}}, {"mirror": {"name": "@o"}, "description": "x"}),
        "subjects": ({}, {"subjects": ["@.a", "@.b"]}),
        "limits": ({}, {"max_msgs": 5, "max_bytes": 1000, "max_age": SECOND, "max_msgs_per_subject": 2}),
        "first_seq": ({}, {"first_seq": 10}),
        "compression": ({}, {"compression": "s2"}),
        "metadata": ({"metadata": {"a": "1"}}, {"metadata": {"b": "2"}}),
        "pedantic": ({}, {"max_msgs": -5, "pedantic": True}),
        "drop_transform": ({"subject_transform": {"src": ">", "dest": "x.>"}}, {}),
    }.items()
}
SEQUENCES = {
    "same_again": [create(max_msgs=5), create(max_msgs=5)],
    "same_spelled_out": [create(), create(max_msgs=-1, storage="file", subjects=["@"], num_replicas=1)],
    "different_again": [create(max_msgs=5), create(max_msgs=6)],
    "same_with_server_metadata": [create(), create(metadata={"_nats.ver": "2.15.1", "_nats.level": "5"})],
    "unseal": [create(), update(sealed=True), update(sealed=False), update(sealed=True)],
    "overlap": [create(subjects=["@.a.*"]), create("@b", subjects=["@.*.b"])],
    "overlap_by_default": [create(subjects=["@b"]), create("@b")],
    "overlap_on_update": [create(), create("@b"), update("@b", subjects=["@b", "@"])],
    "overlap_with_itself_is_fine": [create(subjects=["@.a"]), update(subjects=["@.*"])],
}
STEPS = {
    name: steps if isinstance(steps, list) else [steps]
    for table in (TEXTS, VALUES, SUBJECTS, TRANSFORMS, REPUBLISH, ORIGINS, CHANGES, SEQUENCES)
    for name, steps in table.items()
}


def play(asked, model, prefix, steps):
    """Send the steps to both and compare each answer."""
    for operation, name_template, template in steps:
        name, body = name_template.replace("@", prefix), template.replace("@", prefix).encode()
        want = asked.ask(operation, name, body)
        got = model.ask(operation, name, body)
        assert got == want, f"{operation} {name} {body[:500]!r}"
        if "config" in want:
            assert list(got["config"]) == list(want["config"])


@pytest.mark.parametrize("name", STEPS)
def test_configuration_is_answered_as_nats_server_answers(oracle, name):
    server, version = oracle
    play(server, ConfigModel(version), f"C{list(STEPS).index(name)}", STEPS[name])


# What random configurations are made of: values that are right, wrong, and right only beside others.
CHOICES = {
    "description": ["", "text"],
    "subjects": [["@.a"], ["@.a", "@.b.*"], ["@.>"], [], ["@.a", "@.*"]],
    "retention": ["limits", "interest", "workqueue"],
    "max_consumers": [0, 5, -7],
    "max_msgs": [0, 10, -1, -3],
    "max_bytes": [0, 100_000, -9],
    "max_age": [0, SECOND, 3600 * SECOND, 5, -5],
    "max_msgs_per_subject": [0, 1, 5, -4],
    "max_msg_size": [0, 500, -6],
    "discard": ["old", "new"],
    "storage": ["file", "memory"],
    "num_replicas": [0, 1, 3],
    "no_ack": [True, False],
    "duplicate_window": [0, SECOND, 300 * SECOND, 7],
    "compression": ["none", "s2"],
    "first_seq": [0, 10],
    "subject_transform": [
        {"src": "@.*", "dest": "t.@.$1"},
        {"src": ">", "dest": "t.@.>"},
        {"src": "x", "dest": "$1"},
    ],
    "republish": [{"dest": "r.@.>"}, {"src": "@.*", "dest": "r.@.$1"}, {"src": ">", "dest": "@.>"}],
    "mirror": [{"name": "@x"}],
    "sources": [[{"name": "@x"}], [{"name": "@x"}, {"name": "@y", "filter_subject": "q"}]],
    "allow_direct": [True, False],
    "mirror_direct": [True],
    "discard_new_per_subject": [True],
    "sealed": [True, False],
    "deny_delete": [True, False],
    "deny_purge": [True, False],
    "allow_rollup_hdrs": [True, False],
    "consumer_limits": [{"max_ack_pending": 10}, {"inactive_threshold": SECOND}],
    "allow_msg_ttl": [True, False],
    "subject_delete_marker_ttl": [0, SECOND, 10],
    "allow_msg_counter": [True],
    "allow_atomic": [True, False],
    "allow_msg_schedules": [True],
    "persist_mode": ["default", "async"],
    "allow_batched": [True, False],
    "metadata": [{"a": "b"}, {}],
    "pedantic": [True],
}


def random_members(rng, fields):
    """Return some members with some values."""
    names = rng.sample(sorted(CHOICES), rng.randint(0, fields))
    return {name: rng.choice(CHOICES[name]) for name in names}


@pytest.mark.parametrize("seed", [1, 2])
def test_random_configurations_are_answered_as_nats_server_answers(oracle, seed):
    server, version = oracle
    rng = random.Random(seed)
    for index in range(RANDOM_STREAMS):
        before = random_members(rng, 5)
        changes = random_members(rng, 3)
        origin = create(
            "@x", subjects=["@x.>"], allow_direct=rng.random() < 0.5, max_msg_size=rng.choice([0, 400])
        )
        steps = [
            origin,
            create(**before),
            create(**before),
            update(**{**before, **changes}),
            update(**changes),
            update("@x", **random_members(rng, 3)),
        ]
        play(server, ConfigModel(version), f"R{seed}x{index}", steps)
