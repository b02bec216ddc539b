from typing import NamedTuple

MAGIC: bytes
VERSION: int
RECORDS_AT: int
KIND_SEGMENT: int
KIND_CONTROL: int
KINDS: dict[str, int]
FLAG_EXPIRES: int
FLAG_COMPRESSED: int
FLAG_ENCRYPTED: int
FLAG_ERASED: int

class LogHeader(NamedTuple):
    kind: int
    salt: int
    number: int
    stream: int
    base_sequence: int
    created_ns: int
    replaces: int

class Record(NamedTuple):
    kind: int
    flags: int
    sequence: int
    timestamp_ns: int
    expires_ns: int
    subject: bytes
    headers: bytes
    payload: bytes
    padded_bytes: int

def checksum(data: bytes, seed: int = 0) -> int: ...
def checksum_between(data: bytes, start: int, stop: int, seed: int = 0) -> int: ...
def encode_log_header(header: LogHeader) -> bytes: ...
def decode_log_header(data: bytes, path: str) -> LogHeader: ...
def encode(
    kind: int,
    sequence: int,
    timestamp_ns: int,
    subject: bytes,
    headers: bytes,
    payload: bytes,
    salt: int,
    offset: int,
    *,
    flags: int = 0,
    expires_ns: int = 0,
) -> bytes: ...
def decode(data: bytes, position: int, salt: int, offset: int) -> Record | None: ...
def find_next(data: bytes, position: int, salt: int, offset: int, after_sequence: int) -> int: ...
