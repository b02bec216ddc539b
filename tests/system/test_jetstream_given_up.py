"""Messages delivered as often as they may be stay until a late acknowledgement, over a restart too."""

import pytest
from support.jetstream_consumer_client import ConsumerClient
from support.wait import wait_until

ACK_WAIT_NS = 100_000_000


class Giver:
    """A stream with five messages of which its consumer has given up 1, 2 and 4, and acknowledged 3."""

    def __init__(self, broker, retention, max_deliver):
        self.broker, self.retention, self.max_deliver = broker, retention, max_deliver
        self.client = ConsumerClient(broker)
        config = {"name": "S", "subjects": ["S.>"], "retention": retention}
        self.call("STREAM.CREATE.S", config)
        self.configure(max_deliver)
        self.publish(4)
        self.held = self.pull(4)
        self.client.ack_sync(self.held[2])
        for _ in range(max_deliver - 1):
            self.pull(3, expires=5_000_000_000)
        wait_until(self.has_given_up, "three to be given up")
        self.publish(1)

    def publish(self, count):
        for _ in range(count):
            self.client.next(self.client.request("S.a", b"m"))

    def configure(self, max_deliver):
        config = {
            "durable_name": "C",
            "ack_policy": "explicit",
            "ack_wait": ACK_WAIT_NS,
            "max_deliver": max_deliver,
        }
        self.call("CONSUMER.CREATE.S.C", {"stream_name": "S", "config": config})

    def has_given_up(self):
        # A pull finds out about those whose time is over.
        self.client.pull("S", "C", {"batch": 1, "no_wait": True})
        return self.info()["num_ack_pending"] == 0

    def call(self, name, body=None):
        answer = self.client.api(name, body)
        assert "error" not in answer, answer
        return answer

    def info(self):
        return self.call("CONSUMER.INFO.S.C")

    def pull(self, count, **body):
        sid = self.client.pull("S", "C", {"batch": count, **(body or {"no_wait": True})})
        return [self.client.next(sid) for _ in range(count)]

    def restart(self, *, kill):
        self.client.close()
        self.broker.kill() if kill else self.broker.stop()
        self.broker.start_again()
        self.client = ConsumerClient(self.broker)

    def kept(self):
        state = self.call("STREAM.INFO.S", {"deleted_details": True})["state"]
        gone = state.get("deleted") or []
        return [one for one in range(state["first_seq"], state["last_seq"] + 1) if one not in gone]

    def keeps(self, *sequences):
        wait_until(lambda: self.kept() == list(sequences), f"{sequences} to be left")


@pytest.fixture
def give_up(start):
    givers = []

    def make(retention, max_deliver):
        givers.append(Giver(start(jetstream=True), retention, max_deliver))
        return givers[-1]

    yield make
    for giver in givers:
        giver.client.close()


@pytest.mark.parametrize("max_deliver", [1, 2])
@pytest.mark.parametrize("retention", ["interest", "workqueue"])
def test_a_late_acknowledgement_after_a_restart_removes_what_was_given_up(give_up, retention, max_deliver):
    it = give_up(retention, max_deliver)
    it.client.ack_sync(it.held[0])
    it.keeps(2, 4, 5)
    it.restart(kill=it.broker.is_midge)
    it.keeps(2, 4, 5)
    # A nats-server may be asked before it has counted.
    wait_until(lambda: it.info()["num_pending"] == 1, "one message to be pending")
    info = it.info()
    assert info["num_ack_pending"] == 0
    assert info["num_redelivered"] == (0 if max_deliver == 1 else 2)
    it.client.ack_sync(it.held[1])
    it.keeps(4, 5)
    [last] = it.pull(1)
    it.client.ack_sync(last)
    it.keeps(4)


def test_what_was_given_up_before_a_restart_goes_with_the_consumer(give_up):
    it = give_up("interest", 2)
    it.call(
        "CONSUMER.CREATE.S.D",
        {
            "stream_name": "S",
            "config": {"durable_name": "D", "ack_policy": "explicit", "deliver_policy": "new"},
        },
    )
    it.restart(kill=it.broker.is_midge)
    it.keeps(1, 2, 4, 5)
    it.call("CONSUMER.DELETE.S.C")
    it.keeps()


def test_more_deliveries_after_a_restart_bring_nothing_back_that_was_given_up(give_up):
    it = give_up("workqueue", 2)
    it.restart(kill=it.broker.is_midge)
    it.configure(5)
    assert [message.reply.split(b".")[5] for message in it.pull(1)] == [b"5"]
    assert it.info()["num_redelivered"] == 3
    it.keeps(1, 2, 4, 5)
