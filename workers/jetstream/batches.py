"""Atomic batches: many messages that are stored together or not at all (allow_atomic).

Messages carry Nats-Batch-Id and Nats-Batch-Sequence from 1; the last one Nats-Batch-Commit, "1", or "eob" if
it is only the end and no message itself. Those before the last are answered with an empty message and wait in
memory; the last one has all of them checked, in order, as if those before were stored, and stored in one go.

A crash cannot leave a part behind: all messages of a batch go into one round of the store, whose frame
counts whole or not at all. A batch too large for one frame ends with a message that commits it, or else the
next start takes its beginning out again (`recover`).

Source: nats-server server/stream.go, processJetStreamAtomicBatchMsg, and server/jetstream_batching.go.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from workers.jetstream import apierrors, counters, headers, publish_checks, rollup, schedules
from workers.jetstream.durations import parse_uint64
from workers.jetstream.open_batches import OpenBatches, Staged

if TYPE_CHECKING:
    from storage.reader import Message
    from workers.jetstream.publishing import Publisher

BATCHES_PER_STREAM_MAX = 50
BATCHES_MAX = 1000
MESSAGES_MAX = 1000
ID_BYTES_MAX = 64
# nats-server stages on disk; here the messages of all batches of a worker may take so much memory.
STAGED_BYTES_MAX = 512 << 20
ADVISORY_SUBJECT = "$JS.EVENT.ADVISORY.STREAM.BATCH_ABANDONED."
ADVISORY_TYPE = "io.nats.jetstream.advisory.v1.stream_batch_abandoned"


_staged = Staged()


@dataclass(slots=True)
class BatchCheck:
    """Checks messages one after the other as if those before were stored.

    Attributes:
        last_sequence: of the stream before the batch.
        count: messages that passed; size: the bytes they count in the stream.
        per_subject: how many of each subject passed; schedules: whether the last of them is a schedule.
    """

    publisher: Publisher
    last_sequence: int
    count: int = 0
    size: int = 0
    per_subject: dict[bytes, int] = field(default_factory=dict)
    schedules: dict[bytes, bool] = field(default_factory=dict)
    ids: set[bytes] = field(default_factory=set)
    expected: dict[bytes, int] = field(default_factory=dict)
    counters: dict[bytes, counters.Counter] = field(default_factory=dict)
    duplicate_of: int = 0

    def check(self, subject: bytes, block: bytes, payload: bytes) -> tuple[bytes, bytes]:
        """Check the next message and return header block and payload to store.

        When it is a duplicate, `duplicate_of` tells of which sequence.

        Raises:
            ApiError: it is refused.
        """
        config = self.publisher.config
        publish_checks.record_size(config, subject, block, payload)
        increment = None
        if block:
            publish_checks.headers_size(block)
            increment = publish_checks.increment(config, block, payload)
            publish_checks.expected_stream(config, block)
            publish_checks.ttl_is_valid(config, block)
            self._check_id(block)
            publish_checks.source_header(block)
        if config.allow_msg_counter:
            block, payload = self._count(increment, subject, block, payload)
        is_schedule = False
        if block:
            self._check_expected(subject, block)
            now_ns = self.publisher.stream.engine.now_ns()
            block, is_schedule = schedules.check(config, subject, block, now_ns, self._is_schedule)
            self._check_rollup(subject, block)
        self.size += publish_checks.accounted_bytes(config, subject, block, payload)
        self.count += 1
        self.per_subject[subject] = self.per_subject.get(subject, 0) + 1
        self.schedules[subject] = is_schedule
        self._check_limits(subject, block)
        return block, payload

    def _check_id(self, block: bytes) -> None:
        message_id = headers.get(block, headers.MESSAGE_ID)
        if not message_id:
            return
        self.duplicate_of = self.publisher.duplicate_of(block)
        if self.duplicate_of or message_id in self.ids:
            raise apierrors.atomic_publish_contains_duplicate_message()
        self.ids.add(message_id)

    def _count(
        self, increment: int | None, subject: bytes, block: bytes, payload: bytes
    ) -> tuple[bytes, bytes]:
        if increment is None:
            raise apierrors.message_incr_missing()
        counter = self.counters.get(subject)
        if counter is None:
            counter = self.counters[subject] = self.publisher.counter(subject)
        block, payload = counters.apply(counter, increment, subject, block, payload)
        self.publisher.check_payload_limit(block, payload)
        publish_checks.message_size(self.publisher.config, block, payload)
        return block, payload

    def _check_expected(self, subject: bytes, block: bytes) -> None:
        expected = publish_checks.expected_sequence(block, headers.EXPECTED_LAST_SEQUENCE)
        if expected is not None:
            last = self.last_sequence + self.count
            if expected != last:
                raise apierrors.stream_wrong_last_sequence(last)
            if self.count:
                raise apierrors.stream_wrong_last_sequence_constant()
        of_subject = publish_checks.subject_of_expectation(block, subject)
        wanted = publish_checks.expected_sequence(block, headers.EXPECTED_LAST_SUBJECT_SEQUENCE)
        if wanted is not None and of_subject in self.per_subject:
            raise apierrors.stream_wrong_last_sequence_constant()
        if wanted is not None and of_subject in self.expected:
            if self.expected[of_subject] != wanted:
                raise apierrors.stream_wrong_last_sequence(self.expected[of_subject])
            return
        publish_checks.expected_subject_sequence(self.publisher.store, subject, block)
        if wanted is not None:
            self.expected[of_subject] = wanted

    def _is_schedule(self, subject: bytes) -> bool | None:
        if subject in self.schedules:
            return self.schedules[subject]
        return self.publisher.is_schedule(subject)

    def _check_rollup(self, subject: bytes, block: bytes) -> None:
        wanted = rollup.parse(block)
        if not wanted:
            return
        if not self.publisher.allows_rollup:
            raise apierrors.stream_rollup_failed("rollup not permitted")
        if wanted == rollup.SUBJECT and subject in self.per_subject:
            raise apierrors.stream_rollup_failed("batch rollup sub invalid")
        if wanted == rollup.ALL and self.count:
            raise apierrors.stream_rollup_failed("batch rollup all invalid")
        rollup.check(wanted, is_allowed=True)

    def _check_limits(self, subject: bytes, block: bytes) -> None:
        config, store = self.publisher.config, self.publisher.store
        if config.discard != "new":
            return
        if 0 < config.max_msgs < store.messages + self.count:
            raise apierrors.stream_store_failed("maximum messages exceeded")
        if 0 < config.max_bytes < store.bytes + self.size:
            raise apierrors.stream_store_failed("maximum bytes exceeded")
        most = config.max_msgs_per_subject
        if config.discard_new_per_subject and most > 0 and not headers.get(block, headers.ROLLUP):
            stored = publish_checks.messages_of(store, subject)
            if stored + self.per_subject[subject] > most:
                raise apierrors.stream_store_failed("maximum messages per subject exceeded")


@dataclass(slots=True)
class AtomicBatch:
    """One batch that waits for its commit.

    Attributes:
        messages: subject as published, header block, payload.
        deadline_ns: when it is abandoned.
    """

    deadline_ns: int
    messages: list[tuple[bytes, bytes, bytes]] = field(default_factory=list)
    last: int = 0
    size: int = 0


class AtomicBatches(OpenBatches[AtomicBatch]):
    """The atomic batches of one stream."""

    def __init__(self, publisher: Publisher, staged: Staged = _staged) -> None:
        """Begin without any; `staged` counts what all streams of the worker have in memory."""
        super().__init__(publisher, staged, stream_max=BATCHES_PER_STREAM_MAX, worker_max=BATCHES_MAX)

    def recover(self) -> None:
        """Take out the beginning of a batch whose end was lost in a crash."""
        store = self._publisher.store
        last = store.last_sequence
        message = store.get(last) if self._publisher.config.allow_atomic and store.messages else None
        if message is None or not _is_unfinished(message):
            return
        first = _first_of_batch(store.get, message)
        if first > 1 and store.get(first - 1) is not None:
            store.truncate(first - 1, self._engine.now_ns())
        else:
            store.delete_many(range(first, last + 1))
        self._engine.commit_soon()

    def publish(self, subject: bytes, reply: bytes, block: bytes, payload: bytes) -> None:
        """Handle one message that has a Nats-Batch-Id.

        Raises:
            ApiError: it is refused, and with most errors the batch is over.
        """
        config = self._publisher.config
        batch_id = headers.get(block, headers.BATCH_ID) or b""
        if config.sealed:
            raise apierrors.stream_sealed()
        publish_checks.message_size(config, block, payload)
        if not config.allow_atomic:
            raise apierrors.atomic_publish_disabled()
        if len(batch_id) > ID_BYTES_MAX:
            raise apierrors.atomic_publish_invalid_batch_id()
        sequence = parse_uint64(headers.get(block, headers.BATCH_SEQUENCE) or b"")
        if sequence is None:
            raise apierrors.atomic_publish_missing_seq()
        commit = headers.get(block, headers.BATCH_COMMIT)
        size = sequence - (commit == b"eob")
        batch = self._batch(batch_id, sequence, size)
        if commit not in (None, b"1", b"eob"):
            self._drop(batch_id)
            raise apierrors.atomic_publish_invalid_batch_commit()
        if publish_checks.needs_too_high_level(block):
            self._abandon(batch_id, "unsupported")
            raise apierrors.required_api_level()
        block = headers.remove(block, headers.REQUIRED_API_LEVEL)
        batch.deadline_ns = self._deadline_ns()
        batch.last += 1
        if batch.last != sequence or (sequence == 1 and commit == b"eob"):
            self._abandon(batch_id, "incomplete")
            raise apierrors.atomic_publish_incomplete_batch()
        if size > MESSAGES_MAX:
            self._abandon(batch_id, "large")
            raise apierrors.atomic_publish_too_large_batch(MESSAGES_MAX)
        if commit != b"eob":
            self._stage(batch_id, batch, (subject, block, payload))
        if commit is None:
            self._publisher.stream.acknowledge(reply, b"")
            return
        self._drop(batch_id)
        self._commit(batch_id, batch, reply, is_end_only=commit == b"eob")

    def _batch(self, batch_id: bytes, sequence: int, size: int) -> AtomicBatch:
        """Return the batch of this id, a new one for the first message."""
        batch = self._batches.get(batch_id)
        if batch is not None:
            return batch
        if sequence != 1:
            if size > MESSAGES_MAX:
                raise apierrors.atomic_publish_too_large_batch(MESSAGES_MAX)
            raise apierrors.atomic_publish_incomplete_batch()
        if self._is_full:
            raise apierrors.atomic_publish_too_many_inflight()
        return self._open(batch_id, AtomicBatch(self._deadline_ns()))

    def _stage(self, batch_id: bytes, batch: AtomicBatch, message: tuple[bytes, bytes, bytes]) -> None:
        size = sum(map(len, message))
        if self._staged.size + size > STAGED_BYTES_MAX:
            self._abandon(batch_id, "large")
            raise apierrors.insufficient_resources()
        batch.messages.append(message)
        batch.size += size
        self._staged.size += size

    def _commit(self, batch_id: bytes, batch: AtomicBatch, reply: bytes, *, is_end_only: bool) -> None:
        publisher = self._publisher
        check = BatchCheck(publisher, publisher.store.last_sequence)
        ready = []
        for published, sent, payload in batch.messages:
            subject = publisher.transformed(published)
            if headers.get(sent, headers.EXPECTED_LAST_MESSAGE_ID):
                raise apierrors.atomic_publish_unsupported_header_batch(
                    headers.EXPECTED_LAST_MESSAGE_ID.decode()
                )
            block = headers.remove(sent, headers.CLIENT_INFO)
            ready.append((subject, *check.check(subject, block, payload)))
        if is_end_only:
            subject, block, payload = ready[-1]
            ready[-1] = subject, headers.add(block, headers.BATCH_COMMIT, b"1"), payload
        # What the server added may have made one too long; none of them may fail from here on.
        for _, block, payload in ready:
            publish_checks.message_size(publisher.config, block, payload)
        sequence = 0
        for subject, block, payload in ready:
            sequence = publisher.store_message(subject, block, payload)
        publisher.stream.acknowledge(reply, publisher.batch_ack(sequence, batch_id, len(ready)))

    def _time_out(self, batch_id: bytes) -> None:
        self._abandon(batch_id, "timeout")

    def _drop(self, batch_id: bytes) -> AtomicBatch:
        batch = super()._drop(batch_id)
        self._staged.size -= batch.size
        return batch

    def _abandon(self, batch_id: bytes, reason: str) -> None:
        self._drop(batch_id)
        stream = self._publisher.stream
        fields: dict[str, object] = {
            "stream": stream.name,
            "batch": batch_id.decode("utf-8", "replace"),
            "reason": reason,
        }
        self._engine.advise(stream.account, ADVISORY_SUBJECT + stream.name, ADVISORY_TYPE, fields)


def _is_unfinished(message: Message) -> bool:
    block = message.headers
    return (
        headers.get(block, headers.BATCH_ID) is not None and headers.get(block, headers.BATCH_COMMIT) is None
    )


def _first_of_batch(get: Callable[[int], Message | None], last: Message) -> int:
    """Return the sequence of the first message there is of the batch of `last`."""
    batch_id = headers.get(last.headers, headers.BATCH_ID)
    first = last.sequence
    while (before := get(first - 1)) is not None and _is_unfinished(before):
        if headers.get(before.headers, headers.BATCH_ID) != batch_id:
            break
        first -= 1
    return first
