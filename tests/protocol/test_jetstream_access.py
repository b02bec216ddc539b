"""Reading, deleting and purging stored messages: midge answers what nats-server answers, byte for byte.

Each test puts the same requests to both, with a stream of its own. The tables hold every form of request;
what must come is asked of nats-server and not written down here.
"""

import itertools
from collections.abc import Callable, Iterator

import pytest
from support.broker import Broker
from support.jetstream_access import StreamAccess

pytestmark = pytest.mark.servers("midge-1", "midge-2", "midge-4")

Pair = tuple[StreamAccess, StreamAccess]

_names = (f"ACCESS{number}" for number in itertools.count())


@pytest.fixture(params=["file", "memory"])
def open_pair(
    request: pytest.FixtureRequest, jetstream_server: Broker, jetstream_oracle: Broker
) -> Iterator[Callable[..., Pair]]:
    """A function that makes the same stream on both brokers."""
    opened: list[StreamAccess] = []

    def open_both(**config: object) -> Pair:
        name = next(_names)
        settings = {"storage": request.param, **config}
        pair = (
            StreamAccess(jetstream_server, name, **settings),
            StreamAccess(jetstream_oracle, name, **settings),
        )
        opened.extend(pair)
        return pair

    yield open_both
    for stream in opened:
        stream.close()


def fill(stream: StreamAccess, deleted: tuple[int, ...] = ()) -> StreamAccess:
    """Store twelve messages on <a|b|c>.<0|1>, every fourth with headers, and delete some."""
    for number in range(1, 13):
        headers = () if number % 4 else (("A", "b"),)
        stream.publish(f"{'abc'[number % 3]}.{number % 2}", b"p%d" % number, headers)
    stream.learn_times()
    for sequence in deleted:
        assert '"success":true' in stream.call("STREAM.MSG.DELETE", f'{{"seq":{sequence}}}')
    return stream


@pytest.fixture
def filled(open_pair: Callable[..., Pair]) -> Pair:
    """Both streams with twelve messages of which the first, the last and one between have been deleted."""
    tested, oracle = open_pair()
    return fill(tested, (1, 5, 12)), fill(oracle, (1, 5, 12))


def compare(pair: Pair, ask: Callable[[StreamAccess, str], object], requests: tuple[str, ...]) -> None:
    """Put each request to both streams, midge first; their answers must be the same."""
    tested, oracle = pair
    for request in requests:
        assert ask(tested, request) == ask(oracle, request), request


GET_REQUESTS = (
    '{"seq":2}',
    '{"seq":8}',
    '{"seq":8,"no_hdr":true}',
    '{"seq":5}',
    '{"seq":0}',
    '{"seq":99}',
    '{"seq":18446744073709551615}',
    '{"seq":18446744073709551616}',
    '{"seq":-1}',
    '{"seq":1e0}',
    '{"seq":2.0}',
    '{"seq":"2"}',
    '{"SEQ":2}',
    '{"seq":2,"bogus":1}',
    '{"seq":2}{"seq":3}',
    '{"seq":2}x',
    '{"seq":2',
    ' {"seq" : 2 } ',
    "",
    "{}",
    " { } ",
    "null",
    "[]",
    "x",
    '"x"',
    '{"no_hdr":true}',
    '{"seq":2,"no_hdr":"x"}',
    '{"last_by_subj":"%s.a.0"}',
    '{"last_by_subj":"%s.c.0"}',
    '{"last_by_subj":"%s.*.1"}',
    '{"last_by_subj":"%s.>"}',
    '{"last_by_subj":">"}',
    '{"last_by_subj":"nope"}',
    '{"last_by_subj":"a..b"}',
    '{"last_by_subj":"%s.>.x"}',
    '{"last_by_subj":" "}',
    '{"last_by_subj":""}',
    '{"last_by_subj":5}',
    '{"next_by_subj":"%s.a.*"}',
    '{"next_by_subj":"%s.a.*","seq":4}',
    '{"next_by_subj":"%s.a.0","seq":7}',
    '{"next_by_subj":"%s.>","seq":99}',
    '{"next_by_subj":">","seq":5}',
    '{"next_by_subj":"%s.>.x","seq":1}',
    '{"next_by_subj":"%s.c.0","start_time":"@T3@"}',
    '{"start_time":"@T3@"}',
    '{"start_time":"@T3+1@"}',
    '{"start_time":"@T5@"}',
    '{"start_time":"@T12@"}',
    '{"start_time":"2000-01-01T00:00:00Z"}',
    '{"start_time":"2000-01-01T00:00:00+02:00"}',
    '{"start_time":"2100-01-01T00:00:00Z"}',
    '{"start_time":"0001-01-01T00:00:00Z"}',
    '{"start_time":"bogus"}',
    '{"start_time":5}',
    '{"start_time":null}',
    '{"seq":2,"last_by_subj":"%s.a.0"}',
    '{"seq":2,"start_time":"@T3@"}',
    '{"start_time":"@T3@","last_by_subj":"x"}',
    '{"last_by_subj":"x","next_by_subj":"y"}',
    '{"seq":2,"batch":1}',
    '{"seq":2,"batch":0}',
    '{"seq":2,"batch":-1}',
    '{"seq":2,"max_bytes":1}',
    '{"seq":2,"max_bytes":-1}',
    '{"seq":2,"multi_last":["x"]}',
    '{"multi_last":["%s.>"]}',
    '{"multi_last":"x"}',
    '{"up_to_seq":5}',
    '{"seq":2,"up_to_seq":1,"up_to_time":"@T2@"}',
)


