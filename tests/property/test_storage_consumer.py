"""A consumer does what a plain model does, under any order of deliveries, acks, restarts and replays."""

from dataclasses import dataclass, field
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from storage.consumer import ACK_ALL, ACK_EXPLICIT, ACK_NONE, ConsumerStore

Pair = tuple[int, int]


@dataclass
class Model:
    """The same with dictionaries, slow and obvious."""

    ack_policy: int
    delivered: Pair = (0, 0)
    floor: Pair = (0, 0)
    pending: dict[int, Pair] = field(default_factory=dict)
    redeliveries: dict[int, int] = field(default_factory=dict)
    oldest_first: list[int] = field(default_factory=list)
    given_up: set[int] = field(default_factory=set)

    def deliver(self, consumer_sequence: int, sequence: int, deliveries: int, timestamp_ns: int) -> None:
        self.delivered = (max(self.delivered[0], consumer_sequence), max(self.delivered[1], sequence))
        if self.ack_policy == ACK_NONE:
            self.floor = self.delivered
            return
        first = self.pending.get(sequence, (consumer_sequence, 0))[0]
        self.pending[sequence] = (first, timestamp_ns)
        if deliveries > 1:
            self.redeliveries[sequence] = deliveries - 1
        self._make_youngest(sequence)

    def _make_youngest(self, sequence: int) -> None:
        if sequence in self.oldest_first:
            self.oldest_first.remove(sequence)
        self.oldest_first.append(sequence)

    def _forget(self, sequence: int) -> None:
        del self.pending[sequence]
        self.redeliveries.pop(sequence, None)
        self.oldest_first.remove(sequence)

    def ack(self, consumer_sequence: int, sequence: int) -> int:
        if self.ack_policy == ACK_ALL:
            if consumer_sequence <= self.floor[0] or sequence <= self.floor[1]:
                return 0
            acked = [one for one in self.pending if one <= sequence]
            for one in acked:
                self._forget(one)
            self.floor = (consumer_sequence, sequence)
            self.given_up.discard(sequence)
            return len(acked)
        if sequence not in self.pending:
            self.given_up.discard(sequence)
            return 0
        first_delivery = self.pending[sequence][0]
        self._forget(sequence)
        if self.pending and first_delivery != self.floor[0] + 1:
            return 1
        if self.pending:
            lowest = min(self.pending)
            first = self.pending[lowest][0]
            self.floor = (max(self.floor[0], first - 1), max(self.floor[1], lowest - 1))
        else:
            self.floor = self.delivered
        return 1

    def give_up(self, sequence: int) -> int:
        if sequence not in self.pending:
            return 0
        self._forget(sequence)
        self.given_up.add(sequence)
        return 1

    def restart_wait(self, sequence: int, timestamp_ns: int) -> int:
        if sequence not in self.pending:
            return 0
        self.pending[sequence] = (self.pending[sequence][0], timestamp_ns)
        self._make_youngest(sequence)
        return 1

    def reset(self, sequence: int) -> None:
        self.delivered = self.floor = (0, max(sequence - 1, 0))
        for one in list(self.pending):
            self._forget(one)
        self.given_up.clear()

    def state(self) -> dict[str, object]:
        return {
            "delivered": self.delivered,
            "ack_floor": self.floor,
            "pending": self.pending,
            "redelivered": self.redeliveries,
        }


def new_store(ack_policy: int) -> ConsumerStore:
    return ConsumerStore("c", 1, ack_policy, b"")


def assert_same(store: ConsumerStore, model: Model) -> None:
    """The store says what the model says, in every order."""
    assert store.state() == model.state()
    assert list(store.pending) == sorted(model.pending)
    assert store.oldest_first == model.oldest_first
    assert store.given_up == model.given_up
    assert (store.pending_count, store.redelivered_count) == (len(model.pending), len(model.redeliveries))


