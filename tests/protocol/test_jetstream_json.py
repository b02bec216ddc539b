"""Bodies that are no configuration: brokers refuse each in the same words as midge's reader."""

import json

import pytest
from support.broker import Broker

from workers.jetstream.apierrors import ApiError
from workers.jetstream.stream_config import StreamConfig

SUBJECT = b"$JS.API.STREAM.CREATE.NOBODY"
DEEP = 10_001

TRUNCATED = [
    "{",
    '{"name"',
    '{"name":',
    '{"name":"A"',
    '{"a":tr',
    '"x',
    "tru",
    "nul",
    "[1",
    "-",
    "1.",
    "{}{",
    r'{"name":"\u1',
]
MISPLACED = [
    '{"name":"A",}',
    '{"name":"A"}x',
    '{"name":"A"} x',
    '{"name":"A" "x":1}',
    '{"name" 1}',
    "{1:2}",
    "{name:1}",
    "{,}",
    '{"a":}',
    '{"a":1,,}',
    '{"subjects":[1 2]}',
    '{"subjects":["a",]}',
    '{"subjects":[,]}',
    '{"subjects":[}',
    '{"name":"A"]',
    "[1}",
    ",",
    "}",
    "]",
    "/",
    "'x'",
    "é",
    "\ufeff{}",
    "\u2028",
    "\x0b{}",
    '{"name":"A"\x00}',
    '{"name":nulx}',
    '{"name":trux}',
    '{"a":fals1}',
    "[" * DEEP,
    '{"a":' * DEEP,
]
NUMBERS = [
    f'{{"max_msgs":{number}}}'
    for number in (
        "01",
        "-",
        "-x",
        "1.x",
        "1e",
        "1e+x",
        ".5",
        "+5",
        "00",
        "1x",
        "1.0",
        "1e3",
        "-0",
        "1" * 5000,
    )
]
NUMBERS += ['{"max_msgs":9223372036854775808}', '{"first_seq":18446744073709551616}', '{"first_seq":-1}']
NUMBERS += ['{"max_msg_size":2147483648}', '{"first_seq":1.5}', '{"MAX_Msgs":1.5}', "1x", "1 "]
STRINGS = [
    '{"name":"A\x01"}',
    '{"name":"\x7f"}',
    r'{"name":"\x"}',
    r'{"name":"\u12G4"}',
    r'{"name":"\u"}',
    r'{"name":"\ud800\u0041"}',
    r'{"name":"\ud800x"}',
    r'{"name":"\ud800\x"}',
    r'{"name":"\ud83d\ude00"}',
    '{"name":"\\\n"}',
    b'{"name":"A\xff"}',
    b'{"a"\xff}',
    b'{"\xe2\x82x\xf0\x9f":1}',
]
TYPES = [
    f'{{"{name}":{value}}}'
    for name in (
        "name",
        "subjects",
        "max_msgs",
        "max_age",
        "no_ack",
        "mirror",
        "sources",
        "metadata",
        "consumer_limits",
        "subject_transform",
        "republish",
        "placement",
        "retention",
        "discard",
        "storage",
        "compression",
        "persist_mode",
    )
    for value in ("5", '"x"', "true", "null", "[]", "{}", "[5]", '{"a":5}', "[null]", '""')
]
NESTED = [
    '{"mirror":{"name":1}}',
    '{"sources":[{"name":1}]}',
    '{"sources":[{},{"opt_start_time":"x"}]}',
    '{"sources":[{"opt_start_time":5}]}',
    '{"sources":[{"subject_transforms":[{"src":5}]}]}',
    '{"sources":[{"subject_transforms":[5]}]}',
    '{"sources":[{"external":{"api":5}}]}',
    '{"mirror":{"consumer":5}}',
    '{"placement":{"tags":5}}',
    '{"metadata":{"a/b.~c":1}}',
    '{"metadata":{"":1}}',
    '{"metadata":{"5":1}}',
    '{"subjects":["a",null,5]}',
]
UNKNOWN = [
    '{"bogus":1}',
    '{"name":"A","bogus":1,"max_msgs":"x"}',
    '{"name":"A","max_msgs":"x","bogus":1}',
    '{"mirror":{"bogus":1},"name":5}',
    '{"consumer_limits":{"bogus":1}}',
    '{"a/b~c":1}',
    r'{"bo\u00e9gus\n\"<>":1}',
    '{"template_owner":"x"}',
]
WORDS = [
    '{"discard":"nEw"}',
    r'{"discard":"\u006eew"}',
    r'{"retention":"l\u0069mits"}',
    r'{"compression":"\u00732"}',
    '{"retention": ["x", 5] }',
    '{"persist_mode":"Async"}',
    '{"storage":"xé"}',
]
TIMES = [
    f'{{"mirror":{{"name":"o","opt_start_time":"{time}"}}}}'
    for time in (
        "x",
        "",
        "2024",
        "2024-01-01",
        "2024-13-01T00:00:00Z",
        "2024-02-30T00:00:00Z",
        "2024-01-01T24:00:00Z",
        "2024-01-01T00:60:00Z",
        "2024-01-01T00:00:60Z",
        "2024-01-01T00:00:00",
        "2024-01-01T00:00:00z",
        "2024-01-01t00:00:00Z",
        "2024-01-01 00:00:00Z",
        "2024-01-01T00:00:00.Z",
        "2024-01-01T00:00:00,5Z",
        "2024-01-01T00:00:00.1234567891Z",
        "2024-01-01T00:00:00+1:00",
        "2024-01-01T00:00:00+24:00",
        "2024-01-01T00:00:00+00:60",
        "2024-01-01T00:00:00Zx",
        "2024-1-01T00:00:00Z",
        "2024-01-01T1:00:00Z",
        "0000-01-01T00:00:00Z",
        "0000-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "2024-00-01T00:00:00Z",
        "2024-01-00T00:00:00Z",
        "2024-01-32T25:00:00Z",
        "2024-01-32T00:00:61x",
        "2024-01-01T00:00:00+25:00",
        "2024-01-01T00:00:00+25:61",
        "2024-01-01T00:00:00-24:60",
        "é",
        '\\u0001\\"\\\\',
    )
]
SEVERAL = [
    '{"name":"A"}{"bogus":1}',
    '{"name":"A"} null {"name":5}',
    '{"name":"A"}5',
    "",
    "  ",
    "null",
    "[]",
    '"x"',
    "true",
]
BODIES = [
    body if isinstance(body, bytes) else body.encode()
    for table in (TRUNCATED, MISPLACED, NUMBERS, STRINGS, TYPES, NESTED, UNKNOWN, WORDS, TIMES, SEVERAL)
    for body in table
]


@pytest.fixture(scope="module")
def asked(kind, tmp_path_factory):
    broker = Broker(kind, tmp_path_factory.mktemp("oracle"), jetstream=True)
    client = broker.connect().handshake(headers=True, no_responders=True)
    client.send(b"SUB _I.json 1\r\n")

    def ask(body):
        """Return the text about the body, None if it could be read: another stream's name is refused next."""
        client.send(b"PUB %s _I.json %d\r\n%s\r\n" % (SUBJECT, len(body), body))
        size = int(client.expect(rb"MSG _I.json 1 (\d+)\r\n")[1])
        error = json.loads(client.expect(rb".{%d}\r\n" % size)[0])["error"]
        return error["description"] if error["err_code"] == 10025 else None

    yield ask
    client.close()
    broker.stop()


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body[:60].decode("ascii", "backslashreplace"))
def test_body_is_refused_in_the_same_words(asked, body):
    want = asked(body)
    if want is None:
        StreamConfig.parse(body)
        return
    with pytest.raises(ApiError) as refused:
        StreamConfig.parse(body)
    assert (refused.value.err_code, refused.value.description) == (10025, want)
