"""What must be true of one consumer, whatever is killed: its deliveries and its info are held against it.

It is told what was stored and removed for certain, what came, and what was acknowledged, for certain or
perhaps. A kill ends an *epoch*: what the broker sent and did not store may be sent again as if for the first
time, and what it stored may never have come. Within an epoch everything is exact.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MS = 1_000_000


@dataclass(frozen=True)
class Kind:
    """A consumer's configuration, as far as the model knows it.

    Attributes:
        tokens: last tokens of the subjects that it wants.
        max_deliver: -1 for no limit. acks_all: ack policy all. is_push: it delivers to `push.<name>`.
        config: further fields of the ConsumerConfig.
    """

    name: str
    tokens: tuple[str, ...]
    max_deliver: int = -1
    acks_all: bool = False
    is_push: bool = False
    config: dict[str, Any] = field(default_factory=dict)

    def fields(self, stream: str) -> dict[str, Any]:
        """Return the ConsumerConfig."""
        fields = {
            "durable_name": self.name,
            "ack_policy": "all" if self.acks_all else "explicit",
            "ack_wait": 300 * MS,
            "filter_subjects": [f"{stream}.{token}" for token in self.tokens],
            "max_deliver": self.max_deliver,
            **self.config,
        }
        if self.is_push:
            fields["deliver_subject"] = self.deliver_subject(stream)
        return fields

    def deliver_subject(self, stream: str) -> str:
        return f"push.{stream}.{self.name}"


SHORT = {"ack_wait": 100 * MS}
BACKOFF = {"backoff": [50 * MS, 150 * MS]}
LIMITS = (
    Kind("a", ("a",)),
    Kind("ab", ("a", "b"), max_deliver=4, config=BACKOFF),
    Kind("all", ("a", "b", "c")),
    Kind("upto", ("c",), acks_all=True),
    Kind("push", ("b",), is_push=True, config=SHORT),
    Kind("once", ("b", "c"), max_deliver=1, config=SHORT),
)
WORK_QUEUE = (
    Kind("a", ("a",)),
    Kind("b", ("b",), is_push=True, config=SHORT),
    Kind("c", ("c",), max_deliver=3, config=SHORT),
)
KINDS = {"limits": LIMITS, "interest": LIMITS, "workqueue": WORK_QUEUE}


@dataclass
class Stored:
    """What the stream got, by sequence.

    Attributes:
        messages: token and number of each. removed: of these, what a client has deleted or purged.
    """

    messages: dict[int, tuple[str, int]] = field(default_factory=dict)
    removed: set[int] = field(default_factory=set)

    def of(self, tokens: tuple[str, ...]) -> set[int]:
        """Return the sequences with these tokens that nobody has removed."""
        return {
            sequence
            for sequence, (token, _) in self.messages.items()
            if token in tokens and sequence not in self.removed
        }


class Modelled:
    """One consumer.

    Attributes:
        done: sequences whose acknowledgement (or TERM) was confirmed.
        maybe: those where it was sent, and whose confirmation did not come.
        counts: by sequence, the highest delivery count seen in this epoch.
        seen: sequences that ever came. exhausted: those that came as often as they may.
        held: what came and was not answered, by sequence: what the client acknowledges.
        begins_after: the last sequence that it is not for.
        was_alone: no kill since it was made. max_ack_pending: as configured.
    """

    def __init__(self, kind: Kind, stored: Stored, begins_after: int = 0) -> None:
        self.kind, self.stored, self.begins_after = kind, stored, begins_after
        self.done: set[int] = set()
        self.maybe: set[int] = set()
        self.counts: dict[int, int] = {}
        self.seen: set[int] = set()
        self.exhausted: set[int] = set()
        self.held: dict[int, Any] = {}
        self.was_alone = True
        self.max_ack_pending = 50
        self._last_first: dict[int, int] = {}
        self._last_count: dict[tuple[int, int], int] = {}
        self._came: set[tuple[int, int]] = set()
        self._repeated: set[int] = set()
        self._fresh: set[int] = set()
        self._floor = 0

    @property
    def name(self) -> str:
        return self.kind.name

    def wanted(self) -> set[int]:
        """Return what it is for and is still there or was acknowledged."""
        return {sequence for sequence in self.stored.of(self.kind.tokens) if sequence > self.begins_after}

    def open(self) -> set[int]:
        """Return what it wants and has not acknowledged for certain."""
        return self.wanted() - self.done

    def killed(self) -> None:
        """Begin another epoch."""
        self.counts.clear()
        self._last_first.clear()
        self._last_count.clear()
        self._came.clear()
        self._repeated.clear()
        self._fresh.clear()
        self._floor = 0
        self.was_alone = False

    def sent(self, sequence: int) -> None:
        """Take note that an acknowledgement was sent."""
        self.maybe.add(sequence)
        if sequence in self.counts:
            # The broker knows that it delivered this one, so what is confirmed later comes after it.
            self._fresh.add(sequence)

    def confirmed(self, sequence: int) -> None:
        """Take note that an acknowledgement was confirmed, and with it what was done before."""
        if self.kind.acks_all:
            # What it means for others depends on the order of deliveries: the floor that was told says it.
            self.done |= {one for one in self.wanted() if one <= self._floor}
        else:
            self.done |= self._fresh | {sequence}
            self._fresh.clear()

    # ---- what came

    def took(self, sid: int, token: str, reply: str, number: int) -> int:
        """Check a delivery and return its sequence.

        Args:
            sid: of the subscription; what comes under one is in order. number: what the payload says.
        """
        deliveries, sequence = (int(part) for part in reply.split(".")[4:6])
        where = f"{self.name}: {sequence}, delivery {deliveries}"
        assert token in self.kind.tokens, f"{where} of {token}"
        # What was published and not yet acknowledged may come all the same.
        known = self.stored.messages.setdefault(sequence, (token, number))
        assert known == (token, number), f"{where} is {token} {number}, not {known}"
        assert sequence > self.begins_after, f"{where} was there before it"
        assert sequence not in self.done, f"{where} was acknowledged for certain"
        assert sequence not in self.stored.removed, f"{where} was removed"
        if self.kind.max_deliver > 0:
            assert deliveries <= self.kind.max_deliver, f"{where} is one too many"
        before = self._last_count.get((sid, sequence), 0)
        assert deliveries > before, f"{where} after delivery {before}"
        self._last_count[sid, sequence] = deliveries
        # Which of two pulls was served first is not known.
        assert (sequence, deliveries) not in self._came, f"{where} came before"
        self._came.add((sequence, deliveries))
        if deliveries == 1:
            last = self._last_first.get(sid, 0)
            assert sequence > last, f"{where} after {last}"
            self._last_first[sid] = sequence
        self.counts[sequence] = max(deliveries, self.counts.get(sequence, 0))
        self.seen.add(sequence)
        if deliveries == self.kind.max_deliver:
            self.exhausted.add(sequence)
        return sequence

    # ---- what it says

    def asking(self) -> None:
        """Take note that its info is asked for: what comes from now on may be in it or not."""
        self._repeated = {sequence for sequence, count in self.counts.items() if count > 1}

    def check_info(self, info: dict[str, Any]) -> None:
        """Check what can be said of the consumer's info when all that was sent has been taken."""
        assert info["config"]["max_ack_pending"] == self.max_ack_pending, f"{self.name}: {info}"
        delivered, floor = info["delivered"]["stream_seq"], info["ack_floor"]["stream_seq"]
        wanted = self.wanted()
        ahead = {sequence for sequence in wanted if sequence > delivered}
        assert info["num_pending"] == len(ahead), f"{self.name}: {info}, not {len(ahead)} to come"
        assert floor <= delivered, f"{self.name}: {info}"
        behind = wanted - ahead
        self._check_floor(floor, behind)
        # What was sent may have been acknowledged, and what a kill swallowed may have been given up.
        may_be_pending = behind - self.done
        must_be_pending = self._must_be_pending(may_be_pending)
        pending = info["num_ack_pending"]
        assert len(must_be_pending) <= pending <= len(may_be_pending), (
            f"{self.name}: {info}, not {len(must_be_pending)} to {len(may_be_pending)} pending"
        )
        again = must_be_pending & self._repeated
        most = (
            {one for one in may_be_pending if self.counts.get(one, 0) > 1}
            if self.was_alone
            else may_be_pending
        )
        if self.kind.is_push or self.kind.max_deliver > 0:
            # It redelivers, and gives up, at any moment.
            most = may_be_pending
        if self.kind.max_deliver != 1:
            redelivered = info["num_redelivered"]
            assert len(again) <= redelivered <= len(most), (
                f"{self.name}: {info}, not {len(again)} to {len(most)} delivered again"
            )

    def _must_be_pending(self, behind: set[int]) -> set[int]:
        if self.kind.acks_all:
            return {one for one in behind if one > max(self.maybe, default=0)}
        if self.kind.max_deliver < 0:
            return behind - self.maybe
        if not self.was_alone:
            return set()
        most = self.kind.max_deliver
        return {one for one in behind - self.maybe if self.counts.get(one, most) < most}

    def _check_floor(self, floor: int, behind: set[int]) -> None:
        if self.kind.max_deliver < 0 and not self.kind.acks_all:
            skipped = {one for one in behind if one <= floor} - self.done - self.maybe
            assert not skipped, f"{self.name}: floor {floor} passes {sorted(skipped)[:10]}"
        if self.kind.acks_all:
            highest = max(self.done | self.maybe, default=self.begins_after)
            assert floor <= max(highest, self.begins_after), f"{self.name}: floor {floor} above {highest}"
        assert floor >= self._floor, f"{self.name}: floor {floor} fell from {self._floor}"
        self._floor = floor
