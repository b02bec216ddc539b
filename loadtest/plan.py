"""What a run does: scenario, sizes, counts, and how connections are laid over threads. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from loadtest.client import Server

MARK_BYTES = 8
DUE_BYTES = 8
SEQUENCE_LIMIT = (1 << 48) - 1
PUBLISHERS_MAX = 1 << 15
# Servers cut a subscriber that has much more than this waiting (64 MiB by default): publishers wait earlier.
IN_FLIGHT_BYTES_PER_SUBSCRIBER = 8 << 20
IN_FLIGHT_BYTES = 32 << 20
FRAME_OVERHEAD_BYTES = 40
# Of foreign publishers, whose number is not known, so many can be told apart.
FOREIGN_PUBLISHERS = 1024


class Scenario(StrEnum):
    """What the clients do to each other."""

    PUB = "pub"
    SUB = "sub"
    PUBSUB = "pubsub"
    FANOUT = "fanout"
    QUEUE = "queue"
    REQUEST = "request"


class PlanError(ValueError):
    """The options contradict each other."""


@dataclass(frozen=True)
class Plan:
    """One run.

    Attributes:
        messages: published (requested) by all publishers together; in `sub`, received by each subscriber.
        publishers: or requesters. subscribers: or responders; 0 responders: the service is elsewhere.
        window: requests that each requester keeps in flight.
        duration_ns: publishing ends after it, 0 for never.
        rate: messages a second of all publishers together, 0.0 for no pacing.
        subject_count: messages go to so many subjects `<subject>.<number>`.
        pairs: publisher i reaches subscriber i only, over a subject of their own.
        verify: in `sub`, check sizes and marks, which holds when `bench pub` with the same size publishes.
    """

    scenario: Scenario
    server: Server = field(default_factory=lambda: Server("127.0.0.1", 4222))
    messages: int = 1_000_000
    size: int = 128
    publishers: int = 1
    subscribers: int = 1
    subject: str = "bench"
    window: int = 1
    duration_ns: int = 0
    rate: float = 0.0
    threads: int = 1
    subject_count: int = 1
    pairs: bool = False
    verify: bool = False
    idle_ns: int = 10_000_000_000

    def __post_init__(self) -> None:
        for is_wrong, text in (
            (self.messages < 1 or self.messages > SEQUENCE_LIMIT, f"{self.messages} messages"),
            (not 1 <= self.publishers <= PUBLISHERS_MAX, f"{self.publishers} publishers"),
            (self.subscribers < 0, f"{self.subscribers} subscribers"),
            (self.scenario is Scenario.SUB and self.subscribers < 1, "nobody subscribes"),
            (self.size < 0 or self.size > 64 << 20, f"payloads of {self.size} bytes"),
            (self.window < 1, f"a window of {self.window}"),
            (self.rate < 0, f"a rate of {self.rate}"),
            (self.threads < 1, f"{self.threads} threads"),
            (self.subject_count < 1, f"{self.subject_count} subjects"),
            (
                self.pairs and self.publishers != self.subscribers,
                "pairs need as many publishers as subscribers",
            ),
            (self.pairs and self.scenario is not Scenario.PUBSUB, "pairs exist in pubsub only"),
            (
                self.records_deliveries and self.size < MARK_BYTES + DUE_BYTES,
                f"a rate needs payloads of {MARK_BYTES + DUE_BYTES} bytes, to carry the due time",
            ),
        ):
            if is_wrong:
                raise PlanError(text)

    @property
    def is_request(self) -> bool:
        return self.scenario is Scenario.REQUEST

    @property
    def records_deliveries(self) -> bool:
        """Say whether messages carry the time at which they were due."""
        return (
            self.rate > 0 and self.subscribers > 0 and self.scenario not in (Scenario.REQUEST, Scenario.PUB)
        )

    @property
    def is_queue(self) -> bool:
        return self.scenario is Scenario.QUEUE

    @property
    def sender_count(self) -> int:
        """Return the number of publishing or requesting connections."""
        return 0 if self.scenario is Scenario.SUB else self.publishers

    @property
    def receiver_count(self) -> int:
        """Return the number of subscribing or responding connections."""
        return 0 if self.scenario is Scenario.PUB else self.subscribers

    @property
    def copies(self) -> int:
        """Return how many subscribers of this run get each published message."""
        if self.scenario in (Scenario.PUB, Scenario.SUB, Scenario.REQUEST) or self.subscribers == 0:
            return 0
        return 1 if self.is_queue or self.pairs else self.subscribers

    @property
    def in_flight_max(self) -> int:
        """Return how many deliveries publishers may be ahead of subscribers."""
        bytes_max = min(IN_FLIGHT_BYTES, IN_FLIGHT_BYTES_PER_SUBSCRIBER * max(1, self.receiver_count))
        return max(self.copies, bytes_max // (self.size + FRAME_OVERHEAD_BYTES))

    @property
    def delivered_target(self) -> int:
        """Return how many deliveries end the run where publishers are foreign, else 0."""
        return self.messages * self.subscribers if self.scenario is Scenario.SUB else 0

    def share(self, index: int) -> int:
        """Return how many messages publisher `index` sends."""
        return self.messages // self.publishers + (index < self.messages % self.publishers)

    def sender_subject(self, index: int) -> str:
        """Return what publisher `index` publishes on, before the number of a subject out of many."""
        return f"{self.subject}.{index}" if self.pairs else self.subject

    def receiver_subject(self, index: int) -> str:
        """Return the subject that subscriber `index` subscribes to."""
        own = f"{self.subject}.{index}" if self.pairs else self.subject
        return f"{own}.*" if self.subject_count > 1 else own

    def sender_row(self, index: int) -> int:
        """Return the thread of a sender: the first half of them, or all when there is one kind only."""
        return index % (self.threads if self.is_request else self._sender_rows)

    def receiver_row(self, index: int) -> int:
        """Return the thread of a receiver: those that senders do not use, if there are any."""
        if self.is_request or not self.sender_count or self.threads == 1:
            return index % self.threads
        return self._sender_rows + index % (self.threads - self._sender_rows)

    @property
    def _sender_rows(self) -> int:
        if self.threads == 1 or not self.receiver_count:
            return self.threads
        return max(1, self.threads // 2)
