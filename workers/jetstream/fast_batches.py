"""Fast batches: many messages with few answers, each stored as it comes (allow_batched).

Everything about a batch is in the reply subject:

    <inbox>.<batch id>.<flow>.<gap>.<sequence>.<operation>.$FI
    flow       the publisher wants an answer for so many messages at most
    gap        fail, or ok: go on after one
    operation  0 start   1 append   2 last message   3 end, no message   4 ping

The first message is answered with what was settled, {"type":"ack","seq":0,"msgs":n}; then comes an answer
every n messages, where n follows how many batches there are. A lost message is told by {"type":"gap",...}, a
refused one by {"type":"err",...}; with gap=fail both end the batch with the acknowledgement of what was
stored.

Source: nats-server server/stream.go, getFastBatch and on; server/jetstream_batching.go.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workers.jetstream import apierrors, gojson, headers, publish_checks
from workers.jetstream.apierrors import ApiError
from workers.jetstream.batches import ID_BYTES_MAX, BatchCheck
from workers.jetstream.durations import parse_int64, parse_uint64
from workers.jetstream.open_batches import OpenBatches, Staged

if TYPE_CHECKING:
    from workers.jetstream.publishing import Publisher

SUFFIX = b".$FI"
START, APPEND, COMMIT, COMMIT_END, PING = range(5)
BATCHES_PER_STREAM_MAX = 1000
BATCHES_MAX = 50_000
FLOW_DEFAULT, FLOW_MAX = 10, 65535
# Messages per answer that all batches of a stream share.
SHARED_FLOW = 500

_opened = Staged()


@dataclass(frozen=True, slots=True)
class Operation:
    """What a reply subject says."""

    batch_id: bytes
    flow: int
    is_gap_ok: bool
    sequence: int
    kind: int

    @property
    def is_commit(self) -> bool:
        """Whether the batch ends with this."""
        return self.kind in (COMMIT, COMMIT_END)

    @classmethod
    def parse(cls, reply: bytes) -> Operation | None:
        """Read a reply subject that ends in SUFFIX; None: it is not understood."""
        parts = reply[: -len(SUFFIX)].rsplit(b".", 5)
        if len(parts) < 6:
            return None
        batch_id, flow_text, gap, sequence_text, kind_text = parts[1:]
        kind, sequence = parse_int64(kind_text), parse_uint64(sequence_text)
        if not START <= kind <= PING or not sequence or sequence == (1 << 64) - 1:
            return None
        if (sequence == 1 and kind in (APPEND, COMMIT_END)) or (sequence != 1 and kind == START):
            return None
        if gap not in (b"fail", b"ok"):
            return None
        flow = parse_int64(flow_text)
        flow = min(flow, FLOW_MAX) if flow > 0 else FLOW_DEFAULT
        return cls(batch_id, flow, gap == b"ok", sequence, kind)


@dataclass(slots=True)
class FastBatch:
    """One batch.

    Attributes:
        flow_max: what the publisher allows; flow: messages per answer now.
        last: the highest batch sequence that came; stored: the highest that is settled.
        answered: the one of the last answer.
        stream_sequence: of the last message stored.
    """

    is_gap_ok: bool
    flow_max: int
    flow: int
    deadline_ns: int
    last: int = 0
    stored: int = 0
    answered: int = 0
    stream_sequence: int = 0


class FastBatches(OpenBatches[FastBatch]):
    """The fast batches of one stream."""

    def __init__(self, publisher: Publisher, opened: Staged = _opened) -> None:
        """Begin without any; `opened` counts the batches of all streams of the worker."""
        super().__init__(publisher, opened, stream_max=BATCHES_PER_STREAM_MAX, worker_max=BATCHES_MAX)

    def publish(self, subject: bytes, reply: bytes, block: bytes, payload: bytes) -> None:
        """Handle one message whose reply subject ends in SUFFIX.

        Raises:
            ApiError: it is refused before it belongs to a batch.
            StorageError: it could not be written.
        """
        config = self._publisher.config
        if config.sealed:
            raise apierrors.stream_sealed()
        publish_checks.message_size(config, block, payload)
        if not config.allow_batched:
            raise apierrors.batch_publish_disabled()
        operation = Operation.parse(reply)
        if operation is None:
            raise apierrors.batch_publish_invalid_pattern()
        if len(operation.batch_id) > ID_BYTES_MAX:
            raise apierrors.batch_publish_invalid_batch_id()
        batch = self._batch(operation)
        if publish_checks.needs_too_high_level(block):
            self._drop(operation.batch_id)
            raise apierrors.required_api_level()
        block = headers.remove(block, headers.REQUIRED_API_LEVEL)
        batch.deadline_ns = self._deadline_ns()
        if operation.kind == PING:
            self._ping(batch, operation, reply)
        elif self._takes(batch, operation, reply):
            if operation.kind == COMMIT_END:
                batch.last -= 1
                batch.stored = batch.last
                self._finish(batch, operation.batch_id, reply)
            else:
                self._store(batch, operation, subject, reply, block, payload)

    def _batch(self, operation: Operation) -> FastBatch:
        """Return the batch of this id, a new one for the first message."""
        batch = self._batches.get(operation.batch_id)
        if batch is not None:
            return batch
        if operation.sequence != 1 or operation.kind == PING:
            raise apierrors.batch_publish_unknown_batch_id()
        if self._is_full:
            raise apierrors.batch_publish_too_many_inflight()
        # The only batch gets what it wants; with others it begins slowly.
        flow = 1 if self._batches else min(SHARED_FLOW, operation.flow)
        batch = FastBatch(operation.is_gap_ok, operation.flow, flow, self._deadline_ns())
        return self._open(operation.batch_id, batch)

    def _ping(self, batch: FastBatch, operation: Operation, reply: bytes) -> None:
        """Tell how far the batch has come."""
        if operation.sequence > batch.last:
            self._tell_gap(reply, batch.last + 1, operation.sequence + 1)
            if not batch.is_gap_ok:
                self._finish(batch, operation.batch_id, reply)
                return
            batch.last = batch.stored = operation.sequence
            if self._check_flow(batch, reply):
                return
        self._tell_flow(batch, reply)

    def _takes(self, batch: FastBatch, operation: Operation, reply: bytes) -> bool:
        """Tell whether a message is the next one, or comes after a gap that may be; else end the batch."""
        batch.last += 1
        if batch.last == operation.sequence:
            return True
        self._tell_gap(reply, batch.last, operation.sequence)
        if operation.sequence > batch.last and batch.is_gap_ok:
            batch.last = operation.sequence
            return True
        batch.last -= 1
        self._finish(batch, operation.batch_id, reply)
        return False

    def _store(
        self,
        batch: FastBatch,
        operation: Operation,
        subject: bytes,
        reply: bytes,
        block: bytes,
        payload: bytes,
    ) -> None:
        publisher = self._publisher
        if operation.sequence == 1 and not operation.is_commit and not publisher.config.no_ack:
            self._answer(reply, {"type": "ack", "seq": 0, "msgs": batch.flow})
        subject = publisher.transformed(subject)
        check = BatchCheck(publisher, publisher.store.last_sequence)
        try:
            block, payload = check.check(subject, headers.remove(block, headers.CLIENT_INFO), payload)
        except ApiError as error:
            self._refuse(batch, operation, reply, error, check)
            return
        try:
            publisher.check_last_message_id(block)
            batch.stream_sequence = publisher.store_message(subject, block, payload)
        except ApiError:
            # nats-server would leave the batch without another answer.
            if operation.is_commit or not operation.is_gap_ok:
                self._drop(operation.batch_id)
            raise
        batch.stored = batch.last
        if operation.is_commit:
            self._finish(batch, operation.batch_id, reply)
        else:
            self._check_flow(batch, reply)

    def _refuse(
        self, batch: FastBatch, operation: Operation, reply: bytes, error: ApiError, check: BatchCheck
    ) -> None:
        """Tell that a message was refused, and end the batch where that is to end it."""
        is_duplicate = check.duplicate_of > 0
        if is_duplicate:
            batch.stored = operation.sequence
            self._check_flow(batch, reply)
            if not operation.is_commit:
                return
        if not operation.is_gap_ok and batch.last == 1:
            self._drop(operation.batch_id)
            publisher = self._publisher
            body = publisher.error_ack(error)
            if is_duplicate:
                body = publisher.batch_ack(
                    check.duplicate_of, operation.batch_id, operation.sequence, is_duplicate=True
                )
            self._send(reply, body)
            return
        if not is_duplicate:
            self._answer(reply, {"type": "err", "seq": operation.sequence, "error": error.to_json()})
        if operation.is_gap_ok and not operation.is_commit:
            return
        if not is_duplicate:
            batch.last -= 1
            batch.stored = batch.last
        self._finish(batch, operation.batch_id, reply)

    # Answers.

    def _finish(self, batch: FastBatch, batch_id: bytes, reply: bytes) -> None:
        """End a batch with the acknowledgement of what was stored."""
        self._drop(batch_id)
        self._send(reply, self._publisher.batch_ack(batch.stream_sequence, batch_id, batch.last))

    def _check_flow(self, batch: FastBatch, reply: bytes) -> bool:
        """Answer when enough messages came since the last time, and say how many next time; True: done."""
        steps = (batch.stored - batch.answered) // batch.flow
        if steps < 1:
            return False
        batch.answered += steps * batch.flow
        most = min(max(SHARED_FLOW // len(self._batches), 1), batch.flow_max)
        batch.flow = min(batch.flow * 2, most) if batch.flow < most else max(batch.flow // 2, most)
        self._tell_flow(batch, reply)
        return True

    def _tell_flow(self, batch: FastBatch, reply: bytes) -> None:
        self._answer(reply, {"type": "ack", "seq": batch.answered, "msgs": batch.flow})

    def _tell_gap(self, reply: bytes, expected: int, met: int) -> None:
        self._answer(reply, {"type": "gap", "last_seq": expected, "seq": met})

    def _answer(self, reply: bytes, members: dict[str, object]) -> None:
        self._send(reply, gojson.encode(members))

    def _send(self, reply: bytes, body: bytes) -> None:
        """Send an answer; a batch is answered even where single messages are not (no_ack)."""
        stream = self._publisher.stream
        if self._publisher.config.no_ack:
            stream.send_now(reply, body)
        else:
            stream.acknowledge(reply, body)
