"""What consumers cost that have nothing to do, in work that is counted."""

from types import SimpleNamespace

from support.planes import mesh

from storage.consumer import ACK_EXPLICIT, ConsumerStore
from storage.limits import StreamLimits
from storage.memory import memory_stream
from workers.jetstream.audience import Audience, Pumps
from workers.jetstream.delivery import INTEREST, KEEP, ConsumerCore, Request
from workers.jetstream.ingest import Acks

CONSUMERS = 10_000
NOW_NS = 1_700_000_000_000_000_000


class Policy:
    """Delivers when asked, and counts how often that is."""

    def __init__(self, it):
        self.core = None
        self.it = it

    def pump(self):
        self.it.pumped.append(self.core.name)
        self.core.pump(NOW_NS)

    def request_ended(self, request, reason):
        pass

    def acknowledged(self, sequence):
        if not self.it.audience.is_wanted(sequence, self.core):
            self.it.store.delete(sequence)
            self.it.audience.acknowledged += 1


class Fixture:
    """A stream in memory, and what its consumers share; a client listens to in.>."""

    def __init__(self, planes, mode=KEEP, **limits):
        self.plane = planes.hosts[0].plane
        self.store = memory_stream(StreamLimits(**limits))
        self.stream = SimpleNamespace(name="S", account=0, store=self.store)
        self.acks = Acks(self.plane)
        self.pumps = Pumps()
        self.audience = Audience(self.store)
        self.mode = mode
        self.pumped = []
        self.client = planes.connect(0, headers=True)
        self.client.send(b"SUB in.> 1\r\n")
        planes.settle()

    def consumer(self, name, *filters):
        policy = Policy(self)
        policy.core = ConsumerCore(
            self.plane,
            self.acks,
            self.pumps,
            self.audience,
            self.stream,
            policy,
            name,
            ConsumerStore(name, 1, ACK_EXPLICIT, b""),
            filters,
            acknowledges=True,
            mode=self.mode,
        )
        return policy.core

    def reader(self, name, *filters, count=1):
        core = self.consumer(name, *filters)
        core.add_request(Request(b"in.x", count))
        return core

    def settle(self):
        """Let everybody look once, and begin to count."""
        self.pump()
        self.looked_before = self.audience.looked_at

    def pump(self):
        while self.pumps.run():
            pass
        pumped, self.pumped = self.pumped, []
        return pumped

    def publish(self, *subjects):
        """Store messages in one round; return which consumers were pumped for them."""
        for subject in subjects:
            self.store.append(subject, b"", b"", NOW_NS)
        self.audience.wake()
        return self.pump()

    @property
    def looked_at(self):
        return self.audience.looked_at - self.looked_before


def in_fixture(test, **options):
    with mesh(1) as planes:
        test(Fixture(planes, **options))


def test_consumers_that_nobody_reads_are_not_looked_at():
    def check(it):
        idle = [it.consumer(f"c{number}") for number in range(CONSUMERS)]
        it.settle()
        for _ in range(10):
            assert it.publish(b"a") == []
        assert it.looked_at == 0
        assert idle[-1].num_pending == 10

    in_fixture(check)


def test_consumers_of_other_subjects_are_not_looked_at():
    def check(it):
        for number in range(CONSUMERS):
            it.reader(f"c{number}", f"a.{number}")
        it.settle()
        assert it.publish(b"a.7") == ["c7"]
        assert it.publish(b"a.8", b"b", b"a.9", b"a.8") == ["c8", "c9"]
        assert it.looked_at == 3

    in_fixture(check)


