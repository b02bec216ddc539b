"""One consumer: when it delivers, what acknowledgements mean, and what it is to the API.

The compiled core (delivery.pyx) delivers; pull.py and push.py know the two kinds of targets. Here are the
policies that both share: the time to acknowledge, redelivery, replay at the original pace, pausing, the end
of consumers that nobody uses. A consumer has one timer, set to the next moment at which anything is due.

Source of the rules: nats-server server/consumer.go.
"""

from __future__ import annotations

import heapq
import logging
import random
from typing import TYPE_CHECKING

import orjson

from storage import queries
from storage.consumer import ACK_ALL, ACK_EXPLICIT, ACK_NONE
from storage.subjects import SubjectFilter
from workers.jetstream import consumer_advisories, headers
from workers.jetstream.consumer_config import ConsumerConfig
from workers.jetstream.delivery import INTEREST, KEEP, WORK_QUEUE, ConsumerCore, Request
from workers.jetstream.durations import parse_duration
from workers.jetstream.pull import PullQueue
from workers.jetstream.push import PushTarget
from workers.jetstream.statuses import status

if TYPE_CHECKING:
    import asyncio

    from storage.consumer import ConsumerStore
    from storage.errors import StorageError
    from workers.jetstream.consumers import Consumers
    from workers.jetstream.engine import JetStream
    from workers.jetstream.stream import Stream

logger = logging.getLogger("jetstream")

SECOND_NS = 10**9
REPLAY_GAP_NS = 1_000_000
"""Gaps up to this are not kept when messages are replayed at their original pace."""
INACTIVE_JITTER_NS = (100_000_000, 1_000_000_000)
ACK_POLICIES = {"none": ACK_NONE, "all": ACK_ALL, "explicit": ACK_EXPLICIT, "flow_control": ACK_ALL}
RETENTIONS = {"limits": KEEP, "workqueue": WORK_QUEUE, "interest": INTEREST}


def definition(config: ConsumerConfig, created_ns: int) -> bytes:
    """Return what the store keeps beside a consumer, so that it can be opened again."""
    return orjson.dumps({"created": created_ns, "config": config.to_json()})


