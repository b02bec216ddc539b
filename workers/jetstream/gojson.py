"""JSON as nats-server reads and writes it: Go's encoding/json with unknown fields refused.

A request is described by a Struct of field kinds; decode() returns the members that were given, under their
canonical names, so that a missing member and a null are the same. Texts of refusals are those clients of
nats-server 2.15.1 see. Times are Unix nanoseconds or RFC 3339 text, durations integers.

Source: Go 1.27 encoding/json (v1 semantics over v2), nats-server server/jetstream_api.go unmarshalRequest.
"""

import base64
from collections.abc import Mapping

import orjson

from workers.jetstream import gojson_reader
from workers.jetstream.gojson_kinds import (
    BOOL,
    COUNTS,
    DURATION,
    INT,
    INT32,
    INT64,
    STRING,
    TEXTS,
    TIME,
    UINT64,
    Array,
    Enum,
    Kind,
    Struct,
    Unfit,
)
from workers.jetstream.gojson_reader import DecodeError
from workers.jetstream.gojson_time import ZERO_TIME, format_time, parse_time

__all__ = [
    "BOOL",
    "COUNTS",
    "DURATION",
    "INT",
    "INT32",
    "INT64",
    "STRING",
    "TEXTS",
    "TIME",
    "UINT64",
    "ZERO_TIME",
    "Array",
    "DecodeError",
    "Enum",
    "Kind",
    "Struct",
    "decode",
    "encode",
    "format_time",
    "is_object_or_array",
    "parse_time",
]

_SPACE = b" \t\r\n"


def decode(data: bytes, struct: Struct, *, strict: bool = True) -> dict[str, object]:
    """Read a request body.

    Args:
        data: the body; empty or blank gives an empty result, several documents are read into one result.
        struct: what may be in it.
        strict: refuse unknown members; otherwise they are ignored.
    Returns:
        Members given and not null: str, bool, int, list, dict by their kind.
    Raises:
        DecodeError: the text after `invalid JSON: ` in nats-server's answer.
    """
    if b"\\u" not in data:
        # The quick way, for plain bodies. Two things pass here that Go refuses: a member given twice whose
        # first value is wrong, and -0 for a number that cannot be negative.
        try:
            return struct.take_members(orjson.loads(data))
        except (orjson.JSONDecodeError, Unfit):
            pass
    # The slow way accepts what Go accepts, and says why not as Go does.
    return gojson_reader.read(data, struct, strict=strict)


def is_object_or_array(data: bytes) -> bool:
    """Tell whether an optional body counts as JSON: list and info requests ignore anything else."""
    return data.lstrip(_SPACE)[:1] in (b"{", b"[")


def _default(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} has no JSON form here")


def encode(value: Mapping[str, object] | list[object]) -> bytes:
    """Write JSON as Go does: no spaces, order kept, bytes as base64, `<`, `>`, `&` escaped."""
    text = orjson.dumps(value, default=_default)
    if b"<" in text or b">" in text or b"&" in text:
        text = text.replace(b"<", b"\\u003c").replace(b">", b"\\u003e").replace(b"&", b"\\u0026")
    if b"\xe2\x80" in text:
        text = text.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    return text
