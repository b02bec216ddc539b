"""nats-server's older backups, built byte by byte from the drawings in workers/jetstream/archive."""

import hashlib
import io
import struct
import tarfile

from workers.jetstream.archive.framing import FrameWriter
from workers.jetstream.archive.highwayhash import hash64

ERASED, TOMBSTONE = 1 << 63, 1 << 62


def hashed(key: str, data: bytes) -> bytes:
    return struct.pack("<Q", hash64(hashlib.sha256(key.encode()).digest(), data))


def record(
    stream: str, index: int, sequence: int, timestamp_ns: int, subject: bytes, headers: bytes, payload: bytes
) -> bytes:
    """One record of a message block."""
    body = struct.pack("<I", len(headers)) + headers if headers else b""
    length = 22 + len(subject) + len(body) + len(payload) + 8
    numbers = struct.pack("<Qq", sequence, timestamp_ns)
    return b"".join(
        (
            struct.pack("<I", length | (1 << 31 if headers else 0)),
            numbers,
            struct.pack("<H", len(subject)),
            subject,
            body,
            payload,
            hashed(f"{stream}-{index}", numbers + subject + headers + payload),
        )
    )


def tar(files: dict[str, bytes]) -> bytes:
    """A tar file as nats-server makes it: times in headers of their own."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.uname = len(content), 1.5, "nats"  # type: ignore[assignment]
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def framed(content: bytes) -> bytes:
    """The S2 stream of some bytes."""
    frames = FrameWriter()
    return b"".join(frames.write(content)) + frames.finish()