def read_definition(data: bytes) -> tuple[ConsumerConfig, int]:
    """Return configuration and time of creation from what `definition` made.

    Raises:
        ValueError: it is something else.
    """
    try:
        values = orjson.loads(data)
        return ConsumerConfig.from_members(values["config"]), int(values["created"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"no definition of a consumer: {error}") from error


class Consumer:
    """A consumer of a stream that this worker owns."""

    def __init__(
        self, consumers: Consumers, name: str, config: ConsumerConfig, created_ns: int, state: ConsumerStore
    ) -> None:
        """Go on where `state` stands; `listen` lets requests in."""
        self.consumers = consumers
        self.stream: Stream = consumers.stream
        self.engine: JetStream = self.stream.engine
        self.name = name
        self.config = config
        self.created_ns = created_ns
        self.is_closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = 0
        self._delayed: dict[int, int] = {}
        self._delays: list[tuple[int, int]] = []
        self._replayed_ts_ns = 0
        self._replayed_at_ns = 0
        self._replay_until = self.stream.store.last_sequence if config.replay_policy == "original" else 0
        self._inactive_since_ns = self.engine.now_ns()
        self._inactive_ns = 0
        self.core = ConsumerCore(
            self.engine.plane,
            self.engine.acks,
            self.engine.pumps,
            consumers.audience,
            self.stream,
            self,
            name,
            state,
            config.filters,
            acknowledges=config.ack_policy != "none",
            mode=RETENTIONS[self.stream.config.retention],
        )
        self.pull: PullQueue | None = None
        self.push: PushTarget | None = None
        if config.is_push:
            self.push = PushTarget(self)
        else:
            self.pull = PullQueue(self)
        self.configure()

    def configure(self) -> None:
        """Take over the configuration after a change."""
        config, core = self.config, self.core
        core.max_ack_pending = config.max_ack_pending if config.max_ack_pending > 0 else -1
        core.max_deliver = config.max_deliver if config.max_deliver > 0 else -1
        core.headers_only = config.headers_only
        core.samples = bool(config.sample_percent)
        core.is_paused = config.pause_until > self.engine.now_ns()
        if self.pull is not None:
            self.pull.priority.configure()
            core.chooses = self.pull.priority.chooses
        threshold = config.inactive_threshold
        if threshold and self.pull is not None:
            threshold += random.randrange(*INACTIVE_JITTER_NS)
        self._inactive_ns = threshold

    # ---- life

    def listen(self) -> None:
        """Let requests and acknowledgements in."""
        self.consumers.ack_sink.add(self.core)
        if self.pull is not None:
            self.pull.listen()
        if self.push is not None:
            self.push.listen()
            self.push.check_interest()
            self.engine.interest.add(self.push)
        self.schedule()

    def close(self, code: int = 0, text: str = "") -> None:
        """Stop; waiting requests are told `code` and `text`, if any."""
        self.is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.consumers.ack_sink.remove(self.core)
        self.consumers.audience.leave(self.core)
        if self.pull is not None:
            self.pull.close(code, text)
        if self.push is not None:
            self.push.close()

    def start(self) -> None:
        """Choose the first message of a new consumer, as its deliver policy says."""
        store = self.stream.store
        last = store.last_sequence
        first, wanted = self._first_sequence(), 0
        config = self.config
        if config.opt_start_seq:
            wanted = config.opt_start_seq
        elif config.deliver_policy == "all":
            wanted = first
        elif config.deliver_policy == "last":
            wanted = self._last_matching()
        elif config.deliver_policy == "last_per_subject":
            wanted = self._begin_with_last()
        elif config.deliver_policy == "by_start_time":
            found = queries.sequence_at(store, config.opt_start_time)
            wanted = found if found is not None else last + 1
        else:
            wanted = last + 1
        if first == 0 and not config.opt_start_seq:
            wanted = 1
        elif wanted > last and not config.opt_start_seq:
            wanted = last + 1
        else:
            wanted = max(wanted, first)
        self.core.state.start_at(max(0, wanted - 1))
        if self.core.initial_count == 0:
            self.core.skip_to(max(1, wanted))

    def _first_sequence(self) -> int:
        """Return the first sequence as the stream's state shows it: 0 while nothing was ever stored."""
        store = self.stream.store
        return int(store.first_sequence) if store.last_sequence else 0

    def filter(self) -> SubjectFilter:
        """Return a filter of the messages that it delivers."""
        patterns = [subject.encode() for subject in self.config.filters] or [b">"]
        return SubjectFilter(self.stream.store.subjects, patterns)

    def _last_matching(self) -> int:
        if not self.config.filters:
            return int(self.stream.store.last_sequence)
        found = queries.last_sequences(self.stream.store, self.filter())
        return found[-1] if found else 0

    def _begin_with_last(self) -> int:
        """Have the last message of every subject delivered first; return where that begins."""
        store = self.stream.store
        if self.stream.config.max_msgs_per_subject == 1:
            return self._first_sequence()
        sequences = queries.last_sequences(store, self.filter())
        self.core.begin_with(sequences, store.last_sequence + 1)
        return sequences[0] if sequences else int(store.last_sequence)

    # ---- what the engine and the targets ask

    def pump(self) -> None:
        """Deliver what can be delivered now."""
        if self.is_closed:
            return
        now_ns = self.engine.now_ns()
        core = self.core
        if core.is_paused:
            self.schedule()
            return
        if self._replay_until:
            self._replay(now_ns)
        elif self.push is not None:
            self.push.pump(now_ns)
        else:
            if self.pull is not None and self.pull.is_due(now_ns):
                # Whoever asked has given up: the next message is for somebody else.
                self.pull.check(now_ns, is_at_end=False)
            sent = core.pump(now_ns)
            if sent and self.pull is not None:
                self.pull.delivered(now_ns)
        self._after_pump(now_ns)

    def unreadable(self, error: StorageError) -> None:
        """Take note that the store could not be read; it is tried again when something else happens."""
        logger.error("JetStream consumer %s > %s cannot be read: %s", self.stream.name, self.name, error)

    def _after_pump(self, now_ns: int) -> None:
        core = self.core
        if self.pull is not None and not core.is_ready and core.requests:
            self.pull.check(now_ns, is_at_end=not core.is_full or core.num_redeliveries > 0)
        if self.engine.store.has_changes:
            self.engine.commit_soon()
        self.schedule()

    def _replay(self, now_ns: int) -> None:
        """Deliver at the pace at which the messages came, up to what was there at the start."""
        core = self.core
        while core.requests and core.num_redeliveries == 0:
            sequence = core.upcoming_sequence
            if sequence == 0 or sequence > self._replay_until:
                self._replay_until = 0
                core.wake()
                return
            ts_ns = self.stream.store.timestamp_of(sequence)
            gap_ns = ts_ns - self._replayed_ts_ns
            if self._replayed_ts_ns and gap_ns > REPLAY_GAP_NS and now_ns < self._replayed_at_ns + gap_ns:
                return
            if core.pump(now_ns, 1) == 0:
                return
            self._replayed_ts_ns, self._replayed_at_ns = ts_ns, now_ns
        core.pump(now_ns)

    def asked(self) -> None:
        """Have it pumped in this round or soon: a request has come, or may go on."""
        self.engine.pump_soon()

    def has_interest(self, subject: bytes) -> bool:
        """Return whether anybody listens to a subject."""
        return self.engine.plane.has_interest(self.stream.account, subject)

    def heartbeat(self) -> bytes:
        """Return the header block of an idle heartbeat."""
        state = self.core.state
        more = self.push.heartbeat_lines() if self.push is not None else b""
        return b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: %d\r\nNats-Last-Stream: %d\r\n%b\r\n" % (
            state.delivered_consumer,
            self.core.last_looked_at,
            more,
        )

    def became_inactive(self) -> None:
        """Begin to wait for somebody to listen again."""
        self._inactive_since_ns = self.engine.now_ns()
        if not self.is_closed:
            self.schedule()

    # ---- what the core asks

    def choose(self) -> Request | None:
        """Return the request that gets the next message, where a priority policy decides it."""
        return self.pull.priority.choose() if self.pull is not None else None

    def request_ended(self, request: Request, reason: int) -> None:
        """Take note that the core is done with a request."""
        if self.pull is not None:
            self.pull.ended(request, reason)
        elif self.push is not None:
            self.push.stop()

    def acknowledged(self, sequence: int) -> None:
        """Remove a message from an interest stream if nobody else wants it."""
        self.consumers.acknowledged(self, sequence)

    def exhausted(self, sequence: int, deliveries: int) -> None:
        """Give a message up that was delivered as often as it may be; it stays in the stream."""
        self._delayed.pop(sequence, None)
        self.core.forget(sequence)
        consumer_advisories.max_deliveries(self, sequence, deliveries)

    # ---- acknowledgements

    def ack_command(
        self, payload: bytes, sequence: int, consumer_sequence: int, deliveries: int, reply: bytes
    ) -> None:
        """Do what an acknowledgement asks that is not simply one; what it means is confirmed in any case, but
        what says that a message is done must be about one that was delivered."""
        is_done = payload in (b"", b"+ACK", b"+OK") or payload.startswith((b"+NXT", b"+TERM"))
        if is_done and sequence > self.core.state.delivered_stream:
            return
        if payload in (b"", b"+ACK", b"+OK"):
            self._acknowledge(sequence, consumer_sequence, deliveries)
        elif payload.startswith(b"+NXT"):
            self._acknowledge(sequence, consumer_sequence, deliveries)
            if self.pull is not None:
                self.pull.ask(reply, payload[4:])
            return
        elif payload.startswith(b"-NAK"):
            self._nak(payload[4:].strip(), sequence, consumer_sequence, deliveries)
        elif payload == b"+WPI":
            self._delayed.pop(sequence, None)
            self.core.wait_anew(sequence, self.engine.now_ns())
        elif payload.startswith(b"+TERM"):
            self._delayed.pop(sequence, None)
            self.core.acknowledge(sequence, consumer_sequence)
            reason = payload[5:].strip().decode(errors="replace")
            consumer_advisories.terminated(self, sequence, consumer_sequence, deliveries, reason)
        if reply:
            self.stream.confirm(reply)
        self.engine.commit_soon()
        self.engine.pump_soon()

    def _acknowledge(self, sequence: int, consumer_sequence: int, deliveries: int) -> None:
        if self.core.samples and self.core.deliveries(sequence):
            percent = self.config.sample_percent
            if percent >= 100 or random.randrange(100) < percent:
                consumer_advisories.ack(self, sequence, consumer_sequence, deliveries)
        self._delayed.pop(sequence, None)
        self.core.acknowledge(sequence, consumer_sequence)

    def _nak(self, argument: bytes, sequence: int, consumer_sequence: int, deliveries: int) -> None:
        core = self.core
        if consumer_sequence <= core.state.floor_consumer or core.deliveries(sequence) == 0:
            return
        consumer_advisories.nak(self, sequence, consumer_sequence, deliveries)
        delay_ns = _nak_delay(argument)
        if delay_ns > 0:
            now_ns = self.engine.now_ns()
            core.take_back(sequence)
            core.wait_anew(sequence, now_ns)
            self.delay(sequence, now_ns + delay_ns)
            self.schedule()
        else:
            self._delayed.pop(sequence, None)
            self._redeliver(sequence, deliveries)

    def delay(self, sequence: int, due_ns: int) -> None:
        """Have a pending message delivered again at a Unix time; `schedule` must follow."""
        self._delayed[sequence] = due_ns
        heapq.heappush(self._delays, (due_ns, sequence))

    def _redeliver(self, sequence: int, deliveries: int) -> None:
        # What may be delivered more than once is given up when it is its turn again, as in nats-server.
        deliveries = max(deliveries, self.core.deliveries(sequence))
        if 0 < self.core.max_deliver <= max(1, deliveries - 1):
            self.exhausted(sequence, deliveries)
        else:
            self.core.redeliver(sequence)

    def flow_confirmed(self, block: bytes) -> None:
        """Take the acknowledgement that answers to flow control carry, where that is the ack policy."""
        if self.config.ack_policy != "flow_control":
            return
        sequence = headers.get(block, b"Nats-Last-Stream") or b""
        consumer_sequence = headers.get(block, b"Nats-Last-Consumer") or b""
        if sequence.isdigit() and consumer_sequence.isdigit() and int(sequence):
            self.core.acknowledge(int(sequence), int(consumer_sequence))

    # ---- time

    def ack_wait_ns(self, deliveries: int) -> int:
        """Return how long a message that was delivered so often may stay unacknowledged."""
        if self.config.backoff:
            return self.config.backoff[min(max(deliveries, 1), len(self.config.backoff)) - 1]
        return self.config.ack_wait

    def wait_began_ns(self, sequence: int, timestamp_ns: int) -> int:
        """Return when a pending message was delivered last; as if its delay, if any, were its ack wait.

        Args:
            timestamp_ns: of its last delivery.
        """
        due_ns = self._delayed.get(sequence)
        return due_ns - self.ack_wait_ns(self.core.deliveries(sequence)) if due_ns else timestamp_ns

    def _shortest_wait_ns(self) -> int:
        return min(self.config.backoff) if self.config.backoff else self.config.ack_wait

    def schedule(self) -> None:
        """Set the timer to when something is due next."""
        if self.is_closed:
            return
        now_ns = self.engine.now_ns()
        due_ns = self._next_due_ns(now_ns)
        if due_ns == 0 or (self._timer is not None and self._timer_ns <= due_ns):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_ns = due_ns
        seconds = max(0, due_ns - now_ns) / SECOND_NS
        self._timer = self.engine.later(seconds, self._timer_fired)

    def _next_due_ns(self, now_ns: int) -> int:
        times = []
        if self._delays:
            times.append(self._delays[0][0])
        if self.core.is_paused:
            times.append(self.config.pause_until)
        oldest = self.core.oldest_waiting(self._delayed) if self.config.ack_policy != "none" else None
        if oldest is not None:
            times.append(oldest[0] + self._shortest_wait_ns())
        if self._replay_until and self._replayed_ts_ns and self.core.requests:
            sequence = self.core.upcoming_sequence
            if sequence:
                gap_ns = self.stream.store.timestamp_of(sequence) - self._replayed_ts_ns
                times.append(self._replayed_at_ns + gap_ns)
        if self.pull is not None:
            times.append(self.pull.next_due_ns())
        if self.push is not None:
            times.append(self.push.next_due_ns(now_ns))
        if self._inactive_ns:
            times.append(self._inactive_due_ns(now_ns, looks=False))
        return min((due_ns for due_ns in times if due_ns), default=0)

    def _timer_fired(self) -> None:
        self._timer = None
        if self.is_closed:
            return
        now_ns = self.engine.now_ns()
        if self.core.is_paused and now_ns >= self.config.pause_until:
            self.core.is_paused = False
            consumer_advisories.pause(self)
            self.core.wake()
        self._check_delays(now_ns)
        self._check_ack_wait(now_ns)
        if self.pull is not None:
            # As in nats-server, requests that do not wait are over then if they have got something.
            self.pull.check(now_ns, is_at_end=self.pull.is_due(now_ns))
        if self.push is not None:
            self.push.check(now_ns)
        if self._replay_until:
            self.core.wake()
        if self._inactive_ns and now_ns >= self._inactive_due_ns(now_ns, looks=True):
            self.consumers.delete(self.name)
            self.engine.commit_soon()
            return
        self.engine.pump_soon()
        self.schedule()

    def _check_delays(self, now_ns: int) -> None:
        while self._delays and self._delays[0][0] <= now_ns:
            due_ns, sequence = heapq.heappop(self._delays)
            if self._delayed.get(sequence) == due_ns:
                del self._delayed[sequence]
                if deliveries := self.core.deliveries(sequence):
                    self._redeliver(sequence, deliveries)

    def _check_ack_wait(self, now_ns: int) -> None:
        if self.config.ack_policy == "none":
            return
        due = []
        for sequence, ts_ns, deliveries in self.core.waiting_since(now_ns - self._shortest_wait_ns() + 1):
            if sequence not in self._delayed and ts_ns + self.ack_wait_ns(deliveries) <= now_ns:
                due.append((sequence, deliveries))
        for sequence, deliveries in sorted(due):
            self._redeliver(sequence, deliveries)

    # ---- nobody uses it

    def _inactive_due_ns(self, now_ns: int, *, looks: bool) -> int:
        """Return when it will have been unused for as long as it may be.

        Args:
            looks: whether somebody listens for the requests that wait; if not, that is left for later.
        """
        if self.push is not None:
            return (
                now_ns + self._inactive_ns
                if self.push.is_active
                else self._inactive_since_ns + self._inactive_ns
            )
        assert self.pull is not None
        if looks:
            self.pull.drop_uninterested()
        if self.core.requests:
            return now_ns + self._inactive_ns
        used_ns = max(self.pull.last_request_ns, self.core.last_ack_ns, self._inactive_since_ns)
        oldest = self.core.oldest_waiting(())
        if oldest is not None:
            used_ns = max(used_ns, oldest[0] + self.ack_wait_ns(oldest[1]))
        return used_ns + self._inactive_ns

    # ---- what the API asks

    def update(self, config: ConsumerConfig) -> None:
        """Take a configuration that has been checked."""
        filters_changed = config.filters != self.config.filters
        self.config = config
        self.consumers.keep(self)
        if filters_changed:
            self.core.set_filters(config.filters)
            self.consumers.filters_changed(self)
        if self.push is not None:
            self.push.configure()
            self.push.check_interest()
        self.configure()
        self.core.wake()
        self.engine.pump_soon()
        self.schedule()

    def pause(self, until_ns: int) -> None:
        """Deliver nothing before a Unix time; one that has passed ends the pause."""
        self.config = self.config.replace(pause_until=until_ns)
        self.consumers.keep(self)
        self.core.is_paused = until_ns > self.engine.now_ns()
        consumer_advisories.pause(self)
        self.core.wake()
        self.engine.pump_soon()
        self.schedule()

    def reset(self, sequence: int) -> int:
        """Begin anew at a stream sequence, 0: behind the ack floor; return it."""
        sequence = sequence or self.core.state.floor_stream + 1
        self._delayed.clear()
        self._delays.clear()
        self.core.reset(sequence)
        self.engine.pump_soon()
        return sequence

    def unpin(self, group: str) -> None:
        """Let another client of a priority group be the pinned one."""
        if self.pull is not None:
            self.pull.priority.unpin("admin", group)

    def wrong_pin(self, request: Request) -> None:
        """Tell a client whose request was removed that another one is pinned now."""
        if self.pull is not None:
            self.pull.tell(request.reply, status(423, "Nats-Wrong-Pin-Id", request))


def _nak_delay(argument: bytes) -> int:
    """Return how long a NAK asks to wait, in nanoseconds; 0: not at all, or it cannot be understood."""
    if argument.startswith(b"{"):
        try:
            delay = orjson.loads(argument).get("delay")
        except orjson.JSONDecodeError:
            return 0
        return delay if isinstance(delay, int) and delay > 0 else 0
    return max(0, parse_duration(argument.decode(errors="replace")) or 0)
