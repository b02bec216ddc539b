"""Consumers keep what they promise while workers and the whole server are killed, as a model says.

`pytest tests/faults/test_jetstream_consumers.py --consumer-steps 20000` goes on for longer.
"""

import itertools
import json
import os
import random
import signal

import pytest
from support.jetstream_consumer_client import ConsumerClient
from support.wait import wait_until

TOKENS = ("a", "b", "c")
FILTERS = {"a": ["a"], "ab": ["a", "b"], "all": list(TOKENS)}
SECOND_NS = 10**9
# Short, so that what was lost on the way comes again soon.
ACK_WAIT_NS = 300_000_000
DRAIN_TIMEOUT_S = 60
STEPS_PER_KILL = 80


class Modelled:
    """What is known of one consumer.

    Attributes:
        confirmed: sequences whose acknowledgement was confirmed. sent: those where it was not.
        first: sequences in the order of their first deliveries.
    """

    def __init__(self, name, tokens):
        self.name = name
        self.tokens = tokens
        self.confirmed = set()
        self.sent = set()
        self.first = []
        self.seen = set()
        self.held = []


class Model:
    """A stream with consumers, clients on all workers, and what must be true of them."""

    def __init__(self, server, seed, stream):
        self.server = server
        self.random = random.Random(seed)
        self.stream = stream
        self.client = ConsumerClient(server)
        self.stored = {}
        self.numbers = itertools.count()
        self.consumers = [Modelled(name, tokens) for name, tokens in FILTERS.items()]
        config = {"name": stream, "subjects": [f"{stream}.*"], "storage": "file"}
        assert "error" not in self.client.api(f"STREAM.CREATE.{stream}", config)
        for one in self.consumers:
            config = {
                "durable_name": one.name,
                "ack_policy": "explicit",
                "ack_wait": ACK_WAIT_NS,
                "filter_subjects": [f"{stream}.{token}" for token in one.tokens],
                "max_ack_pending": 50,
            }
            body = {"stream_name": stream, "config": config}
            assert "error" not in self.client.api(f"CONSUMER.CREATE.{stream}.{one.name}", body)

    # ---- steps

    def step(self):
        action = self.random.choices([self.publish, self.pull, self.acknowledge, self.refuse], [3, 4, 6, 1])[
            0
        ]
        action()

    def publish(self):
        """Publish until it is acknowledged; a message id makes it be stored once."""
        token = self.random.choice(TOKENS)
        number = next(self.numbers)
        headers = [("Nats-Msg-Id", f"{self.stream}.{number}")]
        answer = self.insist(f"{self.stream}.{token}", b"%d" % number, headers)
        sequence = answer["seq"]
        assert self.stored.setdefault(sequence, (token, number)) == (token, number)

    def pull(self):
        one = self.random.choice(self.consumers)
        body = {"batch": self.random.randint(1, 8), "no_wait": True}
        sid = self.client.pull(self.stream, one.name, body)
        self.collect(one, sid, body["batch"])

    def collect(self, one, sid, count):
        """Take what a pull brings until it ends; a worker may die under it."""
        for _ in range(count):
            try:
                message = self.client.next(sid, 2)
            except AssertionError:
                self.reconnect_if_closed()
                return
            if not message.reply:
                return
            self.take(one, message)

    def take(self, one, message):
        sequence = int(message.reply.split(b".")[5])
        token = message.subject.decode().split(".")[1]
        assert token in one.tokens, f"{one.name} got {message.subject}"
        # What was published and not yet acknowledged may come all the same.
        known = self.stored.setdefault(sequence, (token, int(message.payload)))
        assert known == (token, int(message.payload))
        assert sequence not in one.confirmed, f"{one.name}: {sequence} was acknowledged for certain"
        if sequence not in one.seen:
            assert not one.first or sequence > one.first[-1], f"{one.name}: {sequence} after {one.first[-1]}"
            one.first.append(sequence)
            one.seen.add(sequence)
        one.held.append((sequence, message))

    def acknowledge(self):
        one = self.random.choice(self.consumers)
        if not one.held:
            return
        sequence, message = one.held.pop(self.random.randrange(len(one.held)))
        if self.random.random() < 0.3:
            one.sent.add(sequence)
            self.client.ack(message)
            return
        sid = self.client.request(message.reply.decode(), b"+ACK")
        try:
            answer = self.client.next(sid, 2)
        except AssertionError:
            one.sent.add(sequence)
            self.reconnect_if_closed()
            return
        if not answer.status:
            one.confirmed.add(sequence)
        else:
            one.sent.add(sequence)

    def refuse(self):
        one = self.random.choice(self.consumers)
        if one.held:
            _, message = one.held.pop(self.random.randrange(len(one.held)))
            self.client.ack(message, self.random.choice([b"-NAK", b"+WPI", b"-NAK 50ms"]))

    # ---- faults

    def kill(self):
        if self.random.random() < 0.5 and self.server.worker_count > 1:
            os.kill(self.random.choice(self.server.workers()).pid, signal.SIGKILL)
        else:
            self.server.kill()
            self.server.start_again()
        wait_until(self.is_up, "the server to answer", DRAIN_TIMEOUT_S)

    def is_up(self):
        """Whether every worker runs and the stream's answers."""
        if len(self.server.workers()) != self.server.worker_count:
            return False
        try:
            self.client.close()
            self.client = ConsumerClient(self.server)
            sid = self.client.request(f"$JS.API.STREAM.INFO.{self.stream}")
            return b'"state"' in self.client.next(sid, 1).payload
        except (AssertionError, OSError):
            return False

    def reconnect_if_closed(self):
        if self.client.raw.at_end:
            wait_until(self.is_up, "the server to answer", DRAIN_TIMEOUT_S)

    def insist(self, subject, payload, headers):
        """Publish until there is an answer and return it."""
        answers = []

        def is_answered():
            try:
                message = self.client.next(self.client.request(subject, payload, headers), 2)
            except (AssertionError, OSError):
                self.reconnect_if_closed()
                return False
            if message.payload.startswith(b'{"stream"'):
                answers.append(message)
            return bool(answers)

        wait_until(is_answered, f"{subject} to be stored", DRAIN_TIMEOUT_S)
        return json.loads(answers[0].payload)

    # ---- the end

    def drain(self):
        """Read and acknowledge everything; then nothing may be missing, and the counts are exact."""
        for one in self.consumers:
            wanted = {sequence for sequence, (token, _) in self.stored.items() if token in one.tokens}

            def is_done(one=one, wanted=wanted):
                one.held.clear()
                self.pull_all(one)
                for sequence, message in one.held:
                    self.client.ack_sync(message)
                    one.confirmed.add(sequence)
                info = self.info(one)
                return info["num_pending"] == info["num_ack_pending"] == 0

            wait_until(is_done, f"{one.name} to have delivered all", DRAIN_TIMEOUT_S)
            info = self.info(one)
            missing = wanted - one.seen
            assert not missing, f"{one.name} never got {sorted(missing)[:10]}"
            assert one.seen == wanted
            assert info["ack_floor"]["stream_seq"] <= info["delivered"]["stream_seq"]
            assert info["ack_floor"]["stream_seq"] >= max(wanted, default=0)

    def pull_all(self, one):
        sid = self.client.pull(self.stream, one.name, {"batch": 100, "no_wait": True})
        self.collect(one, sid, 100)

    def check_counts(self):
        """Check what can be said of a consumer at any time."""
        for one in self.consumers:
            info = self.info(one)
            matching = [seq for seq, (token, _) in self.stored.items() if token in one.tokens]
            delivered = info["delivered"]["stream_seq"]
            assert info["num_pending"] == sum(sequence > delivered for sequence in matching)
            floor = info["ack_floor"]["stream_seq"]
            assert floor <= delivered
            unacknowledged = [s for s in matching if s <= delivered and s not in one.confirmed | one.sent]
            assert floor < min(unacknowledged, default=floor + 1), f"{one.name}: floor {floor}"
            assert info["num_ack_pending"] >= len(unacknowledged)

    def info(self, one):
        return self.client.api(f"CONSUMER.INFO.{self.stream}.{one.name}")


