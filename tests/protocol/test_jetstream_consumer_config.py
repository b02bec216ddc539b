"""Consumers' configurations: midge and nats-server answer the same requests of the API alike, word for word.

A case is a list of requests about a stream of its own, for whose name `@` stands. What differs between two
servers anyhow is taken out of the answers: times, versions, generated names.
"""

import json
import re

import pytest
from support.broker import Broker
from support.jetstream_client import JetStreamClient

pytestmark = pytest.mark.servers("midge-1", "midge-2")

MS, SECOND = 1_000_000, 1_000_000_000
FUTURE = "2099-01-02T03:04:05+02:00"
VARYING = re.compile(
    rb'"(?:created|ts|last_active|pause_remaining|_nats\.ver)":(?:"[^"]*"|\d+),?'
    rb'|"(?:first_ts|last_ts)":"2[^"]*"'
)
GENERATED_NAME = re.compile(rb'"name":"[0-9A-Za-z]{8}"')


@pytest.fixture(scope="module")
def brokers(kind, tmp_path_factory):
    """A connection to the broker under test, and one to nats-server."""
    started = [
        Broker(one, tmp_path_factory.mktemp(one), jetstream=True, max_control_line=8192)
        for one in (kind, "nats-server")
    ]
    clients = [broker.connect().handshake(headers=True, no_responders=True) for broker in started]
    yield [JetStreamClient(client) for client in clients]
    for client, broker in zip(clients, started, strict=True):
        client.close()
        broker.stop()


# ---- requests


def stream(**members):
    """Return the request that makes the stream of a case."""
    return "STREAM.CREATE.@", {"name": "@", "subjects": ["@.>"], **members}


def ask(form="c", *, action="", pedantic=False, stream_name="@", **config):
    """Return a request that makes or changes a consumer.

    Args:
        form: what follows the stream's name in the subject; None: the form without a name.
    """
    body = {"stream_name": stream_name, "config": config}
    if action:
        body["action"] = action
    if pedantic:
        body["pedantic"] = True
    return f"CONSUMER.CREATE.@.{form}" if form else "CONSUMER.CREATE.@", body


def durable(name="c", **config):
    """Return a request in the old form for durable consumers."""
    return f"CONSUMER.DURABLE.CREATE.@.{name}", {"stream_name": "@", "config": config}


def pull(**config):
    """Return a request for a durable pull consumer."""
    return ask(**{"durable_name": "c", "ack_policy": "explicit", **config})


def push(**config):
    """Return a request for a durable push consumer."""
    return ask(**{"durable_name": "c", "deliver_subject": "to.@", **config})


def changed(before, **after):
    """Return a case: a durable pull consumer, and how another configuration changes it."""
    return [stream(), pull(**before), pull(**{**before, **after}), ("CONSUMER.INFO.@.c", b"")]


def raw(text):
    """Return a request with a body of its own."""
    return "CONSUMER.CREATE.@.c", text


