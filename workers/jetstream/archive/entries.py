"""The archive format of nats-server since 2.15: entries one after the other.

    archive   "NATSARC1", then entries
    entry     uvarint length of the name, varint timestamp (Unix ns), uvarint sequence, uvarint length of the
              headers, uvarint length of the payload, name, headers, payload
    order     "state.json": the StreamState; as many "consumers/<name>" as it counts, JSON of `config` and
              `state` each; the messages by sequence, named by their subjects; an entry whose fields are all 0

Varints are those of protocol buffers, seven bits a byte from the lowest; signed ones are zigzag.
Source: nats-server server/archive/archive.go, server/stream_backup.go.
"""

from collections.abc import Iterator

import orjson

from workers.jetstream.archive import entry_codec
from workers.jetstream.archive.errors import ArchiveError
from workers.jetstream.archive.items import ArchivedMessage, Bounds, ConsumerRecord, Item, StreamFacts

MAGIC = b"NATSARC1"
STATE_NAME = "state.json"
CONSUMER_PREFIX = "consumers/"
# The longest subject that storage keeps.
NAME_BYTES_MAX = 0xFFFF
# A consumer with 100,000 pending messages takes some 7 MB.
DOCUMENT_BYTES_MAX = 64 << 20
INVALID = "archive: invalid archive stream"
UINT64_MAX = (1 << 64) - 1
# Storage counts in signed numbers.
SEQUENCE_MAX = (1 << 63) - 1


def read_uvarint(buffer: bytes | bytearray, at: int) -> tuple[int, int]:
    """Return the varint at `at` and where it ends.

    Raises:
        IndexError: it is not whole. ArchiveError: it is longer than 64 bits.
    """
    byte = buffer[at]
    at += 1
    value = byte & 0x7F
    shift = 7
    while byte >= 0x80:
        byte = buffer[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if shift > 70:
            break
    if value > UINT64_MAX or byte >= 0x80:
        raise ArchiveError(f"{INVALID}: number of more than 64 bits")
    return value, at


END = entry_codec.encode(b"", 0, 0, b"", b"")


class EntryReader:
    """The bytes of an archive → what they say; holds one entry at most."""

    def __init__(self, *, message_bytes_max: int) -> None:
        """Begin before the magic.

        Args:
            message_bytes_max: headers and payload together; a longer message is refused.
        """
        self._message_bytes_max = message_bytes_max
        self._buffer = bytearray()
        self._needed = len(MAGIC)
        self._magic_seen = False
        self._facts: StreamFacts | None = None
        self._consumers_left = 0
        self._last = 0
        self.is_complete = False

    def feed(self, data: bytes) -> Iterator[Item]:
        """Yield what is complete now.

        Raises:
            ArchiveError: this is not such an archive.
        """
        if self.is_complete:
            # nats-server ignores what follows the end, too.
            return
        self._buffer += data
        at = 0
        try:
            if not self._magic_seen:
                if len(self._buffer) < len(MAGIC):
                    return
                if self._buffer[: len(MAGIC)] != MAGIC:
                    raise ArchiveError(INVALID)
                self._magic_seen, at = True, len(MAGIC)
                self._needed = 0
            while not self.is_complete and len(self._buffer) >= at + self._needed:
                taken = self._take(at)
                if taken is None:
                    return
                item, at = taken
                yield item
        finally:
            del self._buffer[:at]

    def finish(self) -> None:
        """Raise ArchiveError if the end has not come."""
        if not self.is_complete:
            raise ArchiveError(INVALID if self._buffer else "EOF")

    def _take(self, at: int) -> tuple[Item, int] | None:
        """Return the entry at `at` and where it ends, or None: it is not whole, `_needed` says how long."""
        buffer, start = self._buffer, at
        try:
            head = entry_codec.decode_head(buffer, at)
        except ValueError as error:
            raise ArchiveError(f"{INVALID}: {error}") from error
        if head is None:
            self._needed = len(buffer) - start + 1
            return None
        name_size, timestamp_ns, sequence, headers_size, payload_size, at = head
        size_max = self._message_bytes_max if sequence else DOCUMENT_BYTES_MAX
        if name_size > NAME_BYTES_MAX:
            raise ArchiveError(f"{INVALID}: name of {name_size} bytes")
        if headers_size + payload_size > size_max:
            raise ArchiveError(
                f"message sequence {sequence} exceeds maximum payload size"
                if sequence
                else f"{INVALID}: entry of {headers_size + payload_size} bytes"
            )
        end = at + name_size + headers_size + payload_size
        if end > len(buffer):
            self._needed = end - start
            return None
        self._needed = 0
        name, headers, payload = entry_codec.split(buffer, at, name_size, headers_size, payload_size)
        if sequence and self._facts is not None and not self._consumers_left:
            return self._message(sequence, timestamp_ns, name, headers, payload), end
        if self._facts is not None and not self._consumers_left:
            if timestamp_ns or headers_size or payload_size:
                raise ArchiveError("expected message sequence")
            self.is_complete = True
            return Bounds(self._facts.first_sequence, max(self._facts.last_sequence, self._last)), end
        return self._document(name.decode("utf-8", "replace"), headers + payload), end

    def _message(
        self, sequence: int, timestamp_ns: int, subject: bytes, headers: bytes, payload: bytes
    ) -> Item:
        if not self._last < sequence <= SEQUENCE_MAX:
            raise ArchiveError(f"message sequence {sequence} out of order")
        if not subject:
            raise ArchiveError(f"message sequence {sequence} has no subject")
        self._last = sequence
        return ArchivedMessage(sequence, timestamp_ns, subject, headers, payload)

    def _document(self, name: str, body: bytes) -> Item:
        """Return what comes before the messages."""
        if self._facts is None:
            if name != STATE_NAME:
                raise ArchiveError(f"expected {STATE_NAME} first")
            self._facts = facts = state_facts(body)
            self._consumers_left, self._last = facts.consumer_count, max(facts.first_sequence, 1) - 1
            return facts
        if not name.startswith(CONSUMER_PREFIX):
            raise ArchiveError(f'expected consumer, found "{name}"')
        self._consumers_left -= 1
        return ConsumerRecord(name.removeprefix(CONSUMER_PREFIX), body)


def state_facts(body: bytes) -> StreamFacts:
    """Return what a StreamState in JSON says.

    Raises:
        ArchiveError: it is none.
    """
    try:
        state = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ArchiveError(f"error in {STATE_NAME}: {error}") from error
    if not isinstance(state, dict):
        raise ArchiveError(f"error in {STATE_NAME}: not an object")
    numbers = [state.get(key, 0) for key in ("first_seq", "last_seq", "consumer_count")]
    if type(numbers[2]) is int and numbers[2] < 0:
        raise ArchiveError("invalid stream state: negative consumer count")
    if not all(type(number) is int and 0 <= number <= SEQUENCE_MAX for number in numbers):
        raise ArchiveError(f"error in {STATE_NAME}: {numbers} are not numbers")
    return StreamFacts(numbers[0], numbers[1], numbers[2], b"")
