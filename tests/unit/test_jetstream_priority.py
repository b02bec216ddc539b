"""Priority groups: which request a message goes to, who is refused, and who is pinned for how long."""

from types import SimpleNamespace

import pytest

from workers.jetstream.consumer_config import ConsumerConfig
from workers.jetstream.delivery import Request
from workers.jetstream.priority import Group, Priority

SECOND_NS = 1_000_000_000


class Core:
    """As much of a ConsumerCore as the policy sees."""

    def __init__(self):
        self.requests = []
        self.num_pending = self.num_ack_pending = self.num_redeliveries = 0
        self.extra_headers = b""
        self.wakes = 0

    def add_request(self, request):
        self.requests.append(request)

    def remove_request(self, request):
        self.requests.remove(request)

    def wake(self):
        self.wakes += 1


class Engine:
    """Time that only moves when it is told to."""

    def __init__(self):
        self.time_ns = SECOND_NS
        self.timers = []
        self.told = []
        self.advisories = SimpleNamespace(send=lambda *advisory: self.told.append(advisory))

    def now_ns(self):
        return self.time_ns

    def later(self, seconds, callback):
        timer = SimpleNamespace(at_ns=self.time_ns + int(seconds * SECOND_NS), callback=callback)
        timer.cancel = lambda: self.timers.remove(timer)
        self.timers.append(timer)
        return timer

    def advance(self, seconds):
        self.time_ns += int(seconds * SECOND_NS)
        for timer in [timer for timer in self.timers if timer.at_ns <= self.time_ns]:
            self.timers.remove(timer)
            timer.callback()


class Consumer:
    """As much of a Consumer as the policy sees."""

    name = "C"

    def __init__(self, policy, **options):
        self.engine = Engine()
        self.core = Core()
        self.stream = SimpleNamespace(account=0, account_name="$G", name="S")
        options = {"priority_groups": ("A", "B"), "priority_timeout": 10 * SECOND_NS, **options}
        self.config = ConsumerConfig(priority_policy=policy, **options)
        self.deaf = set()
        self.wrong = []
        self.priority = Priority(self)

    def has_interest(self, subject):
        return subject not in self.deaf

    def wrong_pin(self, request):
        self.wrong.append(request.reply)

    def asked(self):
        """Take note of nothing: the core's wakes are counted."""

    def ask(self, reply, **members):
        """Let a request wait that may say something of priorities."""
        self.priority.add(Request(reply, 10, -1, SimpleNamespace(group=Group.of({"group": "A", **members}))))

    def choices(self, count):
        """Return the replies of those chosen for so many messages."""
        chosen = [self.priority.choose() for _ in range(count)]
        for request in chosen:
            if request is not None:
                request.delivered = 1
        return [request and request.reply for request in chosen]

    def events(self):
        """Return the last words of the advisories' subjects and what they say at the end."""
        return [
            (subject.split(".")[4], list(fields.values())[-1]) for _, subject, _, fields in self.engine.told
        ]


def refusal(consumer, **members):
    return consumer.priority.refusal(Group.of(members))


@pytest.mark.parametrize(
    ("policy", "members", "text"),
    [
        ("pinned_client", {"group": "A", "min_pending": 1}, "Not a Overflow Priority consumer"),
        ("none", {"min_ack_pending": 1}, "Not a Overflow Priority consumer"),
        ("overflow", {"group": "A", "id": "x"}, "Not a Pinned Client Priority consumer"),
        ("prioritized", {"group": "A", "priority": 10}, "Priority must be between 0 and 9"),
        ("none", {"priority": -1}, "Priority must be between 0 and 9"),
        ("overflow", {}, "Priority Group missing"),
        ("overflow", {"group": "C"}, "Invalid Priority Group"),
    ],
)
def test_a_request_that_does_not_fit_the_policy_is_refused(policy, members, text):
    assert refusal(Consumer(policy), **members) == (400, f"Bad Request - {text}")


def test_what_fits_is_not_refused():
    assert refusal(Consumer("none"), group="X") is None
    assert refusal(Consumer("overflow"), group="B", min_pending=5) is None
    assert Consumer("overflow").priority.refusal(None) is None
    assert [Consumer(policy).priority.chooses for policy in ("none", "overflow")] == [False, True]


def test_lower_numbers_are_served_first_and_equal_ones_in_turn():
    consumer = Consumer("prioritized")
    consumer.ask(b"late", priority=5)
    consumer.ask(b"a", priority=1)
    consumer.ask(b"b", priority=1)
    assert consumer.choices(4) == [b"a", b"b", b"a", b"b"]
    consumer.ask(b"first")
    assert consumer.choices(2) == [b"first", b"first"]
    consumer.core.requests[:] = [one for one in consumer.core.requests if one.reply == b"late"]
    assert consumer.choices(1) == [b"late"]


