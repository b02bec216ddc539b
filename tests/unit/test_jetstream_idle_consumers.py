"""What consumers cost that have nothing to do, in work that is counted."""

from types import SimpleNamespace

from support.planes import mesh

from storage.consumer import ACK_EXPLICIT, ConsumerStore
from storage.limits import StreamLimits
from storage.memory import memory_stream
from workers.jetstream.delivery import Audience, ConsumerCore, Pumps, Request
from workers.jetstream.ingest import Acks

CONSUMERS = 10_000
NOW_NS = 1_700_000_000_000_000_000


class Policy:
    """Counts how often it is asked to deliver."""

    acks_one = True

    def __init__(self):
        self.pumps = 0

    def pump(self):
        self.pumps += 1


class Fixture:
    """A stream in memory, and what its consumers share."""

    def __init__(self, planes):
        self.plane = planes.hosts[0].plane
        self.store = memory_stream(StreamLimits())
        self.stream = SimpleNamespace(name="S", account=0, store=self.store)
        self.acks = Acks(self.plane)
        self.pumps = Pumps()
        self.audience = Audience()
        self.policy = Policy()

    def consumer(self, name, *filters):
        return ConsumerCore(
            self.plane,
            self.acks,
            self.pumps,
            self.audience,
            self.stream,
            self.policy,
            name,
            ConsumerStore(name, 1, ACK_EXPLICIT, b""),
            filters,
            acknowledges=True,
        )

    def publish(self, subject):
        self.store.append(subject, b"", b"", NOW_NS)
        self.audience.wake()


def test_consumers_that_nobody_reads_are_not_pumped():
    def publish(it):
        idle = [it.consumer(f"c{number}") for number in range(CONSUMERS)]
        it.pumps.run()
        it.policy.pumps = 0
        for _ in range(10):
            it.publish(b"a")
        assert (len(it.pumps), it.pumps.run(), it.policy.pumps) == (0, False, 0)
        assert idle[-1].num_pending == 10

    with mesh(1) as planes:
        publish(Fixture(planes))


def test_consumers_of_other_subjects_are_not_pumped():
    def publish(it):
        for number in range(CONSUMERS // 10):
            it.consumer(f"c{number}", f"a.{number}").add_request(Request(b"in.x"))
        it.pumps.run()
        it.policy.pumps = 0
        it.publish(b"a.7")
        it.pumps.run()
        assert it.policy.pumps == 1

    with mesh(1) as planes:
        publish(Fixture(planes))
