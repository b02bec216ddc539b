"""Priority groups on the wire: midge and nats-server give every pull request the same first answer."""

import re

import pytest
from support.broker import Broker
from support.jetstream_consumer_client import ConsumerClient

pytestmark = pytest.mark.servers("midge-1", "midge-2")

MS = 1_000_000
PIN = re.compile(rb"Nats-Pin-Id: (\S+)\r\n")
REQUESTS = (
    {"no_wait": True},
    {"group": "A", "no_wait": True},
    {"group": "B", "no_wait": True},
    {"group": "A", "id": "x", "no_wait": True},
    {"group": "A", "batch": 1, "min_pending": 100, "expires": 100 * MS},
    {"group": "A", "batch": 1, "min_pending": 2, "no_wait": True},
    {"group": "A", "batch": 1, "min_ack_pending": 1, "no_wait": True},
    {"group": "A", "batch": 1, "min_ack_pending": 50, "expires": 100 * MS},
    {"group": "A", "priority": 10},
    {"group": "A", "priority": -1},
    {"group": "A", "priority": 9, "no_wait": True},
    {"priority": 3, "no_wait": True},
)


@pytest.fixture(scope="module")
def brokers(kind, tmp_path_factory):
    """A connection to the broker under test, and one to nats-server."""
    started = [Broker(one, tmp_path_factory.mktemp(one), jetstream=True) for one in (kind, "nats-server")]
    clients = [ConsumerClient(broker) for broker in started]
    yield clients
    for client, broker in zip(clients, started, strict=True):
        client.close()
        broker.stop()


class Reader:
    """Asks for messages of one consumer on a stream of its own, which begins with ten messages."""

    def __init__(self, client, policy, **config):
        self._client = client
        self._name = f"P-{policy}-{len(config)}"
        stream = {"name": self._name, "subjects": [f"{self._name}.>"], "storage": "memory"}
        assert "error" not in client.api(f"STREAM.CREATE.{self._name}", stream)
        for number in range(10):
            client.next(client.request(f"{self._name}.x", b"%d" % number))
        members = {"name": "c", "ack_policy": "explicit", "priority_policy": policy, **config}
        if policy != "none":
            members["priority_groups"] = ["A"]
        body = {"stream_name": self._name, "config": members}
        assert "error" not in client.api(f"CONSUMER.CREATE.{self._name}.c", body)
        self.pins = []

    def pull(self, **request):
        """Return the header block and payload of the first answer; pins appear as their number."""
        sid = self._client.pull(self._name, "c", request)
        answer = self._client.next(sid)
        self._client.ignore(sid)
        pin = PIN.search(answer.headers)
        if pin and pin[1] not in self.pins:
            self.pins.append(pin[1])
        shown = PIN.sub(lambda pin: b"Nats-Pin-Id: %d\r\n" % self.pins.index(pin[1]), answer.headers)
        return shown, answer.payload

    def state(self):
        """Return what the API tells of the group and what is pending."""
        info = self._client.api(f"CONSUMER.INFO.{self._name}.c")
        groups = [sorted(group) for group in info.get("priority_groups", ())]
        return groups, info["num_pending"], info["num_ack_pending"], info["num_waiting"]

    def unpin(self):
        """Return the answer of the API to CONSUMER.UNPIN."""
        return self._client.api(f"CONSUMER.UNPIN.{self._name}.c", {"group": "A"})


@pytest.mark.parametrize("policy", ["none", "overflow", "pinned_client", "prioritized"])
def test_requests_are_served_and_refused_as_by_nats_server(brokers, policy):
    midge, oracle = (Reader(client, policy) for client in brokers)
    for request in REQUESTS:
        assert midge.pull(**request) == oracle.pull(**request), request
        assert midge.state() == oracle.state(), request


def test_a_pin_is_kept_given_up_and_taken_over_as_by_nats_server(brokers):
    readers = [Reader(client, "pinned_client", priority_timeout=60_000 * MS) for client in brokers]
    found = []
    for reader in readers:
        first = reader.pull(group="A", no_wait=True)
        [pin] = reader.pins
        mine = {"group": "A", "id": pin.decode()}
        answers = [
            first,
            reader.pull(**mine, no_wait=True),
            reader.pull(group="A", batch=1, expires=100 * MS),
            reader.pull(group="A", id="other", no_wait=True),
            reader.state(),
            reader.unpin(),
            reader.state(),
            # The old pin is not known any more, the next client without one gets it.
            reader.pull(**mine, batch=1, no_wait=True),
            reader.pull(group="A", no_wait=True),
            reader.pull(**mine, no_wait=True),
            reader.state(),
        ]
        found.append((answers, len(reader.pins)))
    assert found[0] == found[1]
    assert found[0][1] == 2
