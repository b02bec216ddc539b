"""What stays in a stream whose consumers decide it: work queues and interest, and how that changes."""

import itertools

import pytest
from support.jetstream_consumer_client import ConsumerClient
from support.wait import wait_until

MS = 1_000_000

_numbers = itertools.count()


@pytest.fixture
def reader(jetstream_server):
    client = ConsumerClient(jetstream_server)
    yield client
    client.close()


class Stream:
    """A stream in memory that keeps `<name>.>` as its retention says."""

    def __init__(self, client, retention, **config):
        self.client = client
        self.name = f"RETAIN{next(_numbers)}"
        self.config = {
            "name": self.name,
            "subjects": [f"{self.name}.>"],
            "storage": "memory",
            "retention": retention,
            **config,
        }
        self.call("STREAM.CREATE.{}", self.config)

    def call(self, name, body=None):
        answer = self.client.api(name.format(self.name), body)
        assert "error" not in answer, answer
        return answer

    def update(self, **changes):
        self.call("STREAM.UPDATE.{}", {**self.config, **changes})

    def consumer(self, name, token=None, **config):
        config = {"durable_name": name, "ack_policy": "explicit", **config}
        if token:
            config["filter_subject"] = f"{self.name}.{token}"
        self.call("CONSUMER.CREATE.{}." + name, {"stream_name": self.name, "config": config})

    def publish(self, *tokens):
        for token in tokens:
            answer = self.client.next(self.client.request(f"{self.name}.{token}"))
            assert b'"seq"' in answer.payload, answer

    def take(self, consumer, count):
        """Return that many messages of a consumer."""
        sid = self.client.pull(self.name, consumer, {"batch": count, "expires": 10_000 * MS})
        return [self.client.next(sid) for _ in range(count)]

    def done(self, consumer, count, payload=b"+ACK"):
        """Take messages and acknowledge them."""
        for message in self.take(consumer, count):
            self.client.ack_sync(message, payload)

    def keeps(self, *sequences):
        """Wait until the stream has just these messages."""

        def state():
            return self.call("STREAM.INFO.{}", {"deleted_details": True})["state"]

        def are_there():
            now = state()
            gone = set(now.get("deleted") or ())
            there = range(now["first_seq"], now["last_seq"] + 1) if now["messages"] else ()
            return tuple(one for one in there if one not in gone) == sequences

        wait_until(are_there, f"{sequences} to be left of {state()}")


# ---- work queues


@pytest.mark.parametrize("payload", [b"+ACK", b"+TERM", b"+TERM no"])
def test_a_work_queue_drops_what_is_done(reader, payload):
    it = Stream(reader, "workqueue")
    it.publish("a", "b", "a")
    it.consumer("c", "a")
    it.done("c", 2, payload)
    it.keeps(2)


def test_a_work_queue_keeps_messages_of_a_deleted_consumer(reader):
    it = Stream(reader, "workqueue")
    it.consumer("c")
    it.publish("a", "b")
    it.take("c", 1)
    it.call("CONSUMER.DELETE.{}.c")
    it.keeps(1, 2)
    it.consumer("d")
    it.done("d", 2)
    it.keeps()


def test_consumers_of_a_work_queue_have_subjects_of_their_own(reader):
    it = Stream(reader, "workqueue")
    for token in "ab":
        it.consumer(token, token)
    it.publish("a", "b", "c", "a")
    it.done("a", 2)
    it.keeps(2, 3)
    it.done("b", 1)
    it.keeps(3)


def test_a_message_delivered_too_often_stays_in_a_work_queue_until_it_is_acknowledged(reader):
    it = Stream(reader, "workqueue")
    it.consumer("c", ack_wait=100 * MS, max_deliver=1)
    it.publish("a")
    [message] = it.take("c", 1)
    wait_until(lambda: it.call("CONSUMER.INFO.{}.c")["num_ack_pending"] == 0, "the message to be given up")
    it.keeps(1)
    reader.ack_sync(message)
    it.keeps()


# ---- interest


def test_what_nobody_wants_is_not_kept(reader):
    it = Stream(reader, "interest")
    it.publish("a")
    it.keeps()
    it.consumer("c", "b")
    it.publish("a", "b")
    it.keeps(3)


def test_a_message_stays_until_everybody_who_wants_it_is_done(reader):
    it = Stream(reader, "interest")
    it.consumer("all")
    it.consumer("some", "a")
    it.publish("a", "b", "a")
    it.done("all", 3)
    it.keeps(1, 3)
    it.done("some", 1, b"+TERM")
    it.keeps(3)