def test_msg_get(filled: Pair) -> None:
    compare(filled, lambda stream, body: stream.call("STREAM.MSG.GET", body), GET_REQUESTS)


def test_msg_get_of_a_missing_stream_checks_the_request_first(filled: Pair) -> None:
    for call, body in itertools.product(
        ("MSG.GET", "MSG.DELETE", "PURGE"),
        ("", "{}", '{"seq":1}', '{"x":1}', "[]", '{"seq":1,"keep":1}', '{"seq":1,"batch":1}'),
    ):
        answers = [
            stream.client.ask(f"$JS.API.STREAM.{call}.NOSUCH", body.encode())[0].payload for stream in filled
        ]
        assert answers[0] == answers[1], (call, body)


DELETE_REQUESTS = (
    '{"seq":5}',
    '{"seq":0}',
    '{"seq":1}',
    '{"seq":12}',
    '{"seq":13}',
    '{"seq":99}',
    '{"seq":-1}',
    '{"seq":"1"}',
    '{"seq":1.0}',
    '{"seq":2,"x":2}',
    "",
    "{}",
    " { } ",
    "null",
    "[]",
    "x",
    '{"no_erase":true}',
    '{"seq":4,"no_erase":true}',
    '{"seq":2}',
    '{"seq":2}',
    '{"seq":9} {"no_erase":true}',
    '{"SEQ":10}',
    '{"seq":11,"no_erase":false}',
)


def test_msg_delete(filled: Pair) -> None:
    compare(
        filled,
        lambda stream, body: (stream.call("STREAM.MSG.DELETE", body), stream.state(), stream.stored()),
        DELETE_REQUESTS,
    )


PURGE_REQUESTS = (
    ("", ()),
    ("", (1, 12)),
    ("", tuple(range(1, 13))),
    ("{}", ()),
    ("x", ()),
    ("null", ()),
    ("[]", ()),
    ('{"bogus":1}', ()),
    ('{"seq":-1}', ()),
    ('{"filter":5}', ()),
    ('{"seq":0}', ()),
    ('{"seq":1}', ()),
    ('{"seq":2}', ()),
    (' {"seq":3}', ()),
    ('{"seq":5}', (1, 4, 5)),
    ('{"seq":3}', (1, 2, 3, 4)),
    ('{"seq":12}', (12,)),
    ('{"seq":13}', ()),
    ('{"seq":50}', ()),
    ('{"keep":3}', ()),
    ('{"keep":3}', (11, 12)),
    ('{"keep":0}', ()),
    ('{"keep":99}', ()),
    ('{"keep":3,"seq":3}', ()),
    ('{"keep":3,"seq":0}', ()),
    ('{"filter":"%s.a.*"}', ()),
    ('{"filter":"%s.a.0"}', ()),
    ('{"filter":"%s.>"}', ()),
    ('{"filter":">"}', ()),
    ('{"filter":">","seq":5}', ()),
    ('{"filter":">","keep":5}', ()),
    ('{"filter":"%s.>","seq":50}', ()),
    ('{"filter":"%s.>","keep":2}', ()),
    ('{"filter":"%s.a.*","seq":7}', ()),
    ('{"filter":"%s.a.*","seq":1}', ()),
    ('{"filter":"%s.a.*","keep":1}', ()),
    ('{"filter":"%s.*.0","keep":2}', (10,)),
    ('{"filter":"nope","seq":5}', ()),
    ('{"filter":"a..b"}', ()),
    ('{"filter":"%s.>.x"}', ()),
)


