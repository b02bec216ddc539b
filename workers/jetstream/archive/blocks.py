"""nats-server's message blocks, read: records one after the other.

    record    4 bytes length of all (highest bit: has headers), 8 bytes sequence, 8 bytes Unix ns,
              2 bytes length of the subject, subject, [4 bytes length of the headers, headers,] payload,
              8 bytes HighwayHash of sequence, time, subject, headers and payload
    sequence  bit 63: this message is deleted; bit 62: the message of that sequence, told before, is deleted;
              0: an erased message of older servers
    key       of the hash: SHA-256 of "<stream>-<number of the block>"

Numbers are little-endian. Source: nats-server server/filestore.go.
"""

import hashlib
import struct
from collections.abc import Iterator

from workers.jetstream.archive.errors import ArchiveError
from workers.jetstream.archive.highwayhash import hash64
from workers.jetstream.archive.items import ArchivedMessage, Deleted

HEADER = struct.Struct("<IQqH")
HAS_HEADERS = 1 << 31
ERASED, TOMBSTONE = 1 << 63, 1 << 62
CHECKSUM_BYTES = 8
# What nats-server itself takes for damage.
RECORD_BYTES_MAX = 32 << 20


class BlockReader:
    """The bytes of the blocks of one stream, one block after the other; holds one record at most."""

    def __init__(self, name: str, *, message_bytes_max: int) -> None:
        self._name = name
        self._message_bytes_max = message_bytes_max
        self._key = b""
        self._buffer = bytearray()
        self._what = ""
        self.last_sequence = 0

    def begin(self, index: int) -> None:
        """Begin the block with this number."""
        self._key = hashlib.sha256(f"{self._name}-{index}".encode()).digest()
        self._what = f"message block {index}"

    def feed(self, data: bytes) -> Iterator[ArchivedMessage | Deleted]:
        """Yield what is complete now.

        Raises:
            ArchiveError: the block is damaged.
        """
        self._buffer += data
        at = 0
        try:
            while len(self._buffer) - at >= HEADER.size:
                (length,) = struct.unpack_from("<I", self._buffer, at)
                length &= HAS_HEADERS - 1
                if not HEADER.size + CHECKSUM_BYTES <= length <= RECORD_BYTES_MAX:
                    raise ArchiveError(f"{self._what}: record of {length} bytes")
                if len(self._buffer) - at < length:
                    return
                record = bytes(self._buffer[at : at + length])
                at += length
                item = self._item(record)
                if item is not None:
                    yield item
        finally:
            del self._buffer[:at]

    def end(self) -> None:
        """End the block.

        Raises:
            ArchiveError: it ends within a record.
        """
        if self._buffer:
            raise ArchiveError(f"{self._what}: ends within a record")

    def _item(self, record: bytes) -> ArchivedMessage | Deleted | None:
        length, sequence, timestamp_ns, subject_size = HEADER.unpack_from(record)
        subject_end = headers_at = HEADER.size + subject_size
        end = len(record) - CHECKSUM_BYTES
        headers_size = 0
        if length & HAS_HEADERS:
            headers_at += 4
            if headers_at <= end:
                (headers_size,) = struct.unpack_from("<I", record, subject_end)
        if headers_at + headers_size > end:
            raise ArchiveError(f"{self._what}: record shorter than its parts")
        if end - headers_at > self._message_bytes_max:
            raise ArchiveError(f"message sequence {sequence} exceeds maximum payload size")
        subject = record[HEADER.size : subject_end]
        summed = record[4:20] + subject + record[headers_at:end]
        if hash64(self._key, summed) != int.from_bytes(record[end:], "little"):
            raise ArchiveError(f"{self._what}: invalid checksum")
        number = sequence & ~(ERASED | TOMBSTONE)
        if sequence & TOMBSTONE:
            was_told = number <= self.last_sequence
            self.last_sequence = max(self.last_sequence, number)
            return Deleted(number) if was_told else None
        if number <= self.last_sequence:
            return None
        self.last_sequence = number
        if sequence & ERASED or not subject:
            return None
        headers = record[headers_at : headers_at + headers_size]
        return ArchivedMessage(
            number, timestamp_ns, subject, headers, record[headers_at + headers_size : end]
        )
