"""Stream backups: written in nats-server's present format, read in that and in the one before 2.15.

Both lie in an S2 stream (framing.py); its first bytes tell which it is: entries.py or block_archive.py.
Memory is bounded by the longest message whatever the length of the archive.
"""

from collections.abc import Iterable, Iterator

from workers.jetstream.archive import entries, entry_codec
from workers.jetstream.archive.block_archive import BlockArchiveReader
from workers.jetstream.archive.entries import EntryReader
from workers.jetstream.archive.errors import ArchiveError
from workers.jetstream.archive.framing import FrameReader, FrameWriter
from workers.jetstream.archive.items import ConsumerRecord, Item

MESSAGES_PER_PIECE = 128


def write(
    state: bytes,
    created_ns: int,
    consumers: Iterable[ConsumerRecord],
    messages: Iterable[tuple[int, int, bytes, bytes, bytes]],
) -> Iterator[bytes]:
    """Yield an archive in pieces, some of them empty; the next one is made when it is asked for.

    A piece stands for a consumer, or for some 128 messages or 64 KiB at most, less than a millisecond's work.

    Args:
        state: the StreamState as JSON; its `consumer_count` is the number of `consumers`.
        created_ns: the backup's time, Unix ns.
        messages: (sequence, timestamp_ns, subject, headers, payload), by sequence; taken as they are needed.
    """
    frames = FrameWriter()
    yield from frames.write(entries.MAGIC)
    yield from frames.write(entry_codec.encode(entries.STATE_NAME.encode(), created_ns, 0, b"", state))
    for consumer in consumers:
        name = (entries.CONSUMER_PREFIX + consumer.name).encode()
        yield from frames.write(entry_codec.encode(name, created_ns, 0, b"", consumer.definition))
        yield b""
    for count, (sequence, timestamp_ns, subject, headers, payload) in enumerate(messages, 1):
        yield from frames.write(entry_codec.encode(subject, timestamp_ns, sequence, headers, payload))
        if count % MESSAGES_PER_PIECE == 0:
            yield b""
    yield from frames.write(entries.END)
    yield frames.finish()


class ArchiveReader:
    """The bytes of an archive, in pieces of any size → what they say."""

    def __init__(self, name: str, *, message_bytes_max: int) -> None:
        """Begin.

        Args:
            name: the stream to be restored; the older format belongs to one name.
            message_bytes_max: headers and payload of a message together; a longer one is refused.
        """
        self._name = name
        self._message_bytes_max = message_bytes_max
        self._frames = FrameReader()
        self._head = b""
        self._reader: EntryReader | BlockArchiveReader | None = None

    def feed(self, data: bytes) -> Iterator[Item]:
        """Yield what is complete now; exhaust it before the next call.

        Raises:
            ArchiveError: this is no archive, or it is damaged.
        """
        if self._reader is not None and self._reader.is_complete:
            return
        for content in self._frames.feed(data):
            if self._reader is not None:
                yield from self._reader.feed(content)
            else:
                self._head += content
                if len(self._head) < len(entries.MAGIC):
                    continue
                self._reader = self._choose()
                yield from self._reader.feed(self._head)
            if self._reader.is_complete:
                return

    def finish(self) -> None:
        """Say that no more comes.

        Raises:
            ArchiveError: the archive is not whole.
        """
        if self._reader is not None and self._reader.is_complete:
            return
        self._frames.finish()
        if self._reader is None:
            raise ArchiveError("unexpected EOF" if self._head else "EOF")
        self._reader.finish()

    def _choose(self) -> EntryReader | BlockArchiveReader:
        if self._head.startswith(entries.MAGIC):
            return EntryReader(message_bytes_max=self._message_bytes_max)
        return BlockArchiveReader(self._name, message_bytes_max=self._message_bytes_max)
