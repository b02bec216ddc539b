"""The archive format of nats-server before 2.15: a tar file of what a stream's directory holds.

    meta.inf            JSON of the StreamConfig and `Created`
    meta.sum            HighwayHash of that in hex, keyed by SHA-256 of the stream's name
    msgs/<number>.blk   messages, see blocks.py
    msgs/index.db       1 byte 11, 1 byte version, uvarints messages, bytes, first sequence, varint first
                        time, uvarint last sequence, and more that the blocks say too
    obs/<consumer>/…    meta.inf, meta.sum, o.dat: consumers, see consumer_files.py

Bytes come in pieces, so tarfile, which reads by itself, only takes its headers apart. Source: nats-server
server/filestore.go, streamSnapshot.
"""

import hashlib
import tarfile
from collections.abc import Iterator

import orjson

from workers.jetstream.archive.blocks import BlockReader
from workers.jetstream.archive.consumer_files import consumer_record, created_ns
from workers.jetstream.archive.entries import DOCUMENT_BYTES_MAX, read_uvarint
from workers.jetstream.archive.errors import ArchiveError
from workers.jetstream.archive.highwayhash import hash64
from workers.jetstream.archive.items import Bounds, Item, StreamFacts

TAR_BLOCK = 512
META, META_SUM = "meta.inf", "meta.sum"
INDEX_HEAD_BYTES = 2 + 6 * 10
INDEX_MAGIC = 11
TRUNCATED = "unexpected EOF"


class BlockArchiveReader:
    """The bytes of such a tar file → what they say; holds one record or small file at most."""

    def __init__(self, name: str, *, message_bytes_max: int) -> None:
        """Begin; `name` is the stream's, as the archive must say too."""
        self._name = name
        self._buffer = bytearray()
        self._blocks = BlockReader(name, message_bytes_max=message_bytes_max)
        self._path = ""
        self._left = 0  # bytes of the present file that have not come
        self._padding = 0  # and those that fill its last block up
        self._collected = bytearray()
        self._meta = b""
        self._first = self._last = 0
        self._consumers: dict[str, dict[str, bytes]] = {}
        self.is_complete = False

    def feed(self, data: bytes) -> Iterator[Item]:
        """Yield what is complete now.

        Raises:
            ArchiveError: this is not such an archive, or it is damaged.
        """
        self._buffer += data
        while not self.is_complete:
            if self._left:
                piece = bytes(self._buffer[: self._left])
                if not piece:
                    return
                del self._buffer[: len(piece)]
                self._left -= len(piece)
                yield from self._piece(piece)
                if not self._left:
                    yield from self._file_end()
            elif self._padding:
                if len(self._buffer) < self._padding:
                    return
                del self._buffer[: self._padding]
                self._padding = 0
            elif len(self._buffer) < TAR_BLOCK:
                return
            else:
                head = bytes(self._buffer[:TAR_BLOCK])
                del self._buffer[:TAR_BLOCK]
                yield from self._header(head)

    def finish(self) -> None:
        """Raise ArchiveError if the end has not come."""
        if not self.is_complete:
            raise ArchiveError(TRUNCATED)

    def _header(self, head: bytes) -> Iterator[Item]:
        if not any(head):
            yield from self._archive_end()
            return
        try:
            info = tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError) as error:
            raise ArchiveError(f"archive/tar: invalid tar header: {error}") from error
        if info.size < 0 or info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.XHDTYPE):
            raise ArchiveError("unexpected content")
        # A header of its own before a file tells its times more finely; names here are short enough for one.
        self._path = "" if info.type == tarfile.XHDTYPE else info.name.replace("\\", "/")
        self._left, self._padding = info.size, -info.size % TAR_BLOCK
        self._collected.clear()
        if self._block_number() is not None:
            if not self._meta:
                raise ArchiveError(f"{self._path} comes before {META}")
            self._blocks.begin(self._block_number() or 0)
        elif info.size > DOCUMENT_BYTES_MAX and self._path != "msgs/index.db":
            raise ArchiveError(f"{self._path} of {info.size} bytes")
        if not self._left:
            yield from self._file_end()

    def _block_number(self) -> int | None:
        folder, _, file = self._path.partition("/")
        number = file.removesuffix(".blk")
        return int(number) if folder == "msgs" and number != file and number.isdecimal() else None

    def _piece(self, piece: bytes) -> Iterator[Item]:
        if self._block_number() is not None:
            yield from self._blocks.feed(piece)
        elif self._path != "msgs/index.db" or len(self._collected) < INDEX_HEAD_BYTES:
            self._collected += piece

    def _file_end(self) -> Iterator[Item]:
        parts = self._path.split("/")
        content = bytes(self._collected)
        if self._block_number() is not None:
            self._blocks.end()
        elif self._path == META:
            self._meta = content
            yield self._facts(content)
        elif self._path == META_SUM:
            key = hashlib.sha256(self._name.encode()).digest()
            expected = hash64(key, self._meta).to_bytes(8, "little").hex().encode()
            if content.strip() != expected:
                raise ArchiveError(f"{META}: invalid checksum")
        elif self._path == "msgs/index.db":
            self._read_index(content)
        elif parts[0] == "obs" and len(parts) == 3:
            self._consumers.setdefault(parts[1], {})[parts[2]] = content
            yield from self._consumer_end(parts[1], is_last=parts[2] == "o.dat")

    def _consumer_end(self, name: str, *, is_last: bool) -> Iterator[Item]:
        files = self._consumers[name]
        if is_last and META in files and META_SUM in files:
            del self._consumers[name]
            yield consumer_record(name, files[META], files.get("o.dat", b""))

    def _archive_end(self) -> Iterator[Item]:
        if not self._meta:
            raise ArchiveError(f"no {META}")
        for name in list(self._consumers):
            yield from self._consumer_end(name, is_last=True)
        for name, files in self._consumers.items():
            raise ArchiveError(
                f'error restoring consumer ["{name}"]: no {META_SUM if META in files else META}'
            )
        self.is_complete = True
        yield Bounds(self._first, max(self._last, self._blocks.last_sequence))

    def _facts(self, meta: bytes) -> StreamFacts:
        try:
            config = orjson.loads(meta)
        except orjson.JSONDecodeError as error:
            raise ArchiveError(f"{META}: {error}") from error
        if not isinstance(config, dict) or config.get("name") != self._name:
            raise ArchiveError("stream names do not match")
        return StreamFacts(0, 0, 0, meta, created_ns(config))

    def _read_index(self, head: bytes) -> None:
        """Take the first and last sequence; an unknown version costs only what limits took from the front."""
        if len(head) < 2 or head[0] != INDEX_MAGIC:
            return
        numbers = []
        at = 2
        try:
            for _ in range(5):
                value, at = read_uvarint(head, at)
                numbers.append(value)
        except IndexError:
            return
        self._first, self._last = numbers[2], numbers[4]
