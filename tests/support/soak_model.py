"""The soak: random traffic over many connections, and a model that says what each must receive.

The work goes in phases. Between phases some connections come and go, subscribe and unsubscribe, each step
answered by a PONG. In a phase many connections publish at once; the model knows what every subscription gets:
    plain         for each publisher all messages whose subjects match, in order, once
    queue group   every message once over all members whose patterns match, in order per publisher and member
    restless      a connection that subscribes, unsubscribes and vanishes while messages flow: for each
                  publisher, of the messages published after the answer to SUB, an unbroken run from the first
"""

import random
import selectors
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from support.soak_client import NUMBER_BITS, STAMP_BYTES, SoakClient, publish_operation

STALL_TIMEOUT_S = 60
CLIENT_COUNT_MAX = 32
SUBSCRIPTION_COUNT_MAX = 60
PUBLISHER_COUNT = 8
PHASE_MESSAGES = 20_000
UNSENT_BYTES_MAX = 1 << 20
BATCH_MESSAGES = 200
NUMBER_MASK = (1 << NUMBER_BITS) - 1

SUBJECTS = tuple(b"soak.%d.%d.%d" % (i % 3, i % 5, i) for i in range(60))
PATTERNS = (
    *SUBJECTS[::3],
    *(b"soak.%d.*.*" % i for i in range(3)),
    *(b"soak.*.%d.>" % i for i in range(5)),
    *(b"*.*.*.%d" % i for i in range(60)),
    b"soak.0.>",
    b"soak.>",
)
QUEUES = (b"red", b"green", b"blue")
SIZES = (STAMP_BYTES, 16, 16, 64, 64, 128, 128, 300, 1000)
RARE_SIZES = (4000, 16_000, 70_000, 400_000)
RARE_SIZE_CHANCE = 0.004


def matches(pattern: bytes, subject: bytes) -> bool:
    """Whether a subscription to pattern gets a message on subject."""
    wanted, given = pattern.split(b"."), subject.split(b".")
    for index, token in enumerate(wanted):
        if token == b">":
            return len(given) > index
        if index >= len(given) or token not in (b"*", given[index]):
            return False
    return len(wanted) == len(given)


MATCHES = {pattern: np.array([matches(pattern, subject) for subject in SUBJECTS]) for pattern in PATTERNS}
SUBJECT_INDEX = {subject: index for index, subject in enumerate(SUBJECTS)}