class History:
    """Random operations on a store and on its model, and a second store that replays the first one's log."""

    def __init__(self, seed: int, ack_policy: int, gap_max: int, *, can_restart_wait: bool) -> None:
        self.rng = Random(seed)
        self.store, self.follower = new_store(ack_policy), new_store(ack_policy)
        self.model = Model(ack_policy)
        self.gap_max, self.can_restart_wait = gap_max, can_restart_wait
        self.now = 1_700_000_000_000_000_000
        self.log: list[bytes] = []

    def _some_sequence(self) -> int:
        """Return mostly the sequence of a pending message, sometimes any."""
        if self.model.pending and self.rng.random() < 0.9:
            return self.rng.choice(list(self.model.pending))
        if self.model.given_up and self.rng.random() < 0.5:
            return self.rng.choice(sorted(self.model.given_up))
        return self.rng.randrange(self.model.delivered[1] + 3)

    def _deliver(self) -> None:
        if self.rng.random() < 0.3:
            self.now += self.rng.choice((1, 1000, -5, 10**12))
        for _ in range(self.rng.choice((1, 1, 2, 40))):
            sequence = self.model.delivered[1] + self.rng.randint(1, self.gap_max)
            self._both("delivered", self.model.delivered[0] + 1, sequence, 1, self.now)

    def _redeliver(self) -> None:
        self.now += 7
        sequence = self._some_sequence()
        if sequence:
            deliveries = self.model.redeliveries.get(sequence, 0) + self.rng.choice((1, 2, 2, 2))
            self._both("delivered", self.model.delivered[0] + 1, sequence, deliveries, self.now)

    def _ack(self) -> None:
        for sequence in range(first := self._some_sequence(), first + self.rng.choice((1, 1, 30))):
            self._both("ack", self.model.pending.get(sequence, (sequence, 0))[0], sequence)

    def _both(self, operation: str, *arguments: int) -> None:
        answer = getattr(self.store, operation)(*arguments)
        assert answer == getattr(self.model, "deliver" if operation == "delivered" else operation)(*arguments)

    def take(self) -> None:
        """Let the second store follow, sometimes through records that it knows already."""
        self.log.append(self.store.take_changes())
        assert self.store.take_changes() == b""
        for record in [*self.log[-self.rng.randint(1, 4) :], *self.log[-self.rng.randint(1, 2) :]]:
            if record:
                self.follower.replay(record)

    def step(self) -> None:
        """Do something."""
        choice = self.rng.random()
        if choice < 0.35:
            self._deliver()
        elif choice < 0.45:
            self._redeliver()
        elif choice < 0.7:
            self._ack()
        elif choice < 0.8:
            self._both("give_up", self._some_sequence())
        elif choice < 0.9:
            self.take()
        elif choice < 0.91:
            self._both("reset", self.rng.randrange(self.model.delivered[1] + 2))
        elif self.can_restart_wait:
            self._both("restart_wait", self._some_sequence(), self.now)


policies = st.sampled_from([ACK_NONE, ACK_ALL, ACK_EXPLICIT, ACK_EXPLICIT])
gaps = st.sampled_from([1, 1, 3, 10_000_000])


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), policy=policies, gap_max=gaps, steps=st.integers(1, 150))
def test_a_consumer_does_what_the_model_does(seed: int, policy: int, gap_max: int, steps: int) -> None:
    history = History(seed, policy, gap_max, can_restart_wait=True)
    for _ in range(steps):
        history.step()
        assert_same(history.store, history.model)
    copy = new_store(policy)
    copy.restore(history.store.export())
    assert_same(copy, history.model)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), policy=policies, gap_max=gaps, steps=st.integers(1, 150))
def test_replaying_the_log_once_or_twice_gives_the_same(
    seed: int, policy: int, gap_max: int, steps: int
) -> None:
    history = History(seed, policy, gap_max, can_restart_wait=False)
    for _ in range(steps):
        history.step()
    history.take()
    assert_same(history.follower, history.model)
    again = new_store(policy)
    for record in history.log * 2:
        if record:
            again.replay(record)
    assert_same(again, history.model)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), policy=policies, before=st.integers(1, 60), after=st.integers(1, 60))
def test_changes_continue_a_restored_state(seed: int, policy: int, before: int, after: int) -> None:
    history = History(seed, policy, 3, can_restart_wait=False)
    for _ in range(before):
        history.step()
    history.take()
    copy = new_store(policy)
    copy.restore(history.store.export())
    for _ in range(after):
        history.step()
    history.take()
    for record in history.log:
        if record:
            copy.replay(record)
    assert_same(copy, history.model)
