"""Verdicts over several engines: what no single connection can see."""

from dataclasses import dataclass, field

from loadtest.plan import Plan, Scenario
from loadtest.verdict import failures


@dataclass
class Engine:
    """An engine that has run."""

    published: int = 0
    counts: list[int] = field(default_factory=list)
    bitmap: int = 0
    said: str | None = None

    def failure(self) -> str | None:
        return self.said

    def received(self) -> list[int]:
        return self.counts

    def seen(self, publisher: int) -> bytes:
        return self.bitmap.to_bytes(8, "little")


def test_every_subscriber_must_have_every_message() -> None:
    plan = Plan(Scenario.FANOUT, subscribers=3, threads=2)
    assert failures(plan, [Engine(10), Engine(0, [10, 10, 10])]) == []
    assert failures(plan, [Engine(10), Engine(0, [10, 9, 11])]) == [
        "subscriber 1 received 9 messages, 10 were due",
        "subscriber 2 received 11 messages, 10 were due",
    ]


def test_a_queue_message_at_members_of_two_threads_is_found() -> None:
    plan = Plan(Scenario.QUEUE, subscribers=2, threads=2)
    assert failures(plan, [Engine(3, [1], 0b001), Engine(0, [2], 0b110)]) == []
    found = failures(plan, [Engine(3, [1], 0b001), Engine(0, [2], 0b011)])
    assert found == ["1 messages of publisher 0 reached two members of the queue group"]


def test_a_lost_queue_message_is_found() -> None:
    plan = Plan(Scenario.QUEUE, subscribers=2)
    assert failures(plan, [Engine(4, [1, 2], 0b111)]) == ["3 deliveries to the queue group, 4 published"]


def test_what_an_engine_says_comes_first() -> None:
    plan = Plan(Scenario.PUBSUB)
    assert failures(plan, [Engine(4, [1], said="lost"), Engine()]) == ["lost"]


def test_requests_must_all_be_answered_by_our_responders() -> None:
    plan = Plan(Scenario.REQUEST, subscribers=2)
    assert failures(plan, [Engine(5, [2, 3])]) == []
    assert failures(plan, [Engine(5, [2, 2])]) == ["4 requests answered, 5 published"]
    assert failures(Plan(Scenario.REQUEST, subscribers=0), [Engine(5, [])]) == []