@pytest.mark.parametrize(("body", "deleted"), PURGE_REQUESTS)
def test_purge(open_pair: Callable[..., Pair], body: str, deleted: tuple[int, ...]) -> None:
    outcomes = []
    for stream in open_pair():
        fill(stream, deleted)
        answer = stream.call("STREAM.PURGE", body)
        after = stream.state(), stream.stored()
        stream.publish("next", b"x")
        outcomes.append((answer, after, stream.state(), stream.stored()))
    assert outcomes[0] == outcomes[1]


def test_configuration_may_forbid_deleting(open_pair: Callable[..., Pair]) -> None:
    for settings in ({"deny_delete": True}, {"deny_purge": True}):
        pair = open_pair(**settings)
        for stream in pair:
            fill(stream)
        for call in ("STREAM.MSG.DELETE", "STREAM.PURGE"):
            answers = [stream.call(call, '{"seq":3}') for stream in pair]
            assert answers[0] == answers[1], (settings, call)


DIRECT_REQUESTS = (
    '{"seq":2}',
    '{"seq":8}',
    '{"seq":8,"no_hdr":true}',
    '{"seq":2,"no_hdr":true}',
    '{"seq":5}',
    '{"seq":1}',
    '{"seq":99}',
    '{"seq":18446744073709551615}',
    '{"seq":0}',
    '{"seq":-1}',
    '{"seq":1.5}',
    '{"seq":02}',
    '{"SEQ":2}',
    '{"seq":2,"bogus":1}',
    '{"seq":2}{"seq":3}',
    ' {"seq" : 2 } ',
    '{"seq":2}x',
    '{"seq":2,}',
    '{"seq":2',
    '{"seq":2,"max_bytes":1}',
    "",
    " ",
    "{}",
    "null",
    "[]",
    '"x"',
    "x",
    '{"no_hdr":true}',
    '{"last_by_subj":"%s.a.0"}',
    '{"last_by_subj" :\t"%s.a.0" }\n',
    '{"last_by_subj":"%s.*.0"}',
    '{"last_by_subj":">"}',
    '{"last_by_subj":"%s.>"}',
    '{"last_by_subj":"%s.a.0>"}',
    '{"last_by_subj":"nope"}',
    '{"last_by_subj":""}',
    '{"last_by_subj":"%s.a.0","no_hdr":true}',
    '{"last_by_subj":"%s.a.0","max_bytes":5}',
    '{"last_by_subj":"%s.a.0","up_to_seq":3}',
    '{"next_by_subj":"%s.a.0"}',
    '{"next_by_subj":"%s.b.*","seq":5}',
    '{"next_by_subj":"%s.b.*","start_time":"@T5@"}',
    '{"next_by_subj":">","seq":5}',
    '{"start_time":"@T5@"}',
    '{"start_time":"@T4+1@"}',
    '{"start_time":"2000-01-01T00:00:00Z"}',
    '{"start_time":"2100-01-01T00:00:00Z"}',
    '{"start_time":"x"}',
    '{"up_to_seq":4}',
    '{"up_to_time":"@T2@"}',
    '{"seq":2,"last_by_subj":"x"}',
    '{"seq":2,"start_time":"@T2@"}',
    '{"last_by_subj":"x","start_time":"@T2@"}',
    '{"last_by_subj":"x","next_by_subj":"y"}',
    '{"up_to_seq":1,"up_to_time":"@T2@","seq":1}',
)

BATCH_REQUESTS = (
    '{"batch":3}',
    '{"last_by_subj":"x","batch":1}',
    '{"last_by_subj":"%s.a.0","batch":-1}',
    '{"seq":2,"batch":"x"}',
    '{"seq":2,"batch":1.5}',
    '{"seq":2,"batch":3}',
    '{"seq":1,"batch":1}',
    '{"seq":4,"batch":2}',
    '{"seq":4,"batch":2,"no_hdr":true}',
    '{"seq":10,"batch":9}',
    '{"seq":12,"batch":1}',
    '{"seq":12,"batch":2}',
    '{"seq":99,"batch":2}',
    '{"seq":2,"batch":-1}',
    '{"start_time":"2100-01-01T00:00:00Z","batch":2}',
    '{"next_by_subj":"%s.a.*","batch":2}',
    '{"next_by_subj":"%s.a.*","batch":20}',
    '{"next_by_subj":"%s.a.*","seq":6,"batch":20}',
    '{"next_by_subj":"nope","batch":20}',
    '{"next_by_subj":">","batch":2,"seq":6}',
    '{"start_time":"@T6@","batch":2}',
    '{"next_by_subj":"%s.b.*","start_time":"@T5@","batch":2}',
    '{"seq":2,"batch":9,"max_bytes":1}',
    '{"seq":2,"batch":9,"max_bytes":40}',
    '{"seq":2,"batch":9,"max_bytes":-1}',
    '{"next_by_subj":"%s.a.0","max_bytes":10,"batch":5}',
    '{"seq":2,"batch":2,"up_to_seq":1}',
)

