# cython: language_level=3, embedsignature=True, wraparound=False
"""One record, and the header of the log file that holds it, as bytes. THE FORMAT IS DRAWN HERE.

A log file is append-only: a header of 64 bytes, the same once more (without its salt no record could be
checked), then records, each at a multiple of 8. All numbers are little-endian.

    log file header                                   record
    offset size                                       offset size
     0      8   "MIDGELOG"                             0      4   crc: CRC32C of bytes 4 .. length
     8      2   version, 1                             4      4   length, from 0, without padding
    10      2   kind: 1 segment, 2 control log         8      8   sequence (meaning by kind, below)
    12      4   salt, random                          16      8   timestamp, Unix ns
    16      8   number of the file in its stream      24      2   length of the subject
    24      8   number of the stream's directory      26      1   kind
    32      8   first sequence the file may hold      27      1   flags
    40      8   created, Unix ns                      28      4   length of the headers
    48      8   number of the file it replaces, or 0  32      8   only with flag EXPIRES: Unix ns when it ends
    56      4   0                                      …          subject, headers, payload
    60      4   CRC32C of bytes 0 .. 60                …   0..7   zeros up to a multiple of 8

The CRC of a record starts from a seed made of the file's salt and the record's offset: whole, valid bytes
that lie in the wrong file or place (a recycled block, a lost write) do not pass. Flags: 1 EXPIRES; 2
COMPRESSED; 4 ENCRYPTED; 8 ERASED (the message was deleted and its bytes overwritten with zeros). A coded
record (2 or 4) has subject and headers lengths 0; its payload is what storage/codec.py made of all three.

    kind           sequence                      payload
    1 MESSAGE      the message's                 the message's
    2 TOMBSTONES   a base                        u32 each: base + it was deleted
    3 HEAD         the first that still stands   –
    4 SKIP         the last one now; those from the one before up to it hold nothing, on purpose
    5 TRUNCATE     the last that still stands; everything after it before this record is void
    6 DEAD_MAP     base of a segment             bitmap from that base: 1 = deleted (when older tombstones go)

The kinds from 16 on are those of control logs, see control.py.
"""

from typing import NamedTuple

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcpy, memset

from storage.errors import FileDamaged

crc32c_choose()

MAGIC = b"MIDGELOG"
VERSION = 1
RECORDS_AT = RECORDS_START
KIND_SEGMENT = 1
KIND_CONTROL = 2
KINDS = {
    "message": MESSAGE, "tombstones": TOMBSTONES, "head": HEAD, "skip": SKIP, "truncate": TRUNCATE,
    "dead_map": DEAD_MAP,
}
FLAG_EXPIRES = EXPIRES
FLAG_COMPRESSED = COMPRESSED
FLAG_ENCRYPTED = ENCRYPTED
FLAG_ERASED = ERASED


class LogHeader(NamedTuple):
    """The header of a log file."""

    kind: int
    salt: int
    number: int
    stream: int
    base_sequence: int
    created_ns: int
    replaces: int


class Record(NamedTuple):
    """One decoded record; `padded_bytes` is how far the next one lies."""

    kind: int
    flags: int
    sequence: int
    timestamp_ns: int
    expires_ns: int
    subject: bytes
    headers: bytes
    payload: bytes
    padded_bytes: int