@pytest.mark.servers("midge-1", "midge-2")
@pytest.mark.parametrize("seed", [1])
def test_consumers_lose_nothing_and_repeat_nothing_acknowledged(start, request, seed):
    model = Model(start(jetstream=True), seed, "MODEL")
    for number in range(1, 1 + request.config.getoption("--consumer-steps")):
        model.step()
        if number % 20 == 0:
            model.check_counts()
        if number % STEPS_PER_KILL == 0:
            model.kill()
    model.drain()
    model.client.close()


@pytest.mark.servers("midge-1", "midge-2", "nats-server")
def test_what_was_given_up_is_still_known_after_a_start(start):
    """A late acknowledgement ends it, and it counts as redelivered until then."""
    server = start(jetstream=True)
    client = ConsumerClient(server)
    client.api("STREAM.CREATE.WORK", {"name": "WORK", "subjects": ["work"], "retention": "workqueue"})
    config = {"durable_name": "c", "ack_policy": "explicit", "max_deliver": 2}
    client.api("CONSUMER.CREATE.WORK.c", {"stream_name": "WORK", "config": config})
    for number in range(3):
        client.next(client.request("work", b"%d" % number))
    held = []
    for _ in range(2):
        sid = client.pull("WORK", "c", {"batch": 2, "expires": 60 * SECOND_NS})
        held = [client.next(sid) for _ in range(2)]
        for message in held:
            client.ack_sync(message, b"-NAK")
    last = client.next(client.pull("WORK", "c", {"batch": 1, "expires": 60 * SECOND_NS}))
    assert last.payload == b"2"

    def numbers():
        info = client.api("CONSUMER.INFO.WORK.c")
        messages = client.api("STREAM.INFO.WORK")["state"]["messages"]
        return info["num_ack_pending"], info["num_redelivered"], messages

    assert numbers() == (1, 2, 3)
    client.close()
    server.stop()
    server.start_again()
    client = ConsumerClient(server)
    assert numbers() == (1, 2, 3)
    client.ack_sync(held[0])
    assert numbers() == (1, 1, 2)
    client.close()