MULTI_REQUESTS = (
    '{"multi_last":["%s.>"]}',
    '{"multi_last":[">"]}',
    '{"multi_last":["%s.a.0","%s.b.*"]}',
    '{"multi_last":["%s.a.0","%s.a.0"]}',
    '{"multi_last":["nope"]}',
    '{"multi_last":["nope","%s.a.0"]}',
    '{"multi_last":[]}',
    '{"multi_last":[""]}',
    '{"multi_last":[null]}',
    '{"multi_last":"x"}',
    '{"multi_last":["%s.>.x"]}',
    '{"multi_last":["%s.>"],"batch":2}',
    '{"multi_last":["%s.>"],"batch":-2}',
    '{"multi_last":["%s.>"],"batch":6}',
    '{"multi_last":["%s.>"],"max_bytes":40}',
    '{"multi_last":["%s.>"],"seq":9}',
    '{"multi_last":["%s.>"],"seq":99}',
    '{"multi_last":["%s.>"],"up_to_seq":7}',
    '{"multi_last":["%s.>"],"up_to_seq":2}',
    '{"multi_last":["%s.>"],"up_to_seq":1}',
    '{"multi_last":["%s.>"],"up_to_seq":99}',
    '{"multi_last":["%s.>"],"up_to_time":"@T7@"}',
    '{"multi_last":["%s.>"],"up_to_time":"@T7+1@"}',
    '{"multi_last":["%s.>"],"up_to_time":"@T2@"}',
    '{"multi_last":["%s.>"],"up_to_time":"@T1@"}',
    '{"multi_last":["%s.>"],"up_to_time":"2100-01-01T00:00:00Z"}',
    '{"multi_last":["%s.>"],"no_hdr":true}',
    '{"multi_last":["%s.>"],"start_time":"@T7@"}',
    '{"multi_last":["%s.>"],"last_by_subj":"x"}',
    '{"multi_last":["%s.>"],"next_by_subj":"x"}',
    '{"multi_last":["%s.>"],"up_to_time":"@T7@","up_to_seq":3}',
    '{"multi_last":["%s.a.*","%s.*.0"],"seq":4,"up_to_seq":9,"batch":2}',
)


@pytest.mark.parametrize(
    "requests", [DIRECT_REQUESTS, BATCH_REQUESTS, MULTI_REQUESTS], ids=["one", "batch", "multi"]
)
def test_direct_get(filled: Pair, requests: tuple[str, ...]) -> None:
    compare(filled, lambda stream, body: stream.direct(body), requests)


@pytest.mark.parametrize("key", ["%s.a.0", "%s.c.0", "%s.a.*", "%s.>", ">", "nope", "%s..x"])
def test_direct_get_with_the_subject_in_the_request_subject(filled: Pair, key: str) -> None:
    bodies = (
        "",
        " ",
        "{}",
        "null",
        "x",
        "[]",
        '{"no_hdr":true}',
        '{"seq":0}',
        '{"seq":1}',
        '{"max_bytes":1}',
        '{"last_by_subj":"x"}',
        '{"next_by_subj":"x"}',
        '{"up_to_seq":1}',
        '{"up_to_time":"@T2@"}',
        '{"start_time":"@T2@"}',
    )
    compare(filled, lambda stream, body: stream.direct(body, key), bodies)
    for body in ('{"batch":1}', '{"batch":-1}', '{"multi_last":["x"]}'):
        compare(filled, lambda stream, body: stream.direct(body, key)[:1], (body,))


@pytest.mark.parametrize(
    "headers",
    [
        (("A", "b"),),
        *((("Nats-Required-Api-Level", level),) for level in ("99", "6", "5", "1", "-5", "x", "1 ", "")),
        (("nats-required-api-level", "99"),),
        (("A", "b"), ("Nats-Required-Api-Level", "99")),
    ],
)
def test_required_api_level(filled: Pair, headers: tuple[tuple[str, str], ...]) -> None:
    compare(filled, lambda stream, body: stream.direct(body, "", headers), ("", '{"seq":2}', "x"))
    compare(filled, lambda stream, key: stream.direct("", key, headers), ("%s.a.0",))
    compare(filled, lambda stream, body: stream.call("STREAM.MSG.GET", body, headers), ('{"seq":2}', "{}"))


