"""The slow, obvious model of a stream: what storage/ must do, in plain dicts."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

from storage import queries
from storage.limits import (
    MAXIMUM_BYTES,
    MAXIMUM_MESSAGES,
    MAXIMUM_PER_SUBJECT,
    NEVER_NS,
    TOO_LARGE,
    StreamLimits,
    StreamState,
)
from storage.stream import StreamStore
from storage.subjects import SubjectFilter


@dataclass(slots=True)
class StoredMessage:
    """One message of the model."""

    timestamp_ns: int
    subject: bytes
    headers: bytes
    payload: bytes
    expires_ns: int = 0


def matches(pattern: bytes, subject: bytes) -> bool:
    """Tell whether a literal subject matches a pattern with `*` and `>`."""
    wanted, given = pattern.split(b"."), subject.split(b".")
    for index, token in enumerate(wanted):
        if token == b">" and index == len(wanted) - 1:
            return len(given) > index
        if index >= len(given) or token not in (b"*", given[index]):
            return False
    return len(wanted) == len(given)


@dataclass(slots=True)
class StreamModel:
    """A stream as a dict of messages."""

    limits: StreamLimits = field(default_factory=StreamLimits)
    is_memory: bool = False
    first: int = 1
    last: int = 0
    last_ts_ns: int = 0
    messages: dict[int, StoredMessage] = field(default_factory=dict)

    def copy(self) -> "StreamModel":
        """Return a model that changes on its own."""
        return StreamModel(
            self.limits, self.is_memory, self.first, self.last, self.last_ts_ns, dict(self.messages)
        )

    def size(self, message: StoredMessage) -> int:
        """Return the accounted bytes of a message."""
        parts = len(message.subject) + len(message.headers) + len(message.payload)
        if self.is_memory:
            return 16 + parts
        return 30 + parts + (4 if message.headers else 0)

    @property
    def total_bytes(self) -> int:
        """The accounted bytes of all messages."""
        return sum(self.size(message) for message in self.messages.values())

    def of_subject(self, subject: bytes) -> list[int]:
        """Return the sequences of one subject, in order."""
        return [sequence for sequence, message in self.messages.items() if message.subject == subject]

    def _settle(self) -> None:
        self.first = min(self.messages, default=self.last + 1)

    def append(self, message: StoredMessage) -> int:
        """Add a message as StreamStore.append does."""
        limits = self.limits
        if 0 <= limits.max_message_bytes < len(message.headers) + len(message.payload):
            return TOO_LARGE
        per_subject = max(limits.max_messages_per_subject, 0)
        if limits.discard_new:
            replaces = per_subject and len(self.of_subject(message.subject)) >= per_subject
            if replaces and limits.discard_new_per_subject:
                return MAXIMUM_PER_SUBJECT
            if not replaces and 0 <= limits.max_messages <= len(self.messages):
                return MAXIMUM_MESSAGES
            if 0 <= limits.max_bytes < self.total_bytes + self.size(message) and (
                not replaces
                or self.size(message) > self.size(self.messages[self.of_subject(message.subject)[0]])
            ):
                return MAXIMUM_BYTES
        self.last += 1
        self.last_ts_ns = message.timestamp_ns
        self.messages[self.last] = message
        added = self.last
        self._settle()
        self.enforce(message.subject)
        return added

    def enforce(self, subject: bytes | None = None) -> None:
        """Evict what the limits forbid; per subject only for `subject` unless it is None."""
        limits = self.limits
        if limits.max_messages_per_subject > 0:
            subjects = (
                {message.subject for message in self.messages.values()} if subject is None else {subject}
            )
            for one in subjects:
                for sequence in self.of_subject(one)[: -limits.max_messages_per_subject]:
                    del self.messages[sequence]
        while (
            self.messages
            and not limits.discard_new
            and (0 <= limits.max_messages < len(self.messages) or 0 <= limits.max_bytes < self.total_bytes)
        ):
            del self.messages[min(self.messages)]
        self._settle()

    def delete(self, sequence: int) -> bool:
        """Take one message out."""
        found = self.messages.pop(sequence, None) is not None
        self._settle()
        return found

    def matching(self, patterns: tuple[bytes, ...], start: int = 0) -> list[int]:
        """Return the matching sequences from `start`, in order."""
        return [
            sequence
            for sequence, message in self.messages.items()
            if sequence >= start and any(matches(pattern, message.subject) for pattern in patterns)
        ]

    def purge(self, patterns: tuple[bytes, ...], before: int = 0, keep: int = 0) -> int:
        """Take out matching messages below `before` (0: all) but the newest `keep`."""
        found = [sequence for sequence in self.matching(patterns) if not before or sequence < before]
        found = found[: len(found) - keep] if keep else found
        for sequence in found:
            del self.messages[sequence]
        self._settle()
        return len(found)

    def truncate(self, last: int) -> None:
        """Forget everything after `last`."""
        for sequence in [sequence for sequence in self.messages if sequence > last]:
            del self.messages[sequence]
        self.last = last
        self.last_ts_ns = self.messages[last].timestamp_ns
        self._settle()

    def skip_to(self, last: int, now_ns: int) -> None:
        """Use up sequences."""
        self.last_ts_ns = max(self.last_ts_ns, now_ns)
        self.last = last
        self._settle()

    def expire(self, now_ns: int) -> list[int]:
        """Take out what is too old, and return it."""
        age = self.limits.max_age_ns
        gone = sorted(
            sequence
            for sequence, message in self.messages.items()
            if 0 < message.expires_ns <= now_ns
            or (age and message.expires_ns != NEVER_NS and message.timestamp_ns <= now_ns - age)
        )
        for sequence in gone:
            del self.messages[sequence]
        self._settle()
        return gone

    def next_expiry_ns(self) -> int:
        """Return when the next message ends, 0: none will."""
        age = self.limits.max_age_ns
        times = [one.expires_ns for one in self.messages.values() if 0 < one.expires_ns < NEVER_NS]
        if age:
            times += [one.timestamp_ns + age for one in self.messages.values() if one.expires_ns != NEVER_NS]
        return min(times, default=0)

    def state(self) -> StreamState:
        """Return what StreamStore.state must return."""
        empty = not self.messages
        return StreamState(
            messages=len(self.messages),
            bytes=self.total_bytes,
            first_seq=0 if empty and self.last == 0 else self.first,
            first_ts_ns=0 if empty else self.messages[self.first].timestamp_ns,
            last_seq=self.last,
            last_ts_ns=self.last_ts_ns,
            num_subjects=len({message.subject for message in self.messages.values()}),
            num_deleted=0 if empty else self.last + 1 - self.first - len(self.messages),
        )


SUBJECTS = [b"a", b"b", b"a.b", b"a.c", b"orders.1.x", b"orders.2.x", b"orders.2.y", b"deep.er.and.deeper"]
FILTERS = [(b">",), (b"a",), (b"a.*",), (b"orders.>",), (b"*.*.x", b"b"), (b"nothing",), (b"*",)]


@dataclass(slots=True)
class Pair:
    """A stream and its model, driven by the same random operations; every answer must be the same."""

    stream: StreamStore
    model: StreamModel
    rng: Random
    now_ns: int = 1_000
    # Changes the stream's limits where they are kept, and returns how many messages that evicted.
    update: Callable[[StreamLimits], int] | None = None

    def message(self) -> StoredMessage:
        """Return a random message."""
        rng = self.rng
        self.now_ns += rng.randrange(3)
        expires = self.now_ns + rng.randrange(1, 60) if rng.random() < 0.05 else 0
        expires = NEVER_NS if rng.random() < 0.01 else expires
        headers = b"NATS/1.0\r\nA: b\r\n\r\n" if rng.random() < 0.2 else b""
        return StoredMessage(
            self.now_ns, rng.choice(SUBJECTS), headers, rng.randbytes(rng.randrange(60)), expires
        )

    def append(self, count: int = 1) -> None:
        """Append messages to both."""
        for _ in range(count):
            one = self.message()
            given = self.stream.append(
                one.subject, one.headers, one.payload, one.timestamp_ns, expires_ns=one.expires_ns
            )
            assert given == self.model.append(one)

    def step(self) -> None:
        """Do one random operation on both."""
        rng, stream, model = self.rng, self.stream, self.model
        dice = rng.random()
        anywhere = rng.randrange(model.first - 1 if model.first else 0, model.last + 3)
        if dice < 0.55:
            self.append(rng.randrange(1, 6))
        elif dice < 0.72:
            assert stream.delete(anywhere, erase=rng.random() < 0.3) == model.delete(anywhere)
        elif dice < 0.76:
            patterns, before, keep = rng.choice(FILTERS), rng.choice((0, anywhere)), rng.choice((0, 0, 2))
            found = SubjectFilter(stream.subjects, patterns)
            assert queries.purge(stream, found, before=before, keep=keep) == model.purge(
                patterns, before, keep
            )
        elif dice < 0.78:
            assert stream.purge_to(anywhere) == model.purge((b">",), anywhere or 1)
        elif dice < 0.79:
            assert stream.purge_all() == model.purge((b">",))
        elif dice < 0.82 and anywhere in model.messages:
            stream.truncate(anywhere, self.now_ns)
            model.truncate(anywhere)
        elif dice < 0.85:
            last = model.last + rng.choice((1, 2, 100_000 if rng.random() < 0.1 else 3))
            stream.skip_to(last, self.now_ns)
            model.skip_to(last, self.now_ns)
        elif dice < 0.9:
            next_ns = stream.next_expiry_ns()
            gone = sorted(sequence for sequence, _, _ in stream.expire(self.now_ns))
            assert gone == model.expire(self.now_ns)
            assert bool(gone) == (0 < next_ns <= self.now_ns)
            assert stream.next_expiry_ns() == model.next_expiry_ns()
        elif dice < 0.93:
            limits = replace(
                model.limits,
                max_messages=rng.choice((-1, -1, 30)),
                max_bytes=rng.choice((-1, -1, 3000)),
                max_messages_per_subject=rng.choice((-1, -1, 1, 5)),
                discard_new=rng.random() < 0.2,
            )
            model.limits = limits
            before = len(model.messages)
            model.enforce()
            if self.update is not None:
                evicted = self.update(limits)
            else:
                stream.apply_limits(limits)
                evicted = stream.enforce_limits()
            assert evicted == before - len(model.messages)
        else:
            self.ask()

    def ask(self) -> None:
        """Compare what both answer to questions."""
        rng, stream, model = self.rng, self.stream, self.model
        patterns = rng.choice(FILTERS)
        start = rng.randrange(0, model.last + 3)
        found = SubjectFilter(stream.subjects, patterns)
        expected = model.matching(patterns, start)
        assert queries.find_all(stream, found, start).tolist() == expected
        assert queries.find_all(stream, found, start, 0, 2).tolist() == expected[:2]
        assert queries.find_next(stream, found, start) == (expected[0] if expected else None)
        assert queries.count_pending(stream, found, start) == len(expected)
        last: dict[bytes, int] = {}
        counts: dict[bytes, int] = {}
        for sequence in model.matching(patterns):
            subject = model.messages[sequence].subject
            counts[subject] = counts.get(subject, 0) + 1
            if sequence <= start:
                last[subject] = sequence
        assert queries.subject_counts(stream, found) == counts
        if start:
            assert queries.last_sequences(stream, found, start).tolist() == sorted(last.values())
        subject = rng.choice(SUBJECTS)
        own = [sequence for sequence in model.of_subject(subject) if not start or sequence <= start]
        assert queries.last_sequence_of(stream, subject, start) == (own[-1] if own else None)
        at = rng.randrange(990, self.now_ns + 2)
        since = [sequence for sequence, one in model.messages.items() if one.timestamp_ns >= at]
        assert queries.sequence_at(stream, at) == (since[0] if since else None)

    def compare(self) -> None:
        """Compare everything."""
        assert_same(self.stream, self.model)
        self.ask()


def contents(stream: StreamStore) -> dict[int, tuple[int, bytes, bytes, bytes]]:
    """Return every message of a stream."""
    out = {}
    start = 1
    while messages := stream.read(start, 1000):
        out.update(
            {one.sequence: (one.timestamp_ns, one.subject, one.headers, one.payload) for one in messages}
        )
        start = messages[-1].sequence + 1
    return out


def assert_same(stream: StreamStore, model: StreamModel) -> None:
    """Compare the state and every message."""
    assert stream.state() == model.state()
    expected = {
        sequence: (one.timestamp_ns, one.subject, one.headers, one.payload)
        for sequence, one in model.messages.items()
    }
    assert contents(stream) == expected
    for sequence in (model.first - 1, model.last, model.last + 1, *list(expected)[:3]):
        got = stream.get(sequence) if sequence >= 0 else None
        assert (got.astuple()[1:] if got else None) == expected.get(sequence)
