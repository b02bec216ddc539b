"""Carry out a plan: connect everybody, run the engines in threads, collect what they say."""

from __future__ import annotations

import resource
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from loadtest.client import Connection, allow_connections
from loadtest.engine import Board, Engine
from loadtest.histogram import Histogram
from loadtest.plan import FOREIGN_PUBLISHERS, Plan, Scenario
from loadtest.verdict import failures

QUEUE_GROUP = "bench-group"
WATCH_INTERVAL_S = 0.2
DELIVERED_ENDLESS = (1 << 63) - 1


@dataclass(frozen=True)
class Progress:
    """How far a run is: messages and nanoseconds since its start."""

    published: int
    delivered: int
    elapsed_ns: int


@dataclass(frozen=True)
class Outcome:
    """What a run gave.

    Attributes:
        elapsed_ns: from the start to the last delivery, reply, or PONG after the last publish.
        latency: of replies, or of deliveries in paced runs, from the due moment; empty otherwise.
        late_bursts, late_mean_ns, late_max_ns: how late the generator itself sent what was due.
        client_cpu_ns: user and system time of this process during the run.
        failures: what was wrong, in words; figures of a failed run mean nothing.
    """

    published: int
    delivered: int
    elapsed_ns: int
    latency: Histogram
    late_bursts: int = 0
    late_mean_ns: int = 0
    late_max_ns: int = 0
    client_cpu_ns: int = 0
    failures: list[str] = field(default_factory=list)

    def rate(self, plan: Plan) -> float:
        """Return the messages a second that the scenario is about: deliveries where somebody receives."""
        count = self.published if plan.scenario is Scenario.PUB or not plan.receiver_count else self.delivered
        count = self.delivered if plan.is_request else count
        return count * 1e9 / self.elapsed_ns if self.elapsed_ns else 0.0


@dataclass(frozen=True)
class Around:
    """What to do when everybody is connected, just before the work, and just after it."""

    before: Callable[[], None] = lambda: None
    after: Callable[[], None] = lambda: None
    watch: Callable[[Progress], None] = lambda _progress: None