def test_stored_headers_are_kept_as_they_are(open_pair: Callable[..., Pair]) -> None:
    headers = (
        (("A", ""),),
        (("a", "1"), ("A", "2"), ("A", "3")),
        (("Nats-Sequence", "7"), ("Nats-Subject", "x")),
        (("Long", "x" * 20_000),),
    )
    pair = open_pair()
    for stream in pair:
        for number, lines in enumerate(headers):
            stream.publish(f"h.{number}", b"", lines)
        stream.learn_times()
    keys = tuple(f"%s.h.{number}" for number in range(len(headers)))
    compare(pair, lambda stream, key: stream.direct("", key), keys)
    compare(pair, lambda stream, body: stream.direct(body), ('{"seq":1,"batch":9}',))
    compare(pair, lambda stream, body: stream.call("STREAM.MSG.GET", body), ('{"seq":2}', '{"seq":3}'))


def test_payloads_of_all_sizes(open_pair: Callable[..., Pair]) -> None:
    pair = open_pair(compression="s2")
    for stream in pair:
        for size in (0, 1, 100, 20_000, 1_000_000):
            stream.publish(f"size.{size}", bytes(number % 251 for number in range(size)))
        stream.learn_times()
    keys = tuple(f"%s.size.{size}" for size in (0, 1, 100, 20_000, 1_000_000))
    compare(pair, lambda stream, key: stream.direct("", key), keys)
    compare(pair, lambda stream, body: stream.direct(body), ('{"seq":1,"batch":9}', '{"multi_last":[">"]}'))
    compare(pair, lambda stream, body: stream.call("STREAM.MSG.GET", body), ('{"seq":1}', '{"seq":4}'))


def test_empty_stream(open_pair: Callable[..., Pair]) -> None:
    pair = open_pair()
    compare(pair, lambda stream, body: stream.direct(body), (*DIRECT_REQUESTS[:4], '{"last_by_subj":">"}'))
    times = tuple(f'{{"start_time":"{year}-01-01T00:00:00Z"}}' for year in (2000, 2100))
    compare(pair, lambda stream, body: stream.call("STREAM.MSG.GET", body), times)
    compare(
        pair,
        lambda stream, body: stream.direct(body),
        (
            '{"seq":1,"batch":2}',
            '{"seq":1,"batch":-1}',
            '{"multi_last":[">"]}',
            '{"multi_last":[">"],"up_to_seq":1}',
            '{"multi_last":[">"],"up_to_time":"2100-01-01T00:00:00Z"}',
        ),
    )
    compare(
        pair,
        lambda stream, body: (stream.call("STREAM.MSG.DELETE", body), stream.call("STREAM.PURGE", body)),
        ('{"seq":1}', '{"seq":20}', '{"seq":5}'),
    )
    assert pair[0].state() == pair[1].state()


def test_direct_get_is_answered_only_where_it_is_allowed(open_pair: Callable[..., Pair]) -> None:
    pair = open_pair(allow_direct=False)
    for stream in pair:
        fill(stream)
    compare(pair, lambda stream, body: stream.direct(body), ('{"seq":2}', "", "x"))
    compare(pair, lambda stream, key: stream.direct("", key), ("%s.a.0",))
    for allow_direct in (True, False):
        for stream in pair:
            config = stream.client.info(stream.name)["config"]
            answer = stream.client.api(
                f"STREAM.UPDATE.{stream.name}", {**config, "allow_direct": allow_direct}
            )
            assert "error" not in answer
        compare(pair, lambda stream, body: stream.direct(body), ('{"seq":2}',))


def test_long_batch_and_many_subjects(open_pair: Callable[..., Pair]) -> None:
    pair = open_pair()
    for stream in pair:
        for number in range(1100):
            stream.raw.send(f"PUB {stream.name}.k.{number} 2\r\n{number % 100:02d}\r\n".encode())
        stream.publish("k.0", b"end")
        stream.learn_times()
    requests = (
        '{"seq":1,"batch":5000}',
        '{"next_by_subj":"%s.k.*","batch":700,"seq":300}',
        '{"seq":1,"batch":5000,"no_hdr":true}',
        '{"multi_last":["%s.k.*"]}',
        '{"multi_last":["%s.k.*"],"up_to_seq":1000}',
        '{"multi_last":["%s.k.*"],"up_to_seq":1024,"seq":3}',
        '{"multi_last":["%s.k.*"],"up_to_seq":1025}',
    )
    compare(pair, lambda stream, body: stream.direct(body), requests)
