"""The control log of one stream: its definition and its consumers. It knows nothing of messages.

A log file (record.pyx draws header and records) of kind 2. A file begins with a whole state, closed by
SNAPSHOT_END, and goes on with changes; when it has grown well beyond its state, the next file takes its
place. A file without SNAPSHOT_END
was never finished: the one before it counts.

    kind                  sequence         subject   headers                    payload
    16 DEFINITION         –                –         JSON: name, limits, codec  the caller's definition
    17 CONSUMER           consumer number  name      ack policy, one byte       the caller's definition
    18 CONSUMER_STATE     consumer number  –         –                          ConsumerStore.export
    19 CONSUMER_CHANGES   consumer number  –         –                          ConsumerStore.take_changes
    20 CONSUMER_GONE      consumer number  –         –                          –
    21 SNAPSHOT_END       –                –         –                          –

The definition is written twice, so that one damaged record does not cost a stream its name. Definitions of
encrypted streams are sealed by the codec; names are not.
"""

from typing import Protocol

from storage import record
from storage.consumer import ConsumerStore
from storage.errors import FileDamaged
from storage.log import LogFile

DEFINITION = 16
CONSUMER = 17
CONSUMER_STATE = 18
CONSUMER_CHANGES = 19
CONSUMER_GONE = 20
SNAPSHOT_END = 21

# A control log is rewritten when it passes this and four times its state.
REWRITE_BYTES = 1 << 20


class Sealer(Protocol):
    """Encrypts small values; see storage/codec.py."""

    def seal_blob(self, data: bytes) -> bytes:
        """Return `data` encrypted."""

    def open_blob(self, data: bytes) -> bytes:
        """Return what seal_blob was given.

        Raises:
            KeyRequired: another key.
        """


class ControlLog:
    """A stream's definition and consumers, and the log that keeps them."""

    def __init__(self, changed: list[ConsumerStore]) -> None:
        """Hold nothing yet; `changed` is the store's list of consumers whose changes go to their log before
        a commit."""
        self.log: LogFile | None = None
        self.sealer: Sealer | None = None
        self.envelope = b""
        self.definition = b""
        self.consumers: dict[str, ConsumerStore] = {}
        self.state_bytes = 0
        self._next_consumer = 1
        self._changed = changed

    def _sealed(self, data: bytes) -> bytes:
        return self.sealer.seal_blob(data) if self.sealer else data

    def _write(
        self, kind: int, sequence: int = 0, subject: bytes = b"", headers: bytes = b"", payload: bytes = b""
    ) -> None:
        log = self.log
        assert log is not None
        log.append(record.encode(kind, sequence, 0, subject, headers, payload, log.salt, log.end))

    def begin(self, log: LogFile) -> None:
        """Write the whole state into a new log, which takes the place of the old one."""
        self.log = log
        for _ in range(2):
            self._write(DEFINITION, headers=self.envelope, payload=self._sealed(self.definition))
        for consumer in self.consumers.values():
            self._write_consumer(consumer)
            self.keep_state(consumer)
        self._write(SNAPSHOT_END)
        self.state_bytes = log.end

    def _write_consumer(self, consumer: ConsumerStore) -> None:
        policy = bytes([consumer.ack_policy])
        name = consumer.name.encode()
        self._write(CONSUMER, consumer.number, name, policy, self._sealed(consumer.definition))

    @property
    def wants_rewrite(self) -> bool:
        """Whether the log has grown well beyond the state that it keeps."""
        return self.log is not None and self.log.end > max(REWRITE_BYTES, 4 * self.state_bytes)

    def define(self, envelope: bytes, definition: bytes) -> None:
        """Change the stream's definition."""
        self.envelope, self.definition = envelope, definition
        for _ in range(2):
            self._write(DEFINITION, headers=envelope, payload=self._sealed(definition))

    def add_consumer(self, name: str, ack_policy: int, definition: bytes) -> ConsumerStore:
        """Make a consumer that has seen nothing, or change the definition of the one with this name."""
        consumer = self.consumers.get(name)
        if consumer is None:
            consumer = ConsumerStore(name, self._next_consumer, ack_policy, definition, self._changed, self)
            self._next_consumer += 1
            self.consumers[name] = consumer
        consumer.definition = definition
        self._write_consumer(consumer)
        return consumer

    def keep_state(self, consumer: ConsumerStore) -> None:
        """Write a consumer's whole state, as `ConsumerStore.set_state` changed it."""
        consumer.take_changes()
        self._write(CONSUMER_STATE, consumer.number, payload=consumer.export())

    def remove_consumer(self, name: str) -> bool:
        """Forget a consumer; False: there is none of this name."""
        consumer = self.consumers.pop(name, None)
        if consumer is None:
            return False
        consumer.take_changes()
        self._write(CONSUMER_GONE, consumer.number)
        return True

    def write_changes(self, consumer: ConsumerStore) -> None:
        """Put what a consumer noted since the last time into the log."""
        changes = consumer.take_changes()
        if changes:
            self._write(CONSUMER_CHANGES, consumer.number, payload=changes)

    def replay(self, data: bytes, start: int, salt: int, path: str) -> tuple[int, list[str], bool]:
        """Apply the records of a control log to an empty state.

        Returns:
            (offset behind the last whole record, what was damaged in words, whether SNAPSHOT_END was there).
        """
        damage: list[str] = []
        by_number: dict[int, ConsumerStore] = {}
        complete = False
        at = 0
        while at < len(data):
            one = record.decode(data, at, salt, start + at)
            if one is None:
                following = record.find_next(data, at + 8, salt, start, 0)
                damage.append(f"{path}: bytes {start + at} to {start + following} do not pass their checks")
                at = following
                continue
            complete = complete or one.kind == SNAPSHOT_END
            self._apply(one, by_number)
            if one.kind == SNAPSHOT_END:
                self.state_bytes = start + at
            at += one.padded_bytes
        return start + at, damage, complete

    def _apply(self, one: record.Record, by_number: dict[int, ConsumerStore]) -> None:
        if one.kind == DEFINITION:
            self.envelope, self.definition = one.headers, one.payload
        elif one.kind == CONSUMER:
            known = by_number.get(one.sequence)
            if known is None:
                name = one.subject.decode()
                known = ConsumerStore(name, one.sequence, one.headers[0], one.payload, self._changed, self)
                self.consumers[name] = by_number[one.sequence] = known
            known.definition = one.payload
            self._next_consumer = max(self._next_consumer, one.sequence + 1)
        elif one.kind == CONSUMER_GONE:
            gone = by_number.pop(one.sequence, None)
            if gone is not None:
                del self.consumers[gone.name]
        elif one.sequence in by_number:
            if one.kind == CONSUMER_STATE:
                by_number[one.sequence].restore(one.payload)
            elif one.kind == CONSUMER_CHANGES:
                by_number[one.sequence].replay(one.payload)

    def unseal(self, sealer: Sealer, path: str) -> None:
        """Decrypt the definitions that `replay` left sealed.

        Raises:
            KeyRequired: another key.
        """
        self.sealer = sealer
        if not self.envelope:
            raise FileDamaged(f"{path}: no definition")
        self.definition = sealer.open_blob(self.definition)
        for consumer in self.consumers.values():
            consumer.definition = sealer.open_blob(consumer.definition)