def checksum(bytes data not None, uint32_t seed=0):
    """Return the CRC32C of `data`, going on from `seed`."""
    return crc32c(seed, <const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


def checksum_between(bytes data not None, Py_ssize_t start, Py_ssize_t stop, uint32_t seed=0):
    """Return the CRC32C of data[start:stop], which is not copied, going on from `seed`."""
    start, stop = max(start, 0), min(stop, PyBytes_GET_SIZE(data))
    return crc32c(seed, <const uint8_t *>PyBytes_AS_STRING(data) + start, max(stop - start, 0))


def encode_log_header(header):
    """Return the bytes of a LogHeader, both copies."""
    cdef log_header_t raw
    memset(&raw, 0, sizeof(raw))
    memcpy(raw.magic, PyBytes_AS_STRING(MAGIC), 8)
    raw.version = VERSION
    raw.kind, raw.salt, raw.number, raw.stream = header.kind, header.salt, header.number, header.stream
    raw.base_sequence, raw.created_ns, raw.replaces = header.base_sequence, header.created_ns, header.replaces
    raw.crc = crc32c(0, <uint8_t *>&raw, LOG_HEADER_BYTES - 4)
    return PyBytes_FromStringAndSize(<char *>&raw, LOG_HEADER_BYTES) * 2


def decode_log_header(bytes data not None, str path not None):
    """Return the LogHeader at the start of a file; one good copy is enough.

    Raises:
        FileDamaged: too short, not ours, another version, or the CRCs do not fit.
    """
    cdef log_header_t raw
    cdef Py_ssize_t copy
    if PyBytes_GET_SIZE(data) < RECORDS_START:
        raise FileDamaged(f"{path}: {len(data)} bytes, the headers have {RECORDS_START}")
    for copy in range(2):
        memcpy(&raw, PyBytes_AS_STRING(data) + copy * LOG_HEADER_BYTES, LOG_HEADER_BYTES)
        if crc32c(0, <uint8_t *>&raw, LOG_HEADER_BYTES - 4) != raw.crc or raw.magic[:8] != MAGIC:
            continue
        if raw.version != VERSION:
            raise FileDamaged(f"{path}: version {raw.version}, this program reads {VERSION}")
        return LogHeader(raw.kind, raw.salt, raw.number, raw.stream, raw.base_sequence, raw.created_ns,
                         raw.replaces)
    raise FileDamaged(f"{path}: begins with {data[:8]!r}, and no copy of the header passes its check")


def encode(int kind, uint64_t sequence, int64_t timestamp_ns, bytes subject not None, bytes headers not None,
           bytes payload not None, uint32_t salt, uint64_t offset, *, int flags=0, int64_t expires_ns=0):
    """Return one record with its padding, for the place `offset` in the file with `salt`.

    Raises:
        ValueError: a part is longer than the format can say.
    """
    cdef record_header_t header
    cdef Py_ssize_t fixed = HEADER_BYTES + (8 if expires_ns else 0)
    cdef Py_ssize_t length = fixed + len(subject) + len(headers) + len(payload)
    if len(subject) > 0xFFFF or length > 0x7FFFFFFF:
        raise ValueError(f"subject of {len(subject)} bytes in a record of {length} bytes")
    cdef bytes out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>record_padded(length))
    cdef uint8_t *start = <uint8_t *>PyBytes_AS_STRING(out)
    header.length, header.sequence, header.timestamp_ns = <uint32_t>length, sequence, timestamp_ns
    header.subject_length, header.headers_length = <uint16_t>len(subject), <uint32_t>len(headers)
    header.kind, header.flags = <uint8_t>kind, <uint8_t>(flags | (EXPIRES if expires_ns else 0))
    header.crc = 0
    memcpy(start, &header, HEADER_BYTES)
    if expires_ns:
        memcpy(start + HEADER_BYTES, &expires_ns, 8)
    cdef bytes body = subject + headers + payload
    memcpy(start + fixed, PyBytes_AS_STRING(body), len(body))
    record_seal(start, <uint32_t>length, salt, offset)
    return out


def decode(bytes data not None, Py_ssize_t position, uint32_t salt, uint64_t offset):
    """Return the Record at `position` of `data`, read from `offset` of its file, or None: it does not pass
    its checks."""
    cdef record_header_t header
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    if position < 0 or position >= size:
        return None
    cdef const uint8_t *start = <const uint8_t *>PyBytes_AS_STRING(data) + position
    cdef uint64_t padded = record_check(start, <uint64_t>(size - position), salt, offset)
    if padded == 0:
        return None
    memcpy(&header, start, HEADER_BYTES)
    cdef int64_t expires_ns = 0
    cdef Py_ssize_t at = position + HEADER_BYTES
    if header.flags & EXPIRES:
        memcpy(&expires_ns, start + HEADER_BYTES, 8)
        at += 8
    cdef Py_ssize_t headers_at = at + header.subject_length
    cdef Py_ssize_t payload_at = headers_at + header.headers_length
    return Record(
        header.kind, header.flags, header.sequence, header.timestamp_ns, expires_ns,
        data[at:headers_at], data[headers_at:payload_at],
        data[payload_at:position + <Py_ssize_t>header.length], padded,
    )


def find_next(bytes data not None, Py_ssize_t position, uint32_t salt, uint64_t offset,
              uint64_t after_sequence):
    """Return the position of the next whole record at or after `position`, or len(data): there is none.

    Used after a damaged record whose length cannot be trusted: tries every multiple of 8. `offset` is where
    in the file data[0] was read; a MESSAGE counts only when its sequence is above `after_sequence`.
    """
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef const uint8_t *start = <const uint8_t *>PyBytes_AS_STRING(data)
    cdef record_header_t header
    position = max(position + (-(position + <Py_ssize_t>offset) & 7), 0)
    while position + HEADER_BYTES <= size:
        memcpy(&header, start + position, HEADER_BYTES)
        if header.length >= HEADER_BYTES and header.kind != 0 and header.kind < 64 and header.flags < 32:
            if header.kind != MESSAGE or header.sequence > after_sequence:
                if record_check(start + position, <uint64_t>(size - position), salt, offset + position):
                    return position
        position += 8
    return size
