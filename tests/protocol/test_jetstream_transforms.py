"""Subject transforms: the subject under which brokers store a message is the one that midge computes."""

import json

import pytest
from support.broker import Broker

from workers.jetstream.transforms import SubjectTransform

CASES = [
    (
        "@.*.*",
        dest,
        [f"@.{first}.{second}" for first, second in (("foo", "bar"), ("a-b--c-", "é"), ("-x-", "1234567"))],
    )
    for dest in (
        "t.$2.$1",
        "t.$0.$2",
        "t.{{wildcard(1)}}.x",
        "t.{{partition(10)}}",
        "t.{{partition(10,1)}}",
        "t.{{partition(100,2,1)}}",
        "t.{{partition(-7,1)}}",
        "t.{{partition(0,1)}}",
        "t.{{split(1,-)}}.z",
        "t.{{split(1,xyz)}}",
        "t.{{split(2,)}}",
        "t.{{splitFromLeft(2,1)}}",
        "t.{{splitFromRight(2,1)}}",
        "t.{{splitFromRight(2,-1)}}",
        "t.{{sliceFromLeft(2,3)}}",
        "t.{{sliceFromRight(2,3)}}",
        "t.{{sliceFromRight(2,0)}}",
        "t.{{left(2,1)}}",
        "t.{{right(2,1)}}",
        "t.{{right(2,100)}}",
        "t.{{random(1)}}",
    )
]
CASES += [
    ("@.>", "t.>", ["@.a.b.c", "@.x"]),
    ("@.*.>", "t.{{left(1,1)}}.>", ["@.abc.b.c", "@.x"]),
    (">", "t.>", ["@.a"]),
    ("", "t.>", ["@.a"]),
    ("@.a", "t.{{partition(9)}}", ["@.a", "@.b"]),
    ("@.a", "t.{{partition(9,1)}}", ["@.a"]),
    ("@.a", "t.b", ["@.a"]),
    ("other.*", "t.$1", ["@.a"]),
    ("@.*", "@.more.$1", ["@.a"]),
]


@pytest.fixture(scope="module")
def client(kind, tmp_path_factory):
    broker = Broker(kind, tmp_path_factory.mktemp("oracle"), jetstream=True)
    client = broker.connect().handshake(headers=True, no_responders=True)
    client.send(b"SUB _I.transform 1\r\n")
    yield client
    client.close()
    broker.stop()


def request(client, subject, body):
    client.send(b"PUB %s _I.transform %d\r\n%s\r\n" % (subject, len(body), body))
    size = int(client.expect(rb"MSG _I.transform 1 (\d+)\r\n")[1])
    return json.loads(client.expect(rb".{%d}\r\n" % size)[0])


@pytest.mark.parametrize(
    "index", range(len(CASES)), ids=lambda index: f"{CASES[index][0]} to {CASES[index][1]}"
)
def test_message_is_stored_under_the_same_subject(client, index):
    name = f"T{index}"
    src, dest, published = CASES[index]
    src = src.replace("@", name)
    dest = dest.replace("@", name)
    config = {"name": name, "subjects": [f"{name}.>"], "subject_transform": {"src": src, "dest": dest}}
    answer = request(client, f"$JS.API.STREAM.CREATE.{name}".encode(), json.dumps(config).encode())
    assert "error" not in answer
    transform = SubjectTransform(src, dest)
    for template in published:
        subject = template.replace("@", name).encode()
        sequence = request(client, subject, b"")["seq"]
        body = b'{"seq":%d}' % sequence
        stored = request(client, f"$JS.API.STREAM.MSG.GET.{name}".encode(), body)["message"]["subject"]
        # What does not match is stored as it came.
        assert (transform.apply_bytes(subject) or subject).decode("utf-8", "replace") == stored
