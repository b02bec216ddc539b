"""What a pull request is told: every status that nats-server knows, word for word, from midge too."""

import itertools

import pytest
from support.jetstream_consumer_client import ConsumerClient

MS = 1_000_000
SECOND = 1000 * MS

_numbers = itertools.count()


@pytest.fixture
def reader(jetstream_server):
    client = ConsumerClient(jetstream_server)
    yield client
    client.close()


class Case:
    """A stream with a consumer named d."""

    def __init__(self, client, messages=0, *, size=0, **config):
        self.client = client
        self.name = f"STATUS{next(_numbers)}"
        created = client.api(f"STREAM.CREATE.{self.name}", {"name": self.name, "storage": "memory"})
        assert "error" not in created, created
        for _ in range(messages):
            self.publish(size)
        self.make("d", **config)

    def make(self, name, **config):
        config = {"durable_name": name, "ack_policy": "explicit", **config}
        body = {"stream_name": self.name, "config": config}
        created = self.client.api(f"CONSUMER.CREATE.{self.name}.{name}", body)
        assert "error" not in created, created

    def publish(self, size=0):
        self.client.next(self.client.request(self.name, bytes(size)))

    def pull(self, body=b"", headers=(), consumer="d"):
        return self.client.pull(self.name, consumer, body, headers)

    def answers(self, sid, count):
        """Return the next answers: stream sequences of messages, and statuses."""
        return [self.read(self.client.next(sid)) for _ in range(count)]

    def read(self, answer):
        return int(answer.reply.split(b".")[5]) if answer.reply else answer.status

    def has_waiting(self, count):
        """Wait until that many requests wait, as every request before this was taken."""
        while self.client.api(f"CONSUMER.INFO.{self.name}.d")["num_waiting"] != count:
            pass


def left(messages, size=0):
    return f"\r\nNats-Pending-Messages: {messages}\r\nNats-Pending-Bytes: {size}"