class Run:
    """One run of a plan: sockets, board and engines, made by the constructor and used up by execute()."""

    def __init__(self, plan: Plan, stack: ExitStack) -> None:
        """Connect all clients.

        Args:
            stack: closes the sockets in the end.
        Raises:
            OSError, ServerError: a client could not connect, log in or subscribe.
        """
        self.plan = plan
        self._stack = stack
        allow_connections(plan.sender_count + plan.receiver_count)
        self.board = Board(plan.threads, plan.idle_ns)
        self.engines = [self._engine(row) for row in range(plan.threads)]
        self._inbox = f"_INBOX.{secrets.token_hex(8)}"
        # Receivers first: what is published must find its subscribers.
        for index in range(plan.receiver_count):
            self._add_receiver(index, self.engines[plan.receiver_row(index)])
        for index in range(plan.sender_count):
            self._add_sender(index, self.engines[plan.sender_row(index)])

    def _engine(self, row: int) -> Engine:
        plan = self.plan
        is_foreign = plan.scenario is Scenario.SUB
        return Engine(
            self.board,
            row,
            sum(plan.sender_row(index) == row for index in range(plan.sender_count))
            + sum(plan.receiver_row(index) == row for index in range(plan.receiver_count)),
            plan.size,
            FOREIGN_PUBLISHERS if is_foreign else plan.publishers,
            has_due=plan.records_deliveries,
            is_queue=plan.is_queue,
            # Replies of a service elsewhere may have any size.
            any_size=(is_foreign and not plan.verify) or (plan.is_request and not plan.subscribers),
        )

    def _connect(self) -> Connection:
        connection = Connection(self.plan.server)
        self._stack.callback(connection.close)
        return connection

    def _hand_over(self, engine: Engine, place: int, connection: Connection) -> None:
        connection.socket.setblocking(False)
        engine.feed(place, connection.unread)

    def _add_receiver(self, index: int, engine: Engine) -> None:
        plan, connection = self.plan, self._connect()
        subject = plan.receiver_subject(index)
        if plan.is_request:
            connection.subscribe(subject, QUEUE_GROUP)
            place = engine.add_responder(connection.socket.fileno())
        elif plan.scenario is Scenario.SUB:
            connection.subscribe(subject, limit=0 if plan.duration_ns else plan.messages)
            place = engine.add_subscriber(connection.socket.fileno(), None)
        else:
            connection.subscribe(subject, QUEUE_GROUP if plan.is_queue else None)
            place = engine.add_subscriber(
                connection.socket.fileno(),
                subject.removesuffix("*").encode(),
                subject_is_prefix=subject.endswith(".*"),
            )
        self._hand_over(engine, place, connection)

    def _add_sender(self, index: int, engine: Engine) -> None:
        plan, connection = self.plan, self._connect()
        limit = plan.share(index)
        subject = plan.sender_subject(index).encode()
        # Publishers take turns within an interval: n of them at rate / n make an even stream of rate.
        interval_ns = plan.publishers * 1e9 / plan.rate if plan.rate else 0.0
        offset_ns = int(index * interval_ns / plan.publishers)
        if plan.is_request:
            inbox = f"{self._inbox}.{index}"
            connection.subscribe(f"{inbox}.*")
            place = engine.add_requester(
                connection.socket.fileno(),
                index,
                subject,
                inbox.encode(),
                plan.window,
                limit,
                offset_ns=offset_ns,
                interval_ns=interval_ns,
            )
        else:
            place = engine.add_publisher(
                connection.socket.fileno(),
                index,
                subject,
                limit,
                subject_count=plan.subject_count,
                offset_ns=offset_ns,
                interval_ns=interval_ns,
            )
        self._hand_over(engine, place, connection)

    def execute(self, around: Around) -> Outcome:
        """Do the work once and say what it gave.

        KeyboardInterrupt stops the engines and goes on to the caller.
        """
        plan = self.plan
        around.before()
        cpu_before_ns = process_cpu_ns()
        start_ns = time.monotonic_ns()
        target = plan.delivered_target
        if target and plan.duration_ns:
            target = DELIVERED_ENDLESS
        self.board.begin(
            start_ns,
            start_ns + plan.duration_ns if plan.duration_ns else 0,
            plan.copies,
            plan.in_flight_max,
            target,
        )
        self._run_threads(start_ns, around.watch)
        cpu_ns = process_cpu_ns() - cpu_before_ns
        around.after()
        return self._outcome(start_ns, cpu_ns)

    def _run_threads(self, start_ns: int, watch: Callable[[Progress], None]) -> None:
        threads = [threading.Thread(target=engine.run) for engine in self.engines]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(WATCH_INTERVAL_S)
                    elapsed_ns = time.monotonic_ns() - start_ns
                    watch(Progress(self.board.published, self.board.delivered, elapsed_ns))
        finally:
            self.board.stop()
            for thread in threads:
                thread.join()

    def _outcome(self, start_ns: int, client_cpu_ns: int) -> Outcome:
        latency = Histogram()
        if self.plan.is_request or self.plan.records_deliveries:
            for engine in self.engines:
                latency.add_counts(engine.latency_counts(), engine.latency_max_ns)
        if self.plan.scenario is Scenario.SUB:
            # Foreign publishers begin when they like: the first message starts the clock.
            start_ns = min((engine.first_ns for engine in self.engines if engine.first_ns), default=start_ns)
        last_ns = max(engine.last_ns for engine in self.engines)
        late = [engine.lateness for engine in self.engines]
        late_bursts = sum(bursts for bursts, _, _ in late)
        return Outcome(
            published=sum(engine.published for engine in self.engines),
            delivered=sum(engine.delivered for engine in self.engines),
            elapsed_ns=max(0, last_ns - start_ns),
            latency=latency,
            late_bursts=late_bursts,
            late_mean_ns=sum(total for _, total, _ in late) // max(1, late_bursts),
            late_max_ns=max(worst for _, _, worst in late),
            client_cpu_ns=client_cpu_ns,
            failures=failures(self.plan, self.engines),
        )


def process_cpu_ns() -> int:
    """Return the user and system time of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return int((usage.ru_utime + usage.ru_stime) * 1e9)


@contextmanager
def prepared(plan: Plan) -> Iterator[Run]:
    """Connect all clients of a plan; close them at the end."""
    with ExitStack() as stack:
        yield Run(plan, stack)


def run(plan: Plan, around: Around | None = None) -> Outcome:
    """Connect, do the work, close; see Run for what is raised."""
    with prepared(plan) as prepared_run:
        return prepared_run.execute(around or Around())