def test_overflow_serves_a_request_only_when_enough_is_waiting():
    consumer = Consumer("overflow")
    consumer.ask(b"pending", min_pending=10)
    consumer.ask(b"unacknowledged", min_ack_pending=5)
    assert consumer.choices(1) == [None]
    consumer.core.num_pending = 10
    assert consumer.choices(2) == [b"pending", b"pending"]
    consumer.core.num_pending, consumer.core.num_ack_pending = 9, 5
    assert consumer.choices(2) == [b"unacknowledged", b"unacknowledged"]
    consumer.core.num_redeliveries = 1
    assert set(consumer.choices(2)) == {b"pending", b"unacknowledged"}
    consumer.core.num_pending = consumer.core.num_ack_pending = consumer.core.num_redeliveries = 0
    consumer.ask(b"always")
    assert consumer.choices(2) == [b"always", b"always"]


def test_the_first_client_is_pinned_and_the_others_wait():
    consumer = Consumer("pinned_client")
    consumer.ask(b"first")
    consumer.ask(b"second")
    assert consumer.choices(3) == [b"first"] * 3
    pin = consumer.priority.pin
    assert consumer.core.extra_headers == b"Nats-Pin-Id: %b\r\n" % pin.encode()
    assert consumer.events() == [("PINNED", pin)]
    assert consumer.priority.shown() == [
        {"group": "A", "pinned_client_id": pin, "pinned_ts": "1970-01-01T00:00:01Z"}
    ]
    consumer.core.requests.pop(0 if consumer.core.requests[0].reply == b"first" else 1)
    assert consumer.choices(1) == [None]
    consumer.ask(b"again", id=pin)
    assert consumer.choices(2) == [b"again", b"again"]


def test_wrong_pins_are_refused_or_ended():
    consumer = Consumer("pinned_client")
    consumer.ask(b"first")
    assert consumer.choices(1) == [b"first"]
    assert refusal(consumer, group="A", id="wrong") == (423, "Nats-Pin-Id mismatch")
    old = consumer.priority.pin
    assert refusal(consumer, group="A", id=old) is None
    consumer.core.requests.clear()
    consumer.ask(b"old", id=old)
    consumer.ask(b"new")
    consumer.priority.unpin("admin", "A")
    assert consumer.choices(1) == [b"new"]
    assert consumer.wrong == [b"old"]


def test_a_silent_client_loses_its_pin():
    consumer = Consumer("pinned_client")
    consumer.ask(b"first")
    consumer.choices(1)
    consumer.engine.advance(6)
    assert refusal(consumer, group="A", id=consumer.priority.pin) is None
    consumer.engine.advance(6)
    assert consumer.priority.pin
    consumer.engine.advance(4)
    assert not consumer.priority.pin
    assert consumer.events()[1:] == [("UNPINNED", "timeout")]
    assert consumer.core.extra_headers == b""
    assert consumer.core.wakes == 1
    assert consumer.engine.timers == []
    assert consumer.priority.shown() == [{"group": "A", "pinned_ts": "0001-01-01T00:00:00Z"}]


def test_nobody_is_pinned_for_nothing():
    consumer = Consumer("pinned_client")
    consumer.deaf = {b"deaf"}
    consumer.ask(b"deaf")
    chosen = consumer.priority.choose()
    assert (chosen.reply, consumer.priority.pin) == (b"deaf", "")
    consumer.core.remove_request(chosen)
    consumer.ask(b"small")
    consumer.ask(b"large")
    small = consumer.priority.choose()
    first_pin = consumer.priority.pin
    # The message is larger than this request allows: the core ends it and asks again.
    consumer.core.remove_request(small)
    assert consumer.choices(1) == [b"large"]
    assert consumer.priority.pin not in ("", first_pin)


def test_the_pin_goes_with_the_policy():
    consumer = Consumer("pinned_client")
    consumer.ask(b"first")
    consumer.choices(1)
    consumer.config = ConsumerConfig()
    consumer.priority.configure()
    assert (consumer.priority.pin, consumer.core.extra_headers, consumer.engine.timers) == ("", b"", [])


def test_requests_without_json_are_served_last_and_never_pinned():
    consumer = Consumer("pinned_client")
    consumer.priority.add(Request(b"plain", 1, -1, SimpleNamespace(group=None)))
    assert consumer.priority.choose().reply == b"plain"
    assert consumer.priority.pin == ""
    consumer.config = consumer.config.replace(priority_policy="prioritized")
    consumer.ask(b"nine", priority=9)
    assert consumer.priority.choose().reply == b"nine"