def test_a_consumer_without_acknowledgements_is_done_with_what_it_got(reader):
    it = Stream(reader, "interest")
    it.consumer("none", ack_policy="none")
    it.consumer("all", ack_policy="all")
    it.publish("a", "b", "a")
    it.take("none", 3)
    it.keeps(1, 2, 3)
    reader.ack_sync(it.take("all", 2)[-1])
    it.keeps(3)


def test_the_deletion_of_a_consumer_drops_what_only_it_wanted(reader):
    it = Stream(reader, "interest")
    it.consumer("one")
    it.consumer("two", "b")
    it.publish("a", "b", "a")
    it.take("one", 1)
    it.call("CONSUMER.DELETE.{}.one")
    it.keeps(2)
    it.call("CONSUMER.DELETE.{}.two")
    it.keeps()


def test_a_message_that_one_consumer_gave_up_stays_when_another_is_done_with_it(reader):
    it = Stream(reader, "interest")
    it.consumer("gives-up", ack_wait=100 * MS, max_deliver=2, backoff=[100 * MS])
    it.consumer("other")
    it.publish("a", "b")
    it.take("gives-up", 1)
    it.take("gives-up", 2)

    def is_given_up():
        return it.call("CONSUMER.INFO.{}.gives-up")["num_redelivered"] >= 1

    wait_until(is_given_up, "a redelivery")
    it.done("other", 2)
    it.keeps(1, 2)


def test_new_filters_drop_what_nobody_wants_any_more(reader):
    it = Stream(reader, "interest")
    it.consumer("one", "a", ack_wait=100 * MS, max_deliver=1)
    it.consumer("two", "b")
    it.publish("a", "a", "b", "a")
    it.take("one", 2)
    it.consumer("one", "c", ack_wait=100 * MS, max_deliver=1)
    it.keeps(3)
    wait_until(lambda: it.call("CONSUMER.INFO.{}.one")["num_ack_pending"] == 0, "nothing to be pending")
    it.publish("c")
    it.done("two", 1)
    it.done("one", 1)
    it.keeps()


def test_new_filters_keep_what_was_given_up(reader):
    it = Stream(reader, "interest")
    it.consumer("c", ack_wait=100 * MS, max_deliver=1)
    it.publish("a", "b", "a")
    _, second, _ = it.take("c", 3)
    wait_until(lambda: it.call("CONSUMER.INFO.{}.c")["num_ack_pending"] == 0, "three to be given up")
    it.consumer("c", "a", ack_wait=100 * MS, max_deliver=1)
    it.keeps(1, 2, 3)
    it.client.ack_sync(second)
    it.keeps(1, 3)


def test_a_purge_leaves_consumers_what_is_new(reader):
    it = Stream(reader, "interest")
    it.consumer("c")
    it.publish("a", "b")
    it.take("c", 1)
    it.call("STREAM.PURGE.{}")
    info = it.call("CONSUMER.INFO.{}.c")
    assert (info["num_pending"], info["num_ack_pending"]) == (0, 0)
    it.publish("a")
    it.keeps(3)
    it.done("c", 1)
    it.keeps()


def test_a_deleted_message_is_not_delivered_again(reader):
    it = Stream(reader, "limits")
    it.consumer("c")
    it.publish("a", "b")
    first, _ = it.take("c", 2)
    reader.ack(first, b"-NAK")
    it.call("STREAM.MSG.DELETE.{}", {"seq": 1})
    info = wait_until(lambda: it.call("CONSUMER.INFO.{}.c")["num_ack_pending"] == 1, "one to be pending")
    assert info
    assert reader.next(reader.pull(it.name, "c", {"no_wait": True})).status == "404 No Messages"


# ---- changes


def test_a_stream_that_turns_to_interest_drops_what_is_done(reader):
    it = Stream(reader, "limits")
    it.consumer("c")
    it.publish("a", "b", "a")
    it.done("c", 1)
    it.keeps(1, 2, 3)
    it.update(retention="interest")
    it.keeps(2, 3)
    it.done("c", 2)
    it.keeps()


def test_a_stream_that_turns_to_limits_keeps_all(reader):
    it = Stream(reader, "interest")
    it.consumer("c")
    it.publish("a", "b")
    it.update(retention="limits")
    it.done("c", 2)
    it.keeps(1, 2)
