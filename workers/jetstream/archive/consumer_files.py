"""What nats-server before 2.15 keeps of a consumer, as the JSON that it writes since.

    meta.inf  JSON: Created, Name and the fields of the ConsumerConfig
    o.dat     1 byte 22, 1 byte version 2, uvarints: ack floor (consumer, stream), delivered (consumer,
              stream), how many are pending; if any: varint seconds of a moment, and for each uvarints stream
              and consumer sequence above the ack floor's, varint seconds before that moment;
              uvarint how many were redelivered, for each uvarints sequence above the ack floor's, count

Version 1 is of 2019 and is refused. Source: nats-server server/store.go, encodeConsumerState.
"""

import orjson

from workers.jetstream.archive.entries import SEQUENCE_MAX, read_uvarint
from workers.jetstream.archive.errors import ArchiveError
from workers.jetstream.archive.items import ConsumerRecord
from workers.jetstream.gojson_time import TimeError, parse_time

MAGIC, VERSION = 22, 2
NOTHING = bytes((MAGIC, VERSION, 0, 0, 0, 0, 0, 0))
CORRUPT = "corrupt state file"
NS_PER_SECOND = 1_000_000_000
# What meta.inf has beside the ConsumerConfig.
OWN_FIELDS = ("Created", "Name")


def consumer_record(name: str, meta: bytes, state: bytes) -> ConsumerRecord:
    """Return a consumer from its two files; `state` may be empty: nothing was delivered.

    Raises:
        ArchiveError: they are damaged.
    """
    refusal = f'error restoring consumer ["{name}"]'
    try:
        fields = orjson.loads(meta)
    except orjson.JSONDecodeError as error:
        raise ArchiveError(f"{refusal}: {error}") from error
    if not isinstance(fields, dict):
        raise ArchiveError(f"{refusal}: meta.inf is not an object")
    config = {key: value for key, value in fields.items() if key not in OWN_FIELDS}
    try:
        decoded = decode_state(state or NOTHING)
    except ArchiveError as error:
        raise ArchiveError(f"{refusal}: error creating store for consumer: {error} (10104)") from error
    definition = orjson.dumps({"config": config, "state": decoded})
    return ConsumerRecord(name, definition, created_ns(fields), refusal)


def created_ns(meta: dict[str, object]) -> int:
    """Return when a stream or consumer was made, Unix ns, as its meta.inf says; 0: it does not."""
    created = meta.get("Created", meta.get("created"))
    try:
        return max(0, parse_time(created)) if isinstance(created, str) else 0
    except TimeError:
        return 0


def decode_state(data: bytes) -> dict[str, object]:
    """Return a ConsumerState from o.dat.

    Raises:
        ArchiveError: it is none, or not whole.
    """
    if len(data) < 2 or data[0] != MAGIC:
        raise ArchiveError(CORRUPT)
    if data[1] != VERSION:
        raise ArchiveError(f"unsupported version: {data[1]}")
    try:
        return _decode(data)
    except (IndexError, OverflowError) as error:
        raise ArchiveError(CORRUPT) from error


def _decode(data: bytes) -> dict[str, object]:
    """Return the state behind the head.

    Raises:
        IndexError: it is not whole. OverflowError, ArchiveError: a number is too large.
    """
    numbers = []
    at = 2
    for _ in range(5):
        value, at = read_uvarint(data, at)
        numbers.append(_sequence(value))
    floor_consumer, floor_stream, delivered_consumer, delivered_stream, count = numbers
    state: dict[str, object] = {
        "delivered": {"consumer_seq": delivered_consumer, "stream_seq": delivered_stream},
        "ack_floor": {"consumer_seq": floor_consumer, "stream_seq": floor_stream},
    }
    pending: dict[str, dict[str, int]] = {}
    if count:
        moment, at = _varint(data, at)
    for _ in range(count):
        stream_sequence, at = read_uvarint(data, at)
        consumer_sequence, at = read_uvarint(data, at)
        seconds, at = _varint(data, at)
        pending[str(_sequence(floor_stream + stream_sequence))] = {
            "Sequence": _sequence(floor_consumer + consumer_sequence),
            "Timestamp": _timestamp((moment - seconds) * NS_PER_SECOND),
        }
    if pending:
        state["pending"] = pending
    redelivered: dict[str, int] = {}
    count, at = read_uvarint(data, at)
    for _ in range(count):
        stream_sequence, at = read_uvarint(data, at)
        deliveries, at = read_uvarint(data, at)
        redelivered[str(_sequence(floor_stream + stream_sequence))] = deliveries
    if redelivered:
        state["redelivered"] = redelivered
    return state


def _sequence(number: int) -> int:
    if number > SEQUENCE_MAX:
        raise OverflowError
    return number


def _timestamp(number: int) -> int:
    if abs(number) > SEQUENCE_MAX:
        raise OverflowError
    return number


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the signed varint at `at` and where it ends."""
    zigzag, at = read_uvarint(data, at)
    return zigzag >> 1 if not zigzag & 1 else -(zigzag + 1 >> 1), at
