"""What a stream does with a published message: check it by the rules of the stream, store it, answer.

The order of the checks is nats-server's, since the first one that fails is what the publisher is told. Single
messages are handled here; parts of batches come back to `store_message` from batches.py and fast_batches.py.
Plain messages do not come here at all: ingest.pyx stores them itself.

Source: nats-server server/stream.go, processJetStreamMsg.
"""

from __future__ import annotations

import logging
from heapq import nsmallest
from typing import TYPE_CHECKING

from storage import queries
from storage.errors import StorageError
from storage.limits import MAXIMUM_PER_SUBJECT, NEVER_NS, REFUSALS, TOO_LARGE
from workers.jetstream import apierrors, counters, gojson, headers, publish_checks, rollup, schedules
from workers.jetstream.apierrors import ApiError
from workers.jetstream.batches import AtomicBatches
from workers.jetstream.dedup import DedupTable
from workers.jetstream.durations import NEVER, SECOND_NS, format_seconds, parse_ttl
from workers.jetstream.fast_batches import SUFFIX as FAST_BATCH_SUFFIX
from workers.jetstream.fast_batches import FastBatches
from workers.jetstream.gojson_quote import quote
from workers.jetstream.republish import Republisher
from workers.jetstream.schedules import Schedules, Timer
from workers.jetstream.transforms import make_transform

if TYPE_CHECKING:
    from storage.reader import Message
    from workers.jetstream.stream import Stream

logger = logging.getLogger("jetstream")

# Ids that are too old leave the memory of a stream that is idle this often at least.
FORGET_IDS_SECONDS_MIN = 1.0