REFUSALS = {
    "half a request": (
        {},
        b"{",
        "400 Bad Request - unexpected end of JSON input",
    ),
    "a wrong type": (
        {},
        {"batch": "x"},
        "400 Bad Request - json: cannot unmarshal string into Go struct field .batch of type int",
    ),
    "a heartbeat that does not fit": (
        {},
        {"expires": SECOND, "idle_heartbeat": 600 * MS},
        "400 Bad Request - heartbeat value too large",
    ),
    "a heartbeat without an end": (
        {},
        {"idle_heartbeat": 600 * MS},
        "400 Bad Request - heartbeat value too large",
    ),
    "no group": (
        {"priority_groups": ["g"], "priority_policy": "overflow"},
        {"batch": 1},
        "400 Bad Request - Priority Group missing",
    ),
    "another group": (
        {"priority_groups": ["g"], "priority_policy": "overflow"},
        {"group": "h"},
        "400 Bad Request - Invalid Priority Group",
    ),
    "overflow of a consumer without": (
        {},
        {"min_pending": 1},
        "400 Bad Request - Not a Overflow Priority consumer",
    ),
    "pins of a consumer without": (
        {},
        {"id": "x"},
        "400 Bad Request - Not a Pinned Client Priority consumer",
    ),
    "a priority beyond nine": (
        {"priority_groups": ["g"], "priority_policy": "prioritized"},
        {"group": "g", "priority": 10},
        "400 Bad Request - Priority must be between 0 and 9",
    ),
    "nothing there": ({}, {"no_wait": True}, "404 No Messages"),
    "too many at once": ({"max_batch": 5}, {"batch": 6}, "409 Exceeded MaxRequestBatch of 5"),
    "too long": (
        {"max_expires": SECOND},
        {"expires": 2 * SECOND},
        "409 Exceeded MaxRequestExpires of 1s",
    ),
    "too many bytes": (
        {"max_bytes": 100},
        {"batch": 1, "max_bytes": 101},
        "409 Exceeded MaxRequestMaxBytes of 100",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_request_is_refused(reader, case):
    config, body, expected = REFUSALS[case]
    it = Case(reader, **config)
    assert it.answers(it.pull(body), 1) == [expected]


@pytest.mark.parametrize("level", ["99", "x"])
def test_a_level_that_the_server_has_not_is_refused(reader, level):
    it = Case(reader, 1)
    assert it.answers(it.pull(headers=[("Nats-Required-Api-Level", level)]), 1) == ["412 Required Api Level"]


def test_a_push_consumer_has_nothing_to_pull(reader):
    it = Case(reader, 1, deliver_subject="push")
    assert it.answers(it.pull(), 1) == ["409 Consumer is push based"]


def test_nobody_responds_for_a_consumer_that_is_not_there(reader):
    it = Case(reader)
    [answer] = it.answers(it.pull(consumer="none"), 1)
    assert answer.split("\r\n")[0] == "503"


@pytest.mark.parametrize(
    ("body", "count"),
    [
        (b"", 1),
        (b"3", 3),
        (b"  2 ", 2),
        (b"x", 1),
        (b"-1", 1),
        ({"batch": 0}, 1),
        ({"batch": -5}, 1),
        ({}, 1),
    ],
)
def test_a_body_says_how_many(reader, body, count):
    it = Case(reader, 5)
    assert it.answers(it.pull(body), count) == list(range(1, count + 1))
    it.has_waiting(0)


def test_what_is_unknown_in_a_request_does_not_matter(reader):
    it = Case(reader, 2)
    assert it.answers(it.pull({"BATCH": 2, "what": 1}), 2) == [1, 2]


# ---- the end of requests


def test_a_request_that_does_not_wait_ends_where_messages_end(reader):
    it = Case(reader, 2)
    assert it.answers(it.pull({"batch": 5, "no_wait": True}), 3) == [1, 2, "404 No Messages"]


def test_a_filled_request_ends_without_a_word(reader):
    it = Case(reader, 3)
    full = it.pull({"batch": 2, "no_wait": True})
    assert it.answers(full, 2) == [1, 2]
    assert it.answers(it.pull({"batch": 5, "no_wait": True}), 2) == [3, "404 No Messages"]
    assert reader.waiting[full] == []


def test_a_request_waits_for_a_first_message_and_then_no_more(reader):
    it = Case(reader)
    sid = it.pull({"batch": 5, "no_wait": True, "expires": 20 * SECOND})
    it.has_waiting(1)
    it.publish()
    assert it.answers(sid, 2) == [1, "404 No Messages"]


@pytest.mark.parametrize("options", [{}, {"no_wait": True}, {"no_wait": True, "max_bytes": 1000}])
def test_a_request_expires(reader, options):
    it = Case(reader)
    sid = it.pull({"batch": 5, "expires": 100 * MS, **options})
    assert it.answers(sid, 1) == ["408 Request Timeout" + left(5, options.get("max_bytes", 0))]


@pytest.mark.parametrize("batch", [0, -4])
def test_a_request_for_nothing_is_for_one_message(reader, batch):
    it = Case(reader)
    ended = it.pull({"batch": batch, "expires": 100 * MS})
    assert it.answers(ended, 1) == ["408 Request Timeout" + left(batch)]
    waiting = it.pull({"batch": batch})
    it.has_waiting(1)
    it.publish()
    assert it.answers(waiting, 1) == [1]
    it.has_waiting(0)


def test_a_request_that_got_something_expires_with_what_is_left(reader):
    it = Case(reader, 2)
    sid = it.pull({"batch": 5, "expires": 300 * MS, "max_bytes": 1000})
    answers = [reader.next(sid) for _ in range(3)]
    size = sum(len(one.subject + one.reply + one.payload) for one in answers[:2])
    assert [it.read(one) for one in answers] == [1, 2, "408 Request Timeout" + left(3, 1000 - size)]


def test_others_may_claim_all_that_is_there(reader):
    """The ack pending limit holds the first request up, so what it asked for stays pending."""
    it = Case(reader, 4, max_ack_pending=1)
    first = it.pull({"batch": 4, "expires": 60 * SECOND})
    assert it.answers(first, 1) == [1]
    it.has_waiting(1)
    again = it.pull({"batch": 2, "expires": 60 * SECOND})
    it.has_waiting(2)
    assert it.answers(it.pull({"batch": 1, "no_wait": True}), 1) == ["408 Requests Pending"]
    assert reader.waiting[again] == []


def test_bytes_that_are_left_are_told_when_a_batch_is_complete(reader):
    it = Case(reader, 2, size=10)
    sid = it.pull({"batch": 2, "max_bytes": 1000, "expires": 20 * SECOND})
    answers = [reader.next(sid) for _ in range(3)]
    size = sum(len(one.subject + one.reply + one.payload) for one in answers[:2])
    assert [it.read(one) for one in answers] == [1, 2, "409 Batch Completed" + left(0, 1000 - size)]


def test_a_message_larger_than_what_is_left_ends_a_request(reader):
    it = Case(reader, 3, size=300)
    sid = it.pull({"batch": 5, "max_bytes": 500, "expires": 20 * SECOND})
    answers = [reader.next(sid) for _ in range(2)]
    size = len(answers[0].subject + answers[0].reply + answers[0].payload)
    assert [it.read(one) for one in answers] == [
        1,
        "409 Message Size Exceeds MaxBytes" + left(4, 500 - size),
    ]
    # It is no delivery: the next request gets the message for the first time.
    answer = reader.next(it.pull())
    assert answer.reply.split(b".")[4:7] == [b"1", b"2", b"2"]


def test_too_many_requests_wait(reader):
    it = Case(reader, max_waiting=2)
    for _ in range(2):
        it.pull({"expires": 60 * SECOND})
    it.has_waiting(2)
    silent = it.pull({"expires": 60 * SECOND, "idle_heartbeat": 20 * SECOND})
    assert it.answers(it.pull({"expires": 60 * SECOND}), 1) == ["409 Exceeded MaxWaiting"]
    assert reader.waiting[silent] == []


@pytest.mark.parametrize("target", ["CONSUMER.DELETE.{}.d", "STREAM.DELETE.{}"])
def test_waiting_requests_hear_of_a_deletion(reader, target):
    it = Case(reader, 1)
    sids = [it.pull({"batch": 3, "expires": 60 * SECOND}), it.pull(b"2")]
    assert it.answers(sids[0], 1) == [1]
    it.has_waiting(2)
    assert "error" not in reader.api(target.format(it.name))
    assert [it.answers(sid, 1) for sid in sids] == [["409 Consumer Deleted"]] * 2


@pytest.mark.servers("midge-1", "midge-2", "nats-server")
def test_waiting_requests_hear_of_the_end_of_the_server(start):
    broker = start(jetstream=True)
    client = ConsumerClient(broker)
    it = Case(client)
    sid = it.pull({"batch": 3, "expires": 60 * SECOND})
    it.has_waiting(1)
    broker.stop()
    assert it.answers(sid, 1) == ["409 Server Shutdown" + left(3)]
    client.close()


def test_heartbeats_come_while_nothing_else_does(reader):
    it = Case(reader, 2)
    sid = it.pull({"batch": 5, "expires": 20 * SECOND, "idle_heartbeat": 100 * MS})
    beat = "100 Idle Heartbeat\r\nNats-Last-Consumer: 2\r\nNats-Last-Stream: 2"
    assert it.answers(sid, 4) == [1, 2, beat, beat]


# ---- priority groups


def test_a_wrong_pin_is_refused(reader):
    it = Case(reader, 2, priority_groups=["g"], priority_policy="pinned_client", priority_timeout=60 * SECOND)
    first = reader.next(it.pull({"group": "g"}))
    assert b"Nats-Pin-Id: " in first.headers
    assert it.answers(it.pull({"group": "g", "id": "wrong"}), 1) == ["423 Nats-Pin-Id mismatch"]


def test_a_waiting_request_hears_that_its_pin_is_old(reader):
    it = Case(reader, 1, priority_groups=["g"], priority_policy="pinned_client", priority_timeout=60 * SECOND)
    first = reader.next(it.pull({"group": "g"}))
    pin = first.headers.split(b"Nats-Pin-Id: ")[1].split(b"\r\n")[0].decode()
    stale = it.pull({"group": "g", "id": pin, "batch": 3, "expires": 60 * SECOND})
    it.has_waiting(1)
    assert "error" not in reader.api(f"CONSUMER.UNPIN.{it.name}.d", {"group": "g"})
    other = it.pull({"group": "g", "batch": 2, "expires": 60 * SECOND})
    it.publish()
    it.publish()
    assert it.answers(other, 2) == [2, 3]
    assert it.answers(stale, 1) == ["423 Nats-Wrong-Pin-Id" + left(3)]
