"""The framing format around S2 and Snappy blocks, as a stream in both directions.

    frame         1 byte kind, 3 bytes length of the rest
    kind 0xff     "S2sTwO" or "sNaPpY": a stream begins; comes first, may come again
    kind 0x00     4 bytes checksum of the content, then a block (see s2.pyx)
    kind 0x01     4 bytes checksum, then the content itself
    kind 0x80..   skipped (padding, indexes); all others are refused

Numbers are little-endian; the checksum is a masked CRC32C.
"""

from collections.abc import Iterator

from workers.jetstream.archive import s2
from workers.jetstream.archive.errors import ArchiveError

STREAM_START = b"\xff\x06\x00\x00S2sTwO"
IDENTIFIERS = (b"S2sTwO", b"sNaPpY")
COMPRESSED, UNCOMPRESSED, SKIPPABLE, IDENTIFIER = 0x00, 0x01, 0x80, 0xFF
# Content of one frame when writing: some 80 us of work.
FRAME_CONTENT_BYTES = 65536
# The longest content an S2 writer makes.
CONTENT_BYTES_MAX = 4 << 20
FRAME_BYTES_MAX = CONTENT_BYTES_MAX + CONTENT_BYTES_MAX // 6 + 64
CORRUPT = "s2: corrupt input"


class FrameWriter:
    """Bytes → frames."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._begun = False

    def write(self, data: bytes) -> Iterator[bytes]:
        """Yield the frames that are full now."""
        self._pending += data
        while len(self._pending) >= FRAME_CONTENT_BYTES:
            content = bytes(self._pending[:FRAME_CONTENT_BYTES])
            del self._pending[:FRAME_CONTENT_BYTES]
            yield self._frame(content)

    def finish(self) -> bytes:
        """Return the last frame, or nothing."""
        content, self._pending = bytes(self._pending), bytearray()
        return self._frame(content) if content or not self._begun else b""

    def _frame(self, content: bytes) -> bytes:
        start = b"" if self._begun else STREAM_START
        self._begun = True
        if not content:
            return start
        body, kind = s2.compress_block(content), COMPRESSED
        if len(body) > len(content) - len(content) // 8:
            body, kind = content, UNCOMPRESSED
        head = (kind | (len(body) + 4) << 8).to_bytes(4, "little")
        return start + head + s2.checksum(content).to_bytes(4, "little") + body


class FrameReader:
    """Frames → bytes; holds one frame at most."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._needed = 4
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the contents that are complete now.

        Raises:
            ArchiveError: this is not the format, or it is damaged.
        """
        self._buffer += data
        while len(self._buffer) >= self._needed:
            kind = self._buffer[0]
            length = int.from_bytes(self._buffer[1:4], "little")
            if not self._begun and (kind != IDENTIFIER or length != 6):
                raise ArchiveError(CORRUPT)
            if length > FRAME_BYTES_MAX and kind < SKIPPABLE:
                raise ArchiveError(f"{CORRUPT}: frame of {length} bytes")
            self._needed = 4 + length
            if len(self._buffer) < self._needed:
                return
            body = bytes(self._buffer[4 : self._needed])
            del self._buffer[: self._needed]
            self._needed = 4
            content = self._content(kind, body)
            if content:
                yield content

    def finish(self) -> None:
        """Raise ArchiveError if the input ends within a frame."""
        if self._buffer:
            raise ArchiveError(CORRUPT)

    def _content(self, kind: int, body: bytes) -> bytes:
        if kind == IDENTIFIER:
            if body not in IDENTIFIERS:
                raise ArchiveError(CORRUPT)
            self._begun = True
            return b""
        if kind >= SKIPPABLE:
            return b""
        if kind not in (COMPRESSED, UNCOMPRESSED) or len(body) < 4:
            raise ArchiveError(f"{CORRUPT}: frame of kind {kind} and {len(body)} bytes")
        content = body[4:]
        if kind == COMPRESSED:
            try:
                content = s2.decompress_block(content, CONTENT_BYTES_MAX)
            except ValueError as error:
                raise ArchiveError(f"{CORRUPT}: {error}") from error
        if s2.checksum(content) != int.from_bytes(body[:4], "little"):
            raise ArchiveError(f"{CORRUPT}, crc mismatch")
        return content