class Publisher:
    """Stores what is published to one stream."""

    def __init__(self, stream: Stream) -> None:
        """Take over a stream, whose `store` holds what it held before."""
        self.stream = stream
        self.store = stream.store
        self.dedup = DedupTable(stream.config.duplicate_window, self._load_ids)
        self.schedules = Schedules(
            self.store, self._publish_scheduled, stream.engine.later, stream.engine.now_ns
        )
        self._has_schedules = False
        self._forget_timer: Timer | None = None
        self.batches = AtomicBatches(self)
        self.fast_batches = FastBatches(self)
        self.configure()
        self.batches.recover()

    def configure(self) -> None:
        """Take over the stream's configuration after a change."""
        config = self.stream.config
        self.config = config
        domain = self.stream.engine.config.js_domain
        self.ack_start = f'{{"stream":{quote(config.name)},'.encode()
        if domain:
            self.ack_start += f'"domain":{quote(domain)},'.encode()
        self.ack_start += b'"seq":'
        transform = config.subject_transform
        self._transform = make_transform(transform.src, transform.dest) if transform else None
        republish = config.republish
        self._republisher = Republisher(config.name, republish) if republish and republish.dest else None
        self.allows_rollup = config.allow_rollup_hdrs and not config.deny_purge
        if config.duplicate_window != self.dedup.window_ns:
            self.dedup.set_window(config.duplicate_window)
        if self._forget_timer is None and config.duplicate_window:
            self._forget_old_ids()
        if config.allow_msg_schedules and not self._has_schedules:
            self.schedules.load()
        self._has_schedules = config.allow_msg_schedules

    def close(self) -> None:
        """Drop timers and batches that are not finished."""
        if self._forget_timer is not None:
            self._forget_timer.cancel()
        self.schedules.close()
        self.batches.close()
        self.fast_batches.close()

    # What comes in.

    def publish(self, subject: bytes, reply: bytes, block: bytes, payload: bytes) -> None:
        """Handle one message; an answer goes to `reply` unless it is empty.

        Args:
            subject: literal, as it was published.
            block: the header block as it came, b"" for none.
        """
        block = headers.remove_status(block)
        try:
            if reply.endswith(FAST_BATCH_SUFFIX):
                self.fast_batches.publish(subject, reply, block, payload)
            elif block and headers.get(block, headers.BATCH_ID):
                self.batches.publish(subject, reply, block, payload)
            else:
                self._publish_single(subject, reply, block, payload, is_sourced=False)
        except ApiError as error:
            self.refuse(reply, error)
        except StorageError as error:
            logger.warning("message_not_stored stream=%r error=%s", self.config.name, error)
            self.refuse(reply, apierrors.stream_store_failed(error))

    def publish_trusted(self, subject: bytes, block: bytes, payload: bytes) -> None:
        """Store a message that the server made or took from another stream: checks for clients do not apply.

        Raises:
            ApiError: it was refused.
        """
        self._publish_single(subject, b"", block, payload, is_sourced=True)

    def expire(self, now_ns: int, count_max: int) -> bool:
        """Take out messages whose time is over, and leave a marker for the last of a subject where the stream
        wants one; tell whether there were any.

        A marker that goes leaves none: it would never end.
        """
        markers = self._markers_due(now_ns, count_max) if self.config.subject_delete_marker_ttl else None
        expired = self.store.expire(now_ns, count_max=count_max)
        if markers is not None:
            for sequence, subject, was_last in expired:
                if was_last and sequence not in markers:
                    self.marker(subject)
        return bool(expired)

    def _markers_due(self, now_ns: int, count_max: int) -> set[int]:
        """Return the sequences of markers among the next messages to go, oldest of each kind first."""
        store = self.store
        sequences = {sequence for _, sequence in nsmallest(count_max, _due(store.expiries, now_ns))}
        if self.config.max_age:
            oldest_ns = now_ns - self.config.max_age
            for message in store.read(store.first_sequence, 2 * count_max):
                if message.timestamp_ns > oldest_ns:
                    break
                sequences.add(message.sequence)
        found = [store.get(sequence) for sequence in sequences]
        return {one.sequence for one in found if one is not None and headers.is_delete_marker(one.headers)}

    def marker(self, subject: bytes) -> None:
        """Store a message that says that the last one of a subject went by age."""
        lifetime = format_seconds(self.config.subject_delete_marker_ttl // SECOND_NS)
        block = headers.add(b"", headers.MARKER_REASON, b"MaxAge")
        block = headers.add(block, headers.TTL, lifetime.encode())
        self._publish_made(subject, headers.add(block, headers.ROLLUP, rollup.SUBJECT), b"")

    def refuse(self, reply: bytes, error: ApiError) -> None:
        """Answer with an error."""
        self.stream.acknowledge(reply, self.error_ack(error))

    # Answers.

    def error_ack(self, error: ApiError) -> bytes:
        """Return the acknowledgement that carries an error."""
        return gojson.encode({"error": error.to_json(), "stream": self.config.name, "seq": 0})

    def ack(self, sequence: int, rest: bytes = b"}") -> bytes:
        """Return the acknowledgement of a sequence; `rest`: its end, from behind the sequence."""
        return self.ack_start + b"%d" % sequence + rest

    def batch_ack(self, sequence: int, batch: bytes, count: int, *, is_duplicate: bool = False) -> bytes:
        """Return the acknowledgement of a batch."""
        rest = b',"duplicate": true' if is_duplicate else b""
        return self.ack(sequence, rest + b',"batch":%b,"count":%d}' % (quote(batch).encode(), count))

    # A single message.

    def transformed(self, subject: bytes) -> bytes:
        """Return the subject under which a message is stored."""
        if self._transform is None:
            return subject
        return self._transform.apply_bytes(subject) or subject

    def _publish_single(
        self, subject: bytes, reply: bytes, block: bytes, payload: bytes, *, is_sourced: bool
    ) -> None:
        config = self.config
        subject = self.transformed(subject)
        publish_checks.record_size(config, subject, block, payload)
        if config.sealed:
            raise apierrors.stream_sealed()
        if not is_sourced:
            publish_checks.message_size(config, block, payload)
        increment = None
        if block:
            block = headers.remove(block, headers.CLIENT_INFO)
            increment = publish_checks.increment(config, block, payload, is_sourced=is_sourced)
            block = self._check_headers(subject, block, is_sourced=is_sourced)
            original = self.duplicate_of(block)
            if original:
                self.stream.acknowledge(reply, self.ack(original, b',"duplicate": true}'))
                return
            self.check_last_message_id(block)
            wanted = rollup.parse(block)
            if wanted:
                rollup.check(wanted, is_allowed=self.allows_rollup or is_sourced)
        if config.allow_msg_counter:
            if increment is None:
                raise apierrors.message_incr_missing()
            counter = self.counter(subject)
            block, payload = counters.apply(counter, increment, subject, block, payload)
            self.check_payload_limit(block, payload)
        publish_checks.message_size(config, block, payload)
        publish_checks.headers_size(block)
        sequence = self.store_message(subject, block, payload)
        rest = b',"val":"%b"}' % payload[8:-2] if config.allow_msg_counter else b"}"
        self.stream.acknowledge(reply, self.ack(sequence, rest))

    def _check_headers(self, subject: bytes, block: bytes, *, is_sourced: bool) -> bytes:
        config = self.config
        publish_checks.expected_stream(config, block)
        if not is_sourced:
            publish_checks.ttl_is_allowed(config, block)
        publish_checks.expected_subject_sequence(self.store, subject, block)
        expected = publish_checks.expected_sequence(block, headers.EXPECTED_LAST_SEQUENCE)
        if expected is not None and expected != self.store.last_sequence:
            raise apierrors.stream_wrong_last_sequence(self.store.last_sequence)
        if not is_sourced:
            now_ns = self.stream.engine.now_ns()
            block, _ = schedules.check(config, subject, block, now_ns, self.is_schedule)
            publish_checks.source_header(block)
        return block

    def is_schedule(self, subject: bytes) -> bool | None:
        """Tell whether the last message of a subject is a schedule, None: it has no message."""
        last = self._last_message(subject)
        return None if last is None else bool(headers.get(last.headers, headers.SCHEDULE))

    def duplicate_of(self, block: bytes) -> int:
        """Return the sequence of the message that had the same id within the window, or 0."""
        message_id = headers.get(block, headers.MESSAGE_ID)
        if not message_id or self.config.mirror is not None:
            return 0
        return self.dedup.get(message_id, self.stream.engine.now_ns())

    def check_last_message_id(self, block: bytes) -> None:
        """Check Nats-Expected-Last-Msg-Id.

        Raises:
            ApiError: 10070.
        """
        expected = headers.get(block, headers.EXPECTED_LAST_MESSAGE_ID)
        if expected:
            last = self._last_message_id()
            if expected != last:
                raise apierrors.stream_wrong_last_msg_id(last.decode("utf-8", "replace"))

    def _last_message_id(self) -> bytes:
        if not self.config.duplicate_window:
            message = self.store.get(self.store.last_sequence)
            return (headers.get(message.headers, headers.MESSAGE_ID) or b"") if message else b""
        sequence, message_id = self.dedup.newest()
        return message_id if sequence == self.store.last_sequence else b""

    def counter(self, subject: bytes) -> counters.Counter:
        """Return the counter of a subject as stored.

        Raises:
            ApiError: 10172.
        """
        last = self._last_message(subject)
        return counters.read(last.headers, last.payload) if last else counters.Counter()

    def check_payload_limit(self, block: bytes, payload: bytes) -> None:
        """Refuse what clients could not be sent (10054)."""
        if len(block) + len(payload) > self.stream.engine.config.max_payload:
            raise apierrors.stream_message_exceeds_maximum()

    def _last_message(self, subject: bytes) -> Message | None:
        sequence = queries.last_sequence_of(self.store, subject)
        return self.store.get(sequence) if sequence else None

    # Storing.

    def store_message(self, subject: bytes, block: bytes, payload: bytes, *, timestamp_ns: int = 0) -> int:
        """Store a message that passed its checks and return its sequence.

        Everything that follows from it is done too: older messages that it replaces go, its copy is sent on,
        its id and schedule are known. Where only interest keeps messages and there is none, its sequence is
        used up and nothing is stored.

        Args:
            subject: transformed.
            timestamp_ns: 0: now.
        Raises:
            ApiError: 10077 for limits that refuse new messages, 10165, limits of the account.
            StorageError: it could not be written.
        """
        config, store = self.config, self.store
        now_ns = max(timestamp_ns or self.stream.engine.now_ns(), store.last_timestamp_ns)
        message_id = headers.get(block, headers.MESSAGE_ID) if block else None
        if config.retention == "interest" and not self.stream.has_consumer_interest(subject):
            sequence = store.last_sequence + 1
            store.skip_to(sequence, now_ns)
            if message_id:
                self.dedup.put(message_id, sequence, now_ns)
            self._replace(subject, block, sequence + 1)
            return sequence
        destination = self._republisher.destination(subject) if self._republisher else None
        previous = (queries.last_sequence_of(store, subject) or 0) if destination else 0
        block, ttl = self._time_to_live(block)
        expires_ns = 0
        if ttl:
            expires_ns = NEVER_NS if ttl == NEVER else min(now_ns + ttl * SECOND_NS, NEVER_NS - 1)
        sequence = self._append(subject, block, payload, now_ns, expires_ns)
        if message_id:
            self.dedup.put(message_id, sequence, now_ns)
        self._replace(subject, block, sequence)
        if self._has_schedules:
            self.schedules.stored(sequence, subject, block, now_ns)
        if destination and self._republisher:
            copied, body = self._republisher.copy(subject, block, payload, sequence, now_ns, previous)
            self.stream.send_now(destination, body, copied)
        return sequence

    def _append(self, subject: bytes, block: bytes, payload: bytes, now_ns: int, expires_ns: int) -> int:
        store = self.store
        sequence = store.append(subject, block, payload, now_ns, expires_ns=expires_ns)
        if sequence == MAXIMUM_PER_SUBJECT and headers.get(block, headers.ROLLUP):
            # It makes its own room, since what it replaces goes with it.
            rollup.purge_subject(store, subject, store.last_sequence + 1)
            sequence = store.append(subject, block, payload, now_ns, expires_ns=expires_ns)
        if sequence == TOO_LARGE:
            raise apierrors.stream_message_exceeds_maximum()
        if sequence < 0:
            raise apierrors.stream_store_failed(REFUSALS[sequence])
        return sequence

    def _time_to_live(self, block: bytes) -> tuple[bytes, int]:
        """Return the block to store and the seconds of its Nats-TTL; 0: none.

        Raises:
            ApiError: 10165.
        """
        value = headers.get(block, headers.TTL) if block else None
        if not value:
            return block, 0
        ttl = parse_ttl(value)
        if ttl is None:
            raise apierrors.message_ttl_invalid()
        if not self.config.allow_msg_ttl:  # it came from another stream
            return block, 0
        least = self.config.subject_delete_marker_ttl // SECOND_NS
        # A message that ended before the marker of its subject would end unnoticed.
        if 0 < ttl < least and self.config.max_msgs_per_subject != 1:
            ttl = least
            block = headers.add(headers.remove(block, headers.TTL), headers.TTL, b"%d" % ttl)
        return block, ttl

    def _replace(self, subject: bytes, block: bytes, before: int) -> None:
        """Take out what a message below sequence `before` replaces."""
        if not block or not self.allows_rollup:
            return
        rollup.apply(self.store, rollup.parse(block), subject, before)
        if headers.get(block, headers.SCHEDULE_NEXT) == schedules.PURGE:
            scheduler = headers.get(block, headers.SCHEDULER)
            if scheduler:
                rollup.purge_subject(self.store, scheduler, self.store.last_sequence + 1)
                self.schedules.remove(scheduler)

    # What comes from the server itself.

    def _publish_scheduled(self, subject: bytes, block: bytes, payload: bytes) -> None:
        self._publish_made(subject, block, payload)

    def _publish_made(self, subject: bytes, block: bytes, payload: bytes) -> None:
        try:
            self.publish_trusted(subject, block, payload)
        except (ApiError, StorageError) as error:
            logger.warning(
                "own_message_not_stored stream=%r subject=%r error=%s", self.config.name, subject, error
            )
            return
        self.stream.ingest.touch()
        self.stream.engine.commit_soon()

    def _load_ids(self, table: DedupTable) -> None:
        since_ns = self.stream.engine.now_ns() - self.config.duplicate_window
        for message_id, sequence, stored_ns in self.store.message_ids(since_ns):
            table.put(message_id, sequence, stored_ns)

    def _forget_old_ids(self) -> None:
        self._forget_timer = None
        window_ns = self.config.duplicate_window
        if window_ns:
            self.dedup.expire(self.stream.engine.now_ns())
            wait_s = max(window_ns / SECOND_NS, FORGET_IDS_SECONDS_MIN)
            self._forget_timer = self.stream.engine.later(wait_s, self._forget_old_ids)


def _due(heap: list[tuple[int, int]], now_ns: int) -> list[tuple[int, int]]:
    """Return the entries of a heap of (time, sequence) whose time has come, without looking at the others."""
    found = []
    places = [0]
    while places:
        place = places.pop()
        if place < len(heap) and heap[place][0] <= now_ns:
            found.append(heap[place])
            places += (2 * place + 1, 2 * place + 2)
    return found
