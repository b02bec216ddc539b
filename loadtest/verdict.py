"""Judge a finished run: did everything arrive, at everybody, exactly once?

Engines check each message as it comes (order, content) and stop at the first fault. What no single connection
can see is checked here: totals for each subscriber, and for queue groups that no message reached two members.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from loadtest.plan import Plan, Scenario


class Witness(Protocol):
    """What an engine tells after its run."""

    @property
    def published(self) -> int: ...
    def failure(self) -> str | None: ...
    def received(self) -> list[int]: ...
    def seen(self, publisher: int) -> bytes: ...


def failures(plan: Plan, engines: Sequence[Witness]) -> list[str]:
    """Return what is wrong with a run that ended by itself, in words; empty where all is right."""
    found = [text for engine in engines if (text := engine.failure())]
    if found:
        return found
    received = [count for engine in engines for count in engine.received()]
    published = sum(engine.published for engine in engines)
    if plan.is_request:
        return wrong_total("requests answered", published, sum(received)) if received else []
    if plan.scenario is Scenario.SUB:
        return [] if plan.duration_ns else wrong_counts(plan.messages, received)
    if plan.is_queue:
        found = wrong_total("deliveries to the queue group", published, sum(received))
        return found or (repeated_in_queue(plan, engines) if plan.size >= 8 else [])
    if plan.pairs:
        return wrong_total("deliveries", published, sum(received))
    return wrong_counts(published, received)


def wrong_total(what: str, expected: int, actual: int) -> list[str]:
    return [] if expected == actual else [f"{actual} {what}, {expected} published"]


def wrong_counts(expected: int, received: Iterable[int]) -> list[str]:
    return [
        f"subscriber {index} received {count} messages, {expected} were due"
        for index, count in enumerate(received)
        if count != expected
    ]


def repeated_in_queue(plan: Plan, engines: Sequence[Witness]) -> list[str]:
    """Return the publishers of whom some message reached two members, on different threads."""
    found = []
    for publisher in range(plan.publishers):
        bitmaps = [int.from_bytes(engine.seen(publisher), "little") for engine in engines]
        everything = 0
        for bitmap in bitmaps:
            everything |= bitmap
        repeated = sum(bitmap.bit_count() for bitmap in bitmaps) - everything.bit_count()
        if repeated:
            found.append(
                f"{repeated} messages of publisher {publisher} reached two members of the queue group"
            )
    return found
