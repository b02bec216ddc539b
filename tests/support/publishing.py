"""A stream without a broker around it: a Publisher over a real store, a clock, and what was answered."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import count

from storage.memory import memory_stream
from storage.stream import StreamStore
from workers.jetstream.publishing import Publisher
from workers.jetstream.stream_config import StreamConfig

START_NS = 1_790_000_000_000_000_000


@dataclass
class FakeTimer:
    """What FakeEngine.later returns."""

    callback: Callable[[], None]
    is_cancelled: bool = False

    def cancel(self) -> None:
        self.is_cancelled = True


@dataclass
class WorkerSettings:
    """What a publisher reads of WorkerConfig."""

    js_domain: str = ""
    max_payload: int = 1 << 20


class FakeEngine:
    """A clock that stands until it is moved, timers that go by it, and a list of advisories."""

    def __init__(self, **settings: str | int) -> None:
        self.config = WorkerSettings(**settings)
        self.clock_ns = START_NS
        self.advisories: list[tuple[str, str, dict[str, object]]] = []
        self.commits = 0
        self._timers: list[tuple[int, int, FakeTimer]] = []
        self._numbers = count()

    def now_ns(self) -> int:
        return self.clock_ns

    def later(self, seconds: float, callback: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer(callback)
        heappush(self._timers, (self.clock_ns + int(seconds * 1e9), next(self._numbers), timer))
        return timer

    def advance(self, seconds: float) -> None:
        """Let time pass and run the timers that are due, in order."""
        end_ns = self.clock_ns + int(seconds * 1e9)
        while self._timers and self._timers[0][0] <= end_ns:
            due_ns, _, timer = heappop(self._timers)
            self.clock_ns = max(self.clock_ns, due_ns)
            if not timer.is_cancelled:
                timer.callback()
        self.clock_ns = end_ns

    def advise(self, account: int, subject: str, kind: str, fields: dict[str, object]) -> None:
        self.advisories.append((subject, kind, fields))

    def commit_soon(self) -> None:
        self.commits += 1


class FakeIngest:
    """What is told that the server itself has stored something."""

    def touch(self) -> None:
        """Nobody reads here."""


@dataclass
class FakeStream:
    """A stream whose answers are kept in `answers`, one (reply, headers, body) after the other."""

    config: StreamConfig
    store: StreamStore
    engine: FakeEngine = field(default_factory=FakeEngine)
    ingest: FakeIngest = field(default_factory=FakeIngest)
    account: int = 0
    has_interest: bool = False
    answers: list[tuple[bytes, bytes, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name = self.config.name
        self.publisher = Publisher(self)

    def acknowledge(self, reply: bytes, body: bytes) -> None:
        if reply and not self.config.no_ack:
            self.answers.append((reply, b"", body))

    def send_now(self, reply: bytes, body: bytes, headers: bytes = b"") -> None:
        if reply:
            self.answers.append((reply, headers, body))

    def has_consumer_interest(self, subject: bytes) -> bool:
        return self.has_interest

    def configure(self, **changes: object) -> None:
        """Use another configuration from now on."""
        self.config = replace(self.config, **changes)
        self.store.apply_limits(self.config.limits())
        self.publisher.configure()

    # What tests do.

    def publish(
        self, subject: str = "s.a", payload: bytes = b"", *, reply: bytes = b"r", **headers: str | int
    ) -> list[bytes]:
        """Publish a message and return the bodies of the answers.

        Args:
            headers: lines in their order; `_` in a name stands for `-`.
        """
        return self.publish_raw(subject.encode(), reply, block(**headers), payload)

    def publish_raw(self, subject: bytes, reply: bytes, headers: bytes, payload: bytes) -> list[bytes]:
        """Publish a message with a header block of any form and return the bodies of the answers."""
        before = len(self.answers)
        self.publisher.publish(subject, reply, headers, payload)
        return [body for _, _, body in self.answers[before:]]

    def stored(self) -> list[tuple[int, str, bytes, bytes]]:
        """Return (sequence, subject, header block, payload) of every message."""
        messages = self.store.read(self.store.first_sequence, 10_000)
        return [
            (message.sequence, message.subject.decode(), message.headers, message.payload)
            for message in messages
        ]


def block(**headers: str | int) -> bytes:
    """Return a header block, b"" without headers; `_` in a name stands for `-`."""
    if not headers:
        return b""
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
    return ("NATS/1.0\r\n" + "".join(lines) + "\r\n").encode()


def make_stream(
    engine: FakeEngine | None = None, store: StreamStore | None = None, **members: object
) -> FakeStream:
    """Return a stream that captures `s.>`, with these members of its configuration.

    Args:
        store: in memory unless given.
        members: as in StreamConfig; limits that are not given are -1, the duplicate window two minutes.
    """
    values: dict[str, object] = {
        "name": "S",
        "subjects": ("s.>",),
        "storage": "memory",
        "max_msgs": -1,
        "max_bytes": -1,
        "max_msg_size": -1,
        "max_msgs_per_subject": -1,
        "duplicate_window": 120 * 10**9,
        **members,
    }
    config = StreamConfig(**values)
    return FakeStream(config, store or memory_stream(config.limits()), engine or FakeEngine())