FORMS = {
    "plain": [ask(None), ask(None, name="c"), ask(None, name="c"), ask(None, durable_name="c")],
    "named": [ask(), ask(), ask(name="other")],
    "durable": [ask(durable_name="c"), ask(durable_name="d")],
    "old_durable": [durable(durable_name="c"), durable(), durable(durable_name="d"), durable(name="c")],
    "old_durable_other_name": [durable(durable_name="c", ack_policy="explicit")],
    "filter": [
        ask("c.@.a", filter_subject="@.a"),
        ask("c.@.a.b", filter_subject="@.a"),
        ask("d.@.a"),
        ask("d.@.a", filter_subjects=["@.a"]),
        ask("e", filter_subject="@.a"),
        ask("f.@.*.>", filter_subject="@.*.>"),
        ask("g.x.y", filter_subject="x.y"),
    ],
    "stream": [ask(stream_name="other"), ask(stream_name=""), ("CONSUMER.CREATE.@none.c", {})],
    "no_stream": [("CONSUMER.CREATE.@none.c", {"stream_name": "@none"})],
    "separators": [
        ask("a/b"),
        ask("a\\b"),
        ask(None, name="a/b"),
        ask(None, name="a.b"),
        ask(None, name="a>"),
    ],
    "names": [ask("n" * 255), ask("n" * 256), ask(None, name="a b"), durable("a*b", durable_name="a*b")],
    "long_durable": [ask("n" * 255, durable_name="n" * 255), ask("n" * 256, durable_name="n" * 256)],
}
ACTIONS = {
    "unknown": [ask(action="other")],
    "create": [pull(action="create"), pull(action="create"), pull(action="create", description="x")],
    "create_ephemeral": [
        ask(action="create", ack_policy="explicit"),
        ask(action="create", ack_policy="explicit"),
        ask(action="create", ack_policy="explicit", inactive_threshold=5 * SECOND),
    ],
    "update": [pull(action="update"), pull(), pull(action="update", description="x")],
    "metadata_of_servers": [
        pull(metadata={"_nats.ver": "x", "_nats.level": "9", "_nats.req.level": "9", "b": "2", "a": "1"}),
        pull(action="create", metadata={"b": "2", "a": "1"}),
        ("CONSUMER.LIST.@", b""),
    ],
}
JSON = {
    "empty": [raw("")],
    "no_config": [raw('{"stream_name":"@"}')],
    "broken": [raw('{"stream_name":"@",')],
    "unknown_member": [raw('{"stream_name":"@","x":1}')],
    "unknown_in_config": [raw('{"stream_name":"@","config":{"template_owner":"x"}}')],
    "capitals": [raw('{"Stream_Name":"@","CONFIG":{"Durable_Name":"c","ACK_policy":"all"}}')],
    "nulls": [raw('{"stream_name":"@","config":{"backoff":null,"metadata":null,"opt_start_time":null}}')],
    "float": [raw('{"stream_name":"@","config":{"ack_wait":1.5}}')],
    "text_for_number": [raw('{"stream_name":"@","config":{"max_deliver":"1"}}')],
    "bad_time": [raw('{"stream_name":"@","config":{"opt_start_time":"yesterday"}}')],
    "action_number": [raw('{"stream_name":"@","action":1}')],
    **{
        f"{name}_bogus": [ask(**{name: "bogus"}), ask(**{name: 1}), ask(**{name: ""})]
        for name in ("deliver_policy", "ack_policy", "replay_policy", "priority_policy")
    },
    "undefined": [ask(deliver_policy="undefined")],
}
COUNTS = ("max_deliver", "max_waiting", "max_ack_pending", "max_batch", "max_bytes")
DURATIONS = ("max_expires", "idle_heartbeat", "inactive_threshold", "ack_wait", "priority_timeout")
DEFAULTS = {
    **{f"ack_{policy}": [ask(ack_policy=policy)] for policy in ("none", "all", "explicit", "flow_control")},
    **{
        f"{name}_{value}": [pull(**{name: value}), pull(**{name: value}, pedantic=True)]
        for name in COUNTS
        for value in (-2, -1, 0, 7)
    },
    **{f"{name}_{ns}": [pull(**{name: ns})] for name in DURATIONS for ns in (1, 100 * MS, SECOND)},
    **{f"{name}_negative": [pull(**{name: -1})] for name in DURATIONS[:-1]},
    **{f"{name}_pedantic": [pull(**{name: -1}, pedantic=True)] for name in DURATIONS},
    "backoff": [
        pull(backoff=[SECOND, 2 * SECOND], max_deliver=1),
        pull(backoff=[SECOND, 2 * SECOND], max_deliver=2),
        pull(backoff=[SECOND, 2 * SECOND]),
        pull(backoff=[-1]),
        pull(backoff=[]),
        pull(backoff=[SECOND], pedantic=True),
        pull(backoff=[SECOND], ack_wait=SECOND, pedantic=True),
    ],
    "description": [pull(description="d" * 4096), pull(description="é" * 2049)],
    "metadata": [
        pull(metadata={"k": "v" * (128 * 1024 - 17)}),
        pull(metadata={"k": "v" * (128 * 1024 - 16)}),
    ],
    "replicas": [pull(num_replicas=1), pull(num_replicas=2), pull(num_replicas=-1)],
    "memory": [pull(mem_storage=True), pull(mem_storage=False)],
    "headers_only": [pull(headers_only=True)],
    **{
        f"sample_{number}": [pull(sample_freq=text)]
        for number, text in enumerate(("50", "50%", "-1", "x", "%", "1000", "+5", "9" * 30, "5.5", "1_0"))
    },
}
SEQUENCE, TIME = {"opt_start_seq": 2}, {"opt_start_time": FUTURE}
MESSAGES = [(subject, b"text") for subject in ("@.a", "@.b", "@.c", "@.a", "@.c")]
STARTS = {
    policy: [
        *MESSAGES,
        ask(deliver_policy=policy),
        ask(deliver_policy=policy, **SEQUENCE),
        ask(deliver_policy=policy, **TIME),
        ask(deliver_policy=policy, **SEQUENCE, **TIME),
        ask(deliver_policy=policy, opt_start_time="0001-01-01T00:00:00Z"),
        ask("f", deliver_policy=policy, filter_subject="@.a"),
        ask("g", deliver_policy=policy, filter_subjects=["@.a", "@.b"]),
    ]
    for policy in ("all", "last", "new", "by_start_sequence", "by_start_time", "last_per_subject")
}
FILTERS = {
    f"filters_{number}": [ask(filter_subjects=given)]
    for number, given in enumerate(
        (
            [],
            [""],
            ["@.a", ""],
            ["@.a", "@.b"],
            ["@.a", "@.a"],
            ["@.*", "@.a"],
            ["@.*.b", "@.a.*"],
            ["a..b"],
            ["a b"],
            [">"],
            ["elsewhere"],
        )
    )
} | {
    "counted": [*MESSAGES, *(ask(f"c{n}", filter_subject=f"@.{n}") for n in ("a", "b", "*", "x"))],
    "both": [ask(filter_subject="@.a", filter_subjects=["@.b"])],
    "invalid": [ask(filter_subject="a..b"), ask(filter_subject="a.>.b"), ask(filter_subject=">")],
}
PUSH = {
    "plain": [push(), push(ack_policy="explicit", deliver_group="g")],
    "wildcards": [push(deliver_subject="a.*"), push(deliver_subject=">"), push(deliver_subject="a..b")],
    "cycle": [push(deliver_subject="@.x")],
    "ack_none_pending": [push(max_ack_pending=5), push(max_ack_pending=-1)],
    "waiting": [push(max_waiting=5)],
    "heartbeats": [push(idle_heartbeat=99 * MS), push(idle_heartbeat=100 * MS), push(idle_heartbeat=-1)],
    "flow_control": [push(flow_control=True), push(flow_control=True, idle_heartbeat=SECOND)],
    "rate": [push(rate_limit_bps=8000), pull(rate_limit_bps=8000)],
    "direct": [ask(direct=True), push(direct=True), ("CONSUMER.NAMES.@", b"")],
    "pull_only": [push(max_batch=5, max_expires=SECOND, max_bytes=5), pull(max_expires=MS - 1)],
    "push_only": [pull(flow_control=True), pull(idle_heartbeat=SECOND), pull(deliver_group="g")],
    "ack_flow_control": [
        push(ack_policy="flow_control"),
        push(ack_policy="flow_control", pedantic=True),
        push(ack_policy="flow_control", flow_control=True, pedantic=True),
        push(ack_policy="flow_control", ack_wait=SECOND),
        push(ack_policy="flow_control", backoff=[SECOND]),
        push(ack_policy="flow_control", max_deliver=3),
        push(ack_policy="flow_control", max_ack_pending=-1),
    ],
}
GROUP = {"priority_groups": ["A"]}
PRIORITY = {
    **{
        policy: [
            ask(priority_policy=policy),
            ask(priority_policy=policy, **GROUP),
            ask(priority_policy=policy, priority_groups=[""]),
            ask(priority_policy=policy, priority_groups=["a b"]),
            ask(priority_policy=policy, priority_groups=["n" * 17]),
            push(priority_policy=policy, **GROUP),
            ask("t", priority_policy=policy, priority_timeout=SECOND, **GROUP),
        ]
        for policy in ("none", "overflow", "pinned_client", "prioritized")
    },
    "groups_alone": [ask(**GROUP), ask(priority_timeout=SECOND)],
}
QUEUE = {
    "ack": [ask(ack_policy="none"), ask(ack_policy="all"), push(ack_policy="none"), push(ack_policy="all")],
    "deliver": [pull(deliver_policy="new"), pull(deliver_policy="last")],
    "unfiltered": [
        pull(),
        pull(),
        ask("d", ack_policy="explicit"),
        ask("e.@.a", filter_subject="@.a", ack_policy="explicit"),
    ],
    "filtered": [
        pull(filter_subject="@.a"),
        ask("d", ack_policy="explicit"),
        ask("d", ack_policy="explicit", filter_subject="@.*"),
        ask("d", ack_policy="explicit", filter_subjects=["@.b", "@.c"]),
        ask("d", ack_policy="explicit", filter_subjects=["@.b", "@.a"]),
        ask("d", ack_policy="explicit"),
    ],
}
LIMITED = {
    "max_consumers": [
        stream(max_consumers=1),
        pull(),
        ask("d"),
        pull(),
        ("CONSUMER.DELETE.@.c", b""),
        ask("d"),
    ],
    "limits": [
        stream(consumer_limits={"max_ack_pending": 10, "inactive_threshold": SECOND}),
        pull(),
        pull(max_ack_pending=11),
        pull(inactive_threshold=SECOND + 1),
        pull(max_ack_pending=-1),
        ask("e", ack_policy="none"),
        ask("f", deliver_subject="x"),
        pull(pedantic=True),
        pull(max_ack_pending=5, pedantic=True),
    ],
    "later_limits": [
        stream(),
        pull(),
        ("STREAM.UPDATE.@", {"name": "@", "subjects": ["@.>"], "consumer_limits": {"max_ack_pending": 10}}),
        ("STREAM.UPDATE.@", {"name": "@", "subjects": ["@.>"], "consumer_limits": {"max_ack_pending": 1000}}),
        ("STREAM.INFO.@", b""),
    ],
    "updated_filter": [
        stream(),
        *MESSAGES,
        pull(filter_subject="@.a"),
        pull(filter_subject="@.c"),
        pull(filter_subjects=["@.c", "@.b"]),
        pull(),
        ("CONSUMER.INFO.@.c", b""),
    ],
    "interest": [
        stream(retention="interest"),
        pull(num_replicas=1),
        ask(),
        push(),
        pull(deliver_policy="new"),
    ],
    "memory_stream": [stream(storage="memory"), pull(), ("CONSUMER.INFO.@.c", b"")],
}
UPDATES = {
    f"update_{name}": changed({}, **{name: value})
    for name, value in {
        "description": "x",
        "deliver_policy": "new",
        "ack_policy": "all",
        "ack_wait": SECOND,
        "max_deliver": 5,
        "backoff": [SECOND],
        "filter_subject": "@.a",
        "filter_subjects": ["@.a", "@.b"],
        "replay_policy": "original",
        "sample_freq": "10",
        "max_waiting": 5,
        "max_ack_pending": 5,
        "headers_only": True,
        "max_batch": 5,
        "max_expires": SECOND,
        "max_bytes": 5,
        "deliver_subject": "x",
        "inactive_threshold": SECOND,
        "mem_storage": True,
        "direct": True,
        "metadata": {"a": "b"},
        "pause_until": FUTURE,
        "opt_start_seq": 5,
        "priority_timeout": SECOND,
    }.items()
} | {
    "update_start": changed({"deliver_policy": "by_start_sequence", "opt_start_seq": 2}, opt_start_seq=3),
    "update_time": changed(
        {"deliver_policy": "by_start_time", "opt_start_time": FUTURE}, opt_start_time="2098-01-01T00:00:00Z"
    ),
    "update_same_time": changed(
        {"deliver_policy": "by_start_time", "opt_start_time": FUTURE}, opt_start_time="2099-01-02T01:04:05Z"
    ),
    "update_to_priority": changed({}, priority_policy="overflow", priority_groups=["A"]),
    "update_push": [
        stream(),
        push(idle_heartbeat=SECOND),
        push(idle_heartbeat=2 * SECOND),
        push(idle_heartbeat=SECOND, flow_control=True),
        push(idle_heartbeat=SECOND, deliver_subject="y.@"),
        push(idle_heartbeat=SECOND, deliver_group="g"),
        pull(),
    ],
    "update_ephemeral": [stream(), ask(inactive_threshold=9 * SECOND), ask(), ask(inactive_threshold=SECOND)],
}
CALLS = {
    "pause": [
        stream(),
        pull(),
        ("CONSUMER.PAUSE.@.c", {"pause_until": FUTURE}),
        pull(description="x"),
        ("CONSUMER.INFO.@.c", b""),
        ("CONSUMER.PAUSE.@.c", {"pause_until": "2001-01-01T00:00:00Z"}),
        ("CONSUMER.INFO.@.c", b""),
        ("CONSUMER.PAUSE.@.c", b""),
        ("CONSUMER.INFO.@.c", b""),
        ("CONSUMER.PAUSE.@.c", b"{x"),
        ("CONSUMER.PAUSE.@.c", b"x"),
        ("CONSUMER.PAUSE.@.d", b""),
        ("CONSUMER.PAUSE.@x.d", b""),
        ask("p", pause_until=FUTURE),
        ask("q", pause_until="2001-01-01T00:00:00Z"),
    ],
    "unpin": [
        stream(),
        ask(priority_policy="pinned_client", priority_groups=["A", "B"]),
        *(
            ("CONSUMER.UNPIN.@.c", body)
            for body in (b"", b"x", {}, {"group": ""}, {"group": "a b"}, {"group": "C"})
        ),
        ("CONSUMER.UNPIN.@.c", {"group": "A", "x": 1}),
        ("CONSUMER.UNPIN.@.d", {"group": "A"}),
        ("CONSUMER.UNPIN.@x.d", {"group": "A"}),
    ],
    "reset": [
        stream(),
        *MESSAGES,
        pull(),
        ask("new", deliver_policy="new"),
        ask("seq", deliver_policy="by_start_sequence", opt_start_seq=5),
        ask("time", deliver_policy="by_start_time", opt_start_time=FUTURE),
        *(
            (f"CONSUMER.RESET.@.{name}", body)
            for name in ("c", "new", "seq", "time")
            for body in (b"", b"x", b"{}", {"seq": 3}, {"seq": 9})
        ),
    ],
    "questions": [
        stream(),
        ("CONSUMER.NAMES.@", b""),
        ("CONSUMER.LIST.@", b""),
        *(ask(f"c{number}") for number in range(5)),
        *(
            (f"CONSUMER.{call}.@", {"offset": offset})
            for call in ("NAMES", "LIST")
            for offset in (-1, 0, 3, 5, 9)
        ),
        ("CONSUMER.NAMES.@", b"text"),
        ("CONSUMER.NAMES.@", b"{x"),
        ("CONSUMER.LIST.@", {"x": 1}),
        ("CONSUMER.NAMES.@x", b""),
        ("CONSUMER.LIST.@x", b""),
        ("CONSUMER.INFO.@.c9", b""),
        ("CONSUMER.INFO.@x.c9", b""),
        ("CONSUMER.INFO.@.c1", b"x"),
        ("CONSUMER.INFO.@.c1", b"{}"),
        ("CONSUMER.DELETE.@.c1", b"x"),
        ("CONSUMER.DELETE.@.c9", b""),
        ("CONSUMER.DELETE.@x.c9", b""),
        ("CONSUMER.DELETE.@.c1", b""),
        ("CONSUMER.NAMES.@", b""),
        ("STREAM.INFO.@", b""),
        ("CONSUMER.LEADER.STEPDOWN.@.c2", b""),
        ("CONSUMER.PEER.REMOVE.@.c2", b""),
        ("CONSUMER.PEER.EVACUATE.@.c2", b""),
    ],
}
# In memory, because nothing waits for the disk there.
IN_MEMORY = {"json": JSON, "defaults": DEFAULTS, "starts": STARTS, "filters": FILTERS, "push": PUSH}
IN_MEMORY |= {"priority": PRIORITY}
TABLES = {
    **{
        table: {name: [stream(storage="memory"), *requests] for name, requests in cases.items()}
        for table, cases in IN_MEMORY.items()
    },
    "forms": {name: [stream(), *requests] for name, requests in FORMS.items()},
    "actions": {name: [stream(), *requests] for name, requests in ACTIONS.items()},
    "queue": {name: [stream(retention="workqueue"), *requests] for name, requests in QUEUE.items()},
    "limited": LIMITED,
    "updates": UPDATES,
    "calls": CALLS,
}


# ---- the comparison


def normalized(answer):
    """Return an answer without what differs between any two servers."""
    text = VARYING.sub(b"", answer)
    text = GENERATED_NAME.sub(b'"name":"generated"', text).replace(b",}", b"}")
    return re.sub(rb'"leader":"[^"]*"', b'"leader":""', text)


def answers(client, requests, name):
    """Return what a broker answers to the requests of a case."""
    found = []
    for subject, body in requests:
        text = body if isinstance(body, bytes | str) else json.dumps(body)
        text = text if isinstance(text, bytes) else text.encode()
        # A subject of the stream itself: a message.
        prefix = "" if subject.startswith("@") else "$JS.API."
        [answer] = client.ask(prefix + subject.replace("@", name), text.replace(b"@", name.encode()))
        found.append(normalized(answer.payload))
    return found


@pytest.mark.parametrize("table", TABLES)
def test_consumers_are_configured_as_by_nats_server(brokers, table):
    for number, (case, requests) in enumerate(TABLES[table].items()):
        name = f"{table}{number}"
        midge, oracle = (answers(client, requests, name) for client in brokers)
        for request, ours, theirs in zip(requests, midge, oracle, strict=True):
            assert ours == theirs, (case, request)
