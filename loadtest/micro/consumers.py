"""What consumers cost that want little of a stream, or all want the same.

Run `python -m loadtest.micro.consumers` from the root of the tree. Times are CPU times. The streams are in
memory, the messages empty; the client is a socket pair.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from types import SimpleNamespace

from loadtest.micro.dataplane import Bench
from loadtest.micro.storage_setup import print_machine, show
from storage.consumer import ACK_EXPLICIT, ConsumerStore
from storage.limits import StreamLimits
from storage.memory import memory_stream
from storage.stream import StreamStore
from workers.jetstream.audience import Audience, Pumps
from workers.jetstream.delivery import ConsumerCore, Request
from workers.jetstream.ingest import Acks

BATCH = 10_000
SUBJECTS = 10_000
ROUNDS = 1_000
NOW_NS = 1_700_000_000_000_000_000


class Policy:
    """Delivers whatever there is."""

    def __init__(self) -> None:
        self.core: ConsumerCore

    def pump(self) -> None:
        self.core.pump(NOW_NS)

    def request_ended(self, _request: Request, _reason: int) -> None:
        """Take no notice."""


class Stage:
    """A stream and its consumers on one data plane, with a client that listens to in.>."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.bench.connect(b"SUB in.> 1\r\n")
        self.store: StreamStore = memory_stream(StreamLimits())
        self.stream = SimpleNamespace(name="S", account=0, store=self.store)
        self.acks, self.pumps, self.audience = Acks(self.bench.plane), Pumps(), Audience(self.store)

    def consumer(self, name: str, *filters: str, count: int = 0) -> ConsumerCore:
        """Make a consumer, with a waiting request for `count` messages if that is not 0."""
        policy = Policy()
        core = policy.core = ConsumerCore(
            self.bench.plane,
            self.acks,
            self.pumps,
            self.audience,
            self.stream,
            policy,
            name,
            ConsumerStore(name, 1, ACK_EXPLICIT, b""),
            filters,
            acknowledges=True,
        )
        if count:
            core.add_request(Request(b"in.x", count))
        return core

    def fill(self, count: int) -> None:
        """Store messages whose subjects go round."""
        batch = [(b"orders.%d.new" % (number % SUBJECTS), b"", b"") for number in range(BATCH)]
        for _ in range(0, count, BATCH):
            self.store.append_batch(batch, NOW_NS)

    def deliver(self) -> None:
        """Do what is to be done until nothing is."""
        while self.pumps.run():
            self.bench.plane.run()
            self.bench.drain()
        self.bench.plane.run()
        self.bench.drain()

    def publish(self, rounds: int, subject: bytes) -> None:
        """Store one message after the other, a round each."""
        for _ in range(rounds):
            self.store.append(subject, b"", b"", NOW_NS)
            self.audience.wake()
            self.deliver()


def cpu_us(work: Callable[[], object], per: int = 1) -> float:
    """Return the microseconds of CPU time that a call takes, divided by `per`."""
    started = time.process_time_ns()
    work()
    return (time.process_time_ns() - started) / 1000 / per


def filtered(count: int) -> None:
    """One consumer in a large stream, whose filter matches 1 message in 10,000."""
    stage = Stage()
    stage.fill(count)
    for pattern in ("orders.77.new", "*.77.>"):
        core = stage.consumer("C", pattern)
        matching = count // SUBJECTS
        what = f"1 in 10,000 of {count // 10**6} M by {pattern}"
        show(f"{what}, num_pending", cpu_us(lambda core=core: core.num_pending), "us")
        core.add_request(Request(b"in.x", matching))
        show(f"{what}, fetch", cpu_us(stage.deliver, matching), "us/message")
        assert core.state.pending_count == matching
        show(f"{what}, num_pending after", cpu_us(lambda core=core: core.num_pending), "us")


def waiting(count: int) -> None:
    """Consumers that wait for other subjects."""
    stage = Stage()
    stage.consumer("wanted", "work.wanted", count=2 * ROUNDS)
    for number in range(count):
        stage.consumer(f"c{number}", f"work.{number}.>", count=1)
    stage.deliver()
    stage.publish(ROUNDS, b"work.wanted")
    looked_at = stage.audience.looked_at
    used_us = cpu_us(lambda: stage.publish(ROUNDS, b"work.wanted"), ROUNDS)
    show(f"a message for one, {count:,} consumers wait for others", used_us, "us")
    show("of them looked at for it", (stage.audience.looked_at - looked_at) / ROUNDS, "consumers")


def same_tail(count: int) -> None:
    """Consumers that all deliver what comes."""
    stage = Stage()
    rounds = 50
    for number in range(count):
        stage.consumer(f"c{number}", count=2 * rounds)
    stage.deliver()
    stage.publish(rounds, b"work.all")
    used_us = cpu_us(lambda: stage.publish(rounds, b"work.all"), rounds * count)
    show(f"a message to {count:,} consumers of the tail, each delivery", used_us, "us")
    show("the same", 1e6 / used_us, "deliveries/s")


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=10_000_000)
    arguments = parser.parse_args()
    print_machine("consumers")
    for count in (arguments.count // 10, arguments.count):
        filtered(count)
    for count in (0, 1_000, 10_000):
        waiting(count)
    for count in (100, 2_000):
        same_tail(count)


if __name__ == "__main__":
    main()