def test_consumers_of_other_wildcards_are_not_looked_at():
    def check(it):
        for number in range(CONSUMERS // 2):
            it.reader(f"one{number}", f"a.*.{number}")
            it.reader(f"rest{number}", f"{number}.>")
        it.settle()
        assert it.publish(b"a.b.7", b"7.b.a") == ["one7", "rest7"]
        assert it.looked_at == 2

    in_fixture(check)


def test_new_subjects_do_not_make_it_dearer():
    def check(it):
        for number in range(CONSUMERS):
            it.reader(f"c{number}", f"a.{number}")
        it.settle()
        for number in range(1000):
            assert it.publish(b"new.%d" % number) == []
        assert it.looked_at == 0

    in_fixture(check)


def test_one_round_looks_once_at_a_consumer_of_many_messages():
    def check(it):
        core = it.reader("c", "a.*", "a.1", count=100)
        it.settle()
        assert it.publish(*[b"a.%d" % number for number in range(50)]) == ["c"]
        assert core.state.delivered_stream == 50
        assert it.looked_at == 2  # as it has two filters

    in_fixture(check)


def test_a_consumer_with_work_to_do_is_not_pumped_for_more():
    def check(it):
        core = it.reader("c", count=100)
        core.max_ack_pending = 1
        it.settle()
        assert it.publish(b"a", b"a") == ["c"]
        assert it.publish(b"a") == []
        core.acknowledge(1, 1)
        assert it.pump() == ["c"]
        assert core.state.delivered_stream == 2

    in_fixture(check)


def test_an_id_that_another_subject_got_is_told_to_its_consumers():
    def check(it):
        old, new = it.reader("old", "a", count=9), it.reader("new", "b", count=9)
        it.settle()
        assert it.publish(b"a") == ["old"]
        it.store.delete(1)
        assert it.publish(b"b") == ["new"]
        assert (old.state.delivered_stream, new.state.delivered_stream) == (1, 2)
        it.store.purge_all()
        assert it.publish(b"a") == ["old"]

    in_fixture(check)


def test_changed_filters_count_from_then_on():
    def check(it):
        core = it.reader("c", "a", count=9)
        it.settle()
        assert it.publish(b"b") == []
        core.set_filters(["b", "c.*"])
        it.pump()
        assert it.publish(b"a") == []
        assert it.publish(b"b", b"c.1") == ["c"]
        assert core.state.delivered_stream == 4
        assert core.last_looked_at == 4

    in_fixture(check)


def test_an_idle_consumer_knows_what_it_has_passed_over():
    def check(it):
        core = it.reader("c", "a", count=9)
        it.settle()
        it.publish(b"b", b"b")
        assert (core.last_looked_at, core.num_pending) == (2, 0)
        it.store.append(b"a", b"", b"", NOW_NS)
        assert (core.last_looked_at, core.num_pending) == (2, 1)
        assert it.publish(b"b") == ["c"]
        assert core.state.delivered_stream == 3

    in_fixture(check)


def test_consumers_that_left_are_told_nothing():
    def check(it):
        core = it.reader("c", "a.*", count=9)
        it.settle()
        it.publish(b"a.1")
        core.wake()
        it.audience.leave(core)
        it.pump()
        assert it.audience.holding() == []
        assert it.publish(b"a.1") == []
        assert not it.audience.wants_subject(b"a.1")
        assert it.looked_at == 1

    in_fixture(check)


def test_only_consumers_that_hold_messages_hear_of_removed_ones():
    def check(it):
        for number in range(CONSUMERS):
            it.consumer(f"c{number}")
        reader = it.reader("reader", count=2)
        it.settle()
        it.publish(b"a", b"a")
        it.audience.lost_messages()
        assert not it.audience.lost_messages()
        it.publish(b"a")
        assert it.audience.lost_messages()
        assert it.audience.holding() == [reader]
        assert [sequence for sequence, *_ in reader.drop_gone()] == [1]
        reader.acknowledge(2, 2)
        assert it.audience.holding() == []

    in_fixture(check, max_messages=2)


def test_an_acknowledgement_asks_few_others_whether_they_want_the_message():
    def check(it):
        messages, consumers = 20, 500
        cores = [it.reader(f"c{number}", "a", count=messages) for number in range(consumers)]
        it.settle()
        it.publish(*[b"a"] * messages)
        it.settle()
        for order in (cores, list(reversed(cores))):
            for number in range(1, messages // 2 + 1):
                sequence = number if order is cores else messages // 2 + number
                for core in order:
                    assert it.store.messages == messages + 1 - sequence
                    core.acknowledge(sequence, sequence)
        assert it.store.messages == 0
        assert it.looked_at <= 4 * messages * consumers

    in_fixture(check, mode=INTEREST)


def test_an_acknowledgement_does_not_pump_a_consumer_that_waits_for_messages():
    def check(it):
        core = it.reader("c", count=9)
        it.settle()
        it.publish(b"a", b"a")
        core.acknowledge(1, 1)
        assert it.pump() == []
        core.chooses = True
        core.acknowledge(2, 2)
        assert it.pump() == ["c"]

    in_fixture(check)