@dataclass(eq=False)
class Subscription:
    """A SUB that was answered; queue is b"" for a plain one."""

    client: SoakClient
    sid: bytes
    pattern: bytes
    queue: bytes

    def received(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the stamps and the subject numbers of what came in this phase."""
        got = self.client.received.get(self.sid, [])
        stamps = np.fromiter((stamp for stamp, _ in got), np.int64, len(got))
        subjects = np.fromiter((SUBJECT_INDEX[subject] for _, subject in got), np.int64, len(got))
        return stamps, subjects


@dataclass(eq=False)
class Run(Subscription):
    """A subscription made while messages flow.

    Attributes:
        ping_number: the client's PING that follows the SUB.
        first_numbers: for each publisher the next message when that PING was answered; None until then. Any
            of those before may arrive: the SUB may not be known yet where other subscriptions are.
    """

    ping_number: int
    first_numbers: dict[int, int] | None = None


@dataclass
class Phase:
    """What is published: for each publisher the number of its first message and the subjects in order."""

    first_number: dict[int, int] = field(default_factory=dict)
    subjects: dict[int, np.ndarray] = field(default_factory=dict)

    def expected(self, matching: np.ndarray) -> dict[int, np.ndarray]:
        """Return for each publisher the stamps of the messages whose subjects match."""
        return {
            publisher: (publisher << NUMBER_BITS)
            + self.first_number[publisher]
            + np.nonzero(matching[subjects])[0]
            for publisher, subjects in self.subjects.items()
        }


class Soak:
    """Runs phases against the broker on a port and checks each.

    Attributes:
        published, delivered: messages so far.
    """

    def __init__(self, port: int, seed: int) -> None:
        self.published = 0
        self.delivered = 0
        self._port = port
        self._random = random.Random(seed)
        self._numpy_random = np.random.default_rng(seed)
        self._selector = selectors.DefaultSelector()
        self._names = 0
        self._sids = 0
        self._clients: list[SoakClient] = []
        self._subscriptions: list[Subscription] = []
        self._restless: SoakClient | None = None
        self._runs: list[Run] = []

    def run(self, message_count: int) -> None:
        """Publish at least message_count messages and check every delivery."""
        while self.published < message_count:
            self._change_connections()
            self._change_subscriptions()
            phase = self._plan(min(PHASE_MESSAGES, message_count - self.published))
            self._publish(phase)
            self._check(phase)

    def close(self) -> None:
        """Close every connection."""
        for client in [*self._clients, *([self._restless] if self._restless else [])]:
            client.close()
        self._selector.close()

    def _poll(self) -> None:
        for key, events in self._selector.select(0.05):
            client: SoakClient = key.data
            if events & selectors.EVENT_WRITE:
                client.write()
            if events & selectors.EVENT_READ:
                client.read()

    def _wait(self, condition, what: str) -> None:
        """Poll until condition() is true; give up when nothing at all came in for STALL_TIMEOUT_S."""
        last_progress = -1
        deadline = 0.0
        while not condition():
            progress = sum(client.received_count + client.pongs for client in self._clients)
            if progress != last_progress:
                last_progress, deadline = progress, time.monotonic() + STALL_TIMEOUT_S
            assert time.monotonic() < deadline, f"waited for {what} after {self.published} messages"
            self._poll()

    def _fence(self, clients: list[SoakClient]) -> None:
        for client in clients:
            client.ping()
        self._wait(lambda: all(client.is_fenced() for client in clients), "PONG")

    def _connect(self) -> SoakClient:
        self._names += 1
        return SoakClient(self._names, self._port, self._selector)

    def _change_connections(self) -> None:
        leaving = self._random.sample(self._clients, len(self._clients) // 6)
        for client in leaving:
            client.end_input()
        self._wait(lambda: not any(client.is_open for client in leaving), "connections to end")
        self._clients = [client for client in self._clients if client.is_open]
        self._subscriptions = [each for each in self._subscriptions if each.client.is_open]
        arriving = [self._connect() for _ in range(CLIENT_COUNT_MAX - len(self._clients))]
        self._clients += arriving
        self._fence(arriving)

    def _subscribe(self, client: SoakClient, queue: bytes) -> Subscription:
        self._sids += 1
        subscription = Subscription(client, b"%d" % self._sids, self._random.choice(PATTERNS), queue)
        client.send(b"SUB %b %b %b\r\n" % (subscription.pattern, queue, subscription.sid))
        return subscription

    def _change_subscriptions(self) -> None:
        for subscription in self._random.sample(self._subscriptions, len(self._subscriptions) // 4):
            self._subscriptions.remove(subscription)
            subscription.client.send(b"UNSUB %b\r\n" % subscription.sid)
        while len(self._subscriptions) < SUBSCRIPTION_COUNT_MAX:
            queue = self._random.choice(QUEUES) if self._random.random() < 0.3 else b""
            self._subscriptions.append(self._subscribe(self._random.choice(self._clients), queue))
        self._fence(self._clients)

    def _plan(self, message_count: int) -> Phase:
        phase = Phase()
        publishers = self._random.sample(self._clients, PUBLISHER_COUNT)
        for publisher in publishers:
            phase.first_number[publisher.name] = publisher.next_number
            phase.subjects[publisher.name] = self._numpy_random.integers(
                0, len(SUBJECTS), -(-message_count // PUBLISHER_COUNT)
            )
        return phase

    def _operation(self, publisher: SoakClient, subject: bytes) -> bytes:
        sizes = RARE_SIZES if self._random.random() < RARE_SIZE_CHANCE else SIZES
        number = publisher.next_number
        publisher.next_number += 1
        return publish_operation(publisher.name, number, subject, self._random.choice(sizes))

    def _publish(self, phase: Phase) -> None:
        """Let all publishers send in turns of random length while everybody receives."""
        for client in self._clients:
            client.clear()
        unpublished = {
            client: list(phase.subjects[client.name])
            for client in self._clients
            if client.name in phase.subjects
        }
        while unpublished:
            publisher = self._random.choice(list(unpublished))
            subjects = unpublished[publisher]
            first = publisher.next_number - phase.first_number[publisher.name]
            chosen = subjects[first : first + self._random.randint(1, BATCH_MESSAGES)]
            publisher.send(b"".join(self._operation(publisher, SUBJECTS[subject]) for subject in chosen))
            if first + len(chosen) == len(subjects):
                del unpublished[publisher]
            self._fidget()
            self._poll()
            self._wait(
                lambda who=publisher: who.unsent_bytes() < UNSENT_BYTES_MAX, "the publisher to be read"
            )
        self.published += sum(map(len, phase.subjects.values()))
        expected = self._expected_count(phase)
        self._wait(lambda: sum(client.received_count for client in self._clients) >= expected, "all messages")
        self._settle_restless()
        self._fence(self._clients)
        self.delivered += sum(client.received_count for client in self._clients)

    def _fidget(self) -> None:
        """Let the restless connection subscribe, unsubscribe, vanish or come back while messages flow."""
        for run in self._runs:
            if run.first_numbers is None and run.client.pongs >= run.ping_number:
                run.first_numbers = {client.name: client.next_number for client in self._clients}
        chance = self._random.random()
        if self._restless is None:
            if chance < 0.2:
                self._restless = self._connect()
        elif chance < 0.1:
            made = self._subscribe(self._restless, b"")
            self._restless.ping()
            self._runs.append(Run(made.client, made.sid, made.pattern, b"", self._restless.pings))
        elif chance < 0.2 and self._runs:
            # One that is over, or belonged to a connection that has vanished, is accepted silently.
            self._restless.send(b"UNSUB %b\r\n" % self._random.choice(self._runs).sid)
        elif chance < 0.21:
            self._restless.close()
            self._restless = None

    def _settle_restless(self) -> None:
        if self._restless is None:
            return
        restless = self._restless
        for subscription in self._runs:
            restless.send(b"UNSUB %b\r\n" % subscription.sid)
        restless.ping()
        self._wait(restless.is_fenced, "the restless connection's PONG")

    def _groups(self) -> dict[bytes, list[Subscription]]:
        groups: dict[bytes, list[Subscription]] = {}
        for subscription in self._subscriptions:
            if subscription.queue:
                groups.setdefault(subscription.queue, []).append(subscription)
        return groups

    def _expected_count(self, phase: Phase) -> int:
        subjects = Counter(np.concatenate(list(phase.subjects.values())).tolist())
        counts = np.array([subjects[index] for index in range(len(SUBJECTS))])
        total = sum(
            int(counts[MATCHES[each.pattern]].sum()) for each in self._subscriptions if not each.queue
        )
        for members in self._groups().values():
            total += int(counts[np.any([MATCHES[member.pattern] for member in members], axis=0)].sum())
        return total

    def _check(self, phase: Phase) -> None:
        for subscription in self._subscriptions:
            if not subscription.queue:
                check_plain(phase, subscription)
        for members in self._groups().values():
            check_group(phase, members)
        for subscription in self._runs:
            check_run(phase, subscription)
        self._check_nothing_else()
        self._runs.clear()
        if self._restless is not None:
            self._restless.clear()

    def _check_nothing_else(self) -> None:
        known = Counter((each.client.name, each.sid) for each in self._subscriptions)
        for client in self._clients:
            for sid in client.received:
                assert (client.name, sid) in known, f"message for sid {sid!r} that was unsubscribed"


def by_publisher(stamps: np.ndarray) -> dict[int, np.ndarray]:
    """Split stamps by publisher, keeping the order of arrival."""
    publishers = stamps >> NUMBER_BITS
    return {int(publisher): stamps[publishers == publisher] for publisher in np.unique(publishers)}


def check_subjects(phase: Phase, stamps: np.ndarray, subjects: np.ndarray) -> None:
    """Check that every message came under the subject on which it was published."""
    for publisher in np.unique(stamps >> NUMBER_BITS):
        assert int(publisher) in phase.subjects, f"message of publisher {publisher} from another phase"
        own = stamps >> NUMBER_BITS == publisher
        numbers = (stamps[own] & NUMBER_MASK) - phase.first_number[int(publisher)]
        sent = phase.subjects[int(publisher)]
        assert numbers.min() >= 0, "message of an earlier phase"
        assert np.array_equal(sent[numbers], subjects[own]), "message under another subject"


def check_plain(phase: Phase, subscription: Subscription) -> None:
    """Check that each publisher's matching messages came once and in order."""
    stamps, subjects = subscription.received()
    check_subjects(phase, stamps, subjects)
    got = by_publisher(stamps)
    for publisher, expected in phase.expected(MATCHES[subscription.pattern]).items():
        numbers = got.get(publisher, expected[:0])
        if not np.array_equal(numbers, expected):
            raise AssertionError(f"{subscription.pattern!r}: {describe_difference(numbers, expected)}")


def check_group(phase: Phase, members: list[Subscription]) -> None:
    """Check that each matching message came to one member whose pattern matches, in order at each."""
    everything = []
    for member in members:
        stamps, subjects = member.received()
        check_subjects(phase, stamps, subjects)
        assert MATCHES[member.pattern][subjects].all(), (
            f"{member.pattern!r} got a subject that it does not match"
        )
        for numbers in by_publisher(stamps).values():
            assert (np.diff(numbers) > 0).all(), f"messages of a publisher overtook each other: {numbers}"
        everything.append(stamps)
    matching = np.any([MATCHES[member.pattern] for member in members], axis=0)
    expected = np.sort(np.concatenate(list(phase.expected(matching).values())))
    got = np.sort(np.concatenate(everything))
    if not np.array_equal(got, expected):
        raise AssertionError(f"group {members[0].queue!r}: {describe_difference(got, expected)}")


def check_run(phase: Phase, run: Run) -> None:
    """Check that of each publisher's messages after the answer to SUB the first ones came, without a gap."""
    stamps, subjects = run.received()
    check_subjects(phase, stamps, subjects)
    assert MATCHES[run.pattern][subjects].all(), f"{run.pattern!r} got a subject that it does not match"
    expected = phase.expected(MATCHES[run.pattern])
    for publisher, got in by_publisher(stamps).items():
        assert (np.diff(got) > 0).all(), f"messages of a publisher overtook each other: {got}"
        if run.first_numbers is not None:
            first = (publisher << NUMBER_BITS) + run.first_numbers[publisher]
            settled, wanted = got[got >= first], expected[publisher][expected[publisher] >= first]
            wanted = wanted[: len(settled)]
            if not np.array_equal(settled, wanted):
                raise AssertionError(f"{run.pattern!r}: {describe_difference(settled, wanted)}")


def describe_difference(got: np.ndarray, expected: np.ndarray) -> str:
    """Say in numbers how two sequences of stamps differ."""
    missing = np.setdiff1d(expected, got)
    foreign = np.setdiff1d(got, expected)
    doubled = len(got) - len(np.unique(got))
    first = [int(number) & NUMBER_MASK for number in missing[:5]]
    return (
        f"{len(missing)} missing of {len(expected)}, first {first}; {len(foreign)} foreign, {doubled} doubled"
    )
