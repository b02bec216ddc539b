"""The checkpoint of one stream: what a start needs and no log says shortly. Rebuildable from the logs alone.

Two files, `state.a` and `state.b`, are written in turn, each whole and synced; the newer one that passes its
checks counts, so a crash or a flipped bit in one leaves the other. Little-endian:

    offset size
     0      8   "MIDGECKP"
     8      4   version, 1
    12      4   CRC32C of the body
    16      8   generation: the greater is newer
    24      8   journal position: everything below is in the logs, synced
    32      8   bytes of the body
    40      4   1: the body is sealed by the stream's codec (it holds subjects)
    44      4   CRC32C of bytes 0 .. 44
    48      …   body: COUNTERS, then lists of SEGMENT (each followed by its dead bitmap and, when it has no
                sidecar, its columns), lost (sequence, bytes), expiries (time, sequence), then the subject
                table
"""

import struct
from dataclasses import dataclass

from storage.errors import FileDamaged
from storage.record import checksum

MAGIC = b"MIDGECKP"
VERSION = 1
HEADER = struct.Struct("<8sIIQQQI")
HEADER_BYTES = HEADER.size + 4
# first, last, messages, bytes, last time, next file number, control log number, its end, its salt, then four
# counts
COUNTERS = struct.Struct("<QQQQqQQQIIIIQ")
SEGMENT = struct.Struct("<QQQQqQIIIIQ")
PAIR = struct.Struct("<QQ")
# Flags of a segment: its columns are in the sidecar; no message of it has an id.
HAS_SIDECAR = 1
NO_IDS = 2


@dataclass(slots=True)
class SegmentState:
    """One segment in a checkpoint; `columns` is b"" when the sidecar has them."""

    number: int
    base: int
    end: int
    live_bytes: int
    last_timestamp: int
    salt: int
    rows: int
    live: int
    has_sidecar: bool
    has_ids: bool
    dead: bytes
    columns: bytes


@dataclass(slots=True)
class Checkpoint:
    """Everything in a checkpoint; `counters` as StreamStore.restore_state takes them."""

    generation: int
    position: int
    counters: tuple[int, int, int, int, int]
    next_number: int
    control_number: int
    control_end: int
    control_salt: int
    segments: list[SegmentState]
    lost: dict[int, int]
    expiries: list[tuple[int, int]]
    subjects: bytes


def encode_body(state: Checkpoint) -> bytes:
    """Return the body."""
    parts = [
        COUNTERS.pack(
            *state.counters,
            state.next_number,
            state.control_number,
            state.control_end,
            state.control_salt,
            len(state.segments),
            len(state.lost),
            len(state.expiries),
            len(state.subjects),
        )
    ]
    for one in state.segments:
        parts.append(
            SEGMENT.pack(
                one.number,
                one.base,
                one.end,
                one.live_bytes,
                one.last_timestamp,
                one.has_sidecar | (0 if one.has_ids else NO_IDS),
                one.salt,
                one.rows,
                one.live,
                len(one.dead),
                len(one.columns),
            )
        )
        parts += (one.dead, one.columns)
    parts += (PAIR.pack(*pair) for pair in state.lost.items())
    parts += (PAIR.pack(*pair) for pair in state.expiries)
    parts.append(state.subjects)
    return b"".join(parts)


def encode(generation: int, position: int, body: bytes, *, is_sealed: bool) -> bytes:
    """Return a whole checkpoint file with this body."""
    header = HEADER.pack(MAGIC, VERSION, checksum(body), generation, position, len(body), is_sealed)
    return header + checksum(header).to_bytes(4, "little") + body


def decode_header(data: bytes, path: str) -> tuple[int, int, bytes, bool]:
    """Return (generation, position, body, whether it is sealed).

    Raises:
        FileDamaged: it does not pass its checks.
    """
    header = data[: HEADER.size]
    if len(data) < HEADER_BYTES or checksum(header).to_bytes(4, "little") != data[HEADER.size : HEADER_BYTES]:
        raise FileDamaged(f"{path}: the header does not pass its checks")
    magic, version, crc, generation, position, size, is_sealed = HEADER.unpack(header)
    body = data[HEADER_BYTES : HEADER_BYTES + size]
    if magic != MAGIC or version != VERSION:
        raise FileDamaged(f"{path}: {magic!r} version {version}, this program reads {MAGIC!r} {VERSION}")
    if len(body) != size or checksum(body) != crc:
        raise FileDamaged(f"{path}: the body does not pass its checks")
    return generation, position, body, bool(is_sealed)


def decode_body(generation: int, position: int, body: bytes) -> Checkpoint:
    """Return what `encode_body` packed; the caller has checked the CRC."""
    fields = COUNTERS.unpack_from(body)
    at = COUNTERS.size
    segments_count, lost_count, expiries_count, subjects_bytes = fields[9:]
    segments = []
    for _ in range(segments_count):
        number, base, end, live_bytes, last, flags, salt, rows, live, dead_bytes, columns_bytes = (
            SEGMENT.unpack_from(body, at)
        )
        at += SEGMENT.size
        dead = body[at : at + dead_bytes]
        at += dead_bytes
        columns = body[at : at + columns_bytes]
        at += columns_bytes
        segments.append(
            SegmentState(
                number,
                base,
                end,
                live_bytes,
                last,
                salt,
                rows,
                live,
                bool(flags & HAS_SIDECAR),
                not flags & NO_IDS,
                dead,
                columns,
            )
        )
    pairs = list(PAIR.iter_unpack(body[at : at + PAIR.size * (lost_count + expiries_count)]))
    at += PAIR.size * len(pairs)
    return Checkpoint(
        generation,
        position,
        fields[:5],
        fields[5],
        fields[6],
        fields[7],
        fields[8],
        segments,
        dict(pairs[:lost_count]),
        pairs[lost_count:],
        body[at : at + subjects_bytes],
    )
