"""What a published message's headers must satisfy, one rule a function: single messages and batches ask in
different orders.

Every function raises the ApiError that the publisher gets. Source: nats-server server/stream.go,
processJetStreamMsg, and server/jetstream_batching.go, checkMsgHeadersPreClusteredProposal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from storage import queries
from storage.subjects import SubjectFilter
from workers.jetstream import apierrors, counters, headers, rollup
from workers.jetstream.asset_metadata import API_LEVEL
from workers.jetstream.durations import parse_int64, parse_ttl
from workers.jetstream.subjects import is_literal

if TYPE_CHECKING:
    from storage.stream import StreamStore
    from workers.jetstream.stream_config import StreamConfig

# nats-server's file store refuses longer records, so nothing longer can be restored there.
RECORD_BYTES_MAX = 32 << 20
HEADERS_BYTES_MAX = 65535
_NOT_WITH_INCREMENT = (
    headers.EXPECTED_STREAM,
    headers.EXPECTED_LAST_MESSAGE_ID,
    headers.EXPECTED_LAST_SUBJECT_SEQUENCE_SUBJECT,
    headers.EXPECTED_LAST_SEQUENCE,
    headers.EXPECTED_LAST_SUBJECT_SEQUENCE,
)


def accounted_bytes(config: StreamConfig, subject: bytes, block: bytes, payload: bytes) -> int:
    """Return what a message counts in the stream's bytes."""
    size = len(subject) + len(block) + len(payload)
    if config.storage == "memory":
        return size + 16
    return size + (34 if block else 30)


def record_size(config: StreamConfig, subject: bytes, block: bytes, payload: bytes) -> None:
    """Refuse what nats-server's file store could not hold (10077)."""
    if config.storage != "memory" and accounted_bytes(config, subject, block, payload) > RECORD_BYTES_MAX:
        raise apierrors.stream_store_failed("message too large")


def message_size(config: StreamConfig, block: bytes, payload: bytes) -> None:
    """Refuse what is above the stream's max_msg_size (10054)."""
    if 0 <= config.max_msg_size < len(block) + len(payload):
        raise apierrors.stream_message_exceeds_maximum()


def headers_size(block: bytes) -> None:
    """Refuse a header block above 64 KiB (10097)."""
    if len(block) > HEADERS_BYTES_MAX:
        raise apierrors.stream_header_exceeds_maximum()


def increment(config: StreamConfig, block: bytes, payload: bytes, *, is_sourced: bool = False) -> int | None:
    """Return the value of Nats-Incr, None if there is none (10168, 10170, 10171)."""
    value = counters.parse_increment(block)
    if value is None or is_sourced:
        return value
    if not config.allow_msg_counter:
        raise apierrors.message_incr_disabled()
    if payload:
        raise apierrors.message_incr_payload()
    if rollup.parse(block) or any(headers.get(block, name) for name in _NOT_WITH_INCREMENT):
        raise apierrors.message_incr_invalid()
    return value


def expected_stream(config: StreamConfig, block: bytes) -> None:
    """Check Nats-Expected-Stream (10060)."""
    name = headers.get(block, headers.EXPECTED_STREAM)
    if name and name != config.name.encode():
        raise apierrors.stream_not_match()


def ttl_is_allowed(config: StreamConfig, block: bytes) -> None:
    """Refuse a valid Nats-TTL where the stream has none (10166); an invalid one is met later."""
    value = headers.get(block, headers.TTL)
    if value and not config.allow_msg_ttl and parse_ttl(value) is not None:
        raise apierrors.message_ttl_disabled()


def ttl_is_valid(config: StreamConfig, block: bytes) -> None:
    """Refuse any Nats-TTL where the stream has none (10166), and an invalid one where it has (10165)."""
    value = headers.get(block, headers.TTL)
    if not value:
        return
    if not config.allow_msg_ttl:
        raise apierrors.message_ttl_disabled()
    if parse_ttl(value) is None:
        raise apierrors.message_ttl_invalid()


def expected_sequence(block: bytes, name: bytes) -> int | None:
    """Return an expected sequence, None if there is no such header; what is no number matches nothing."""
    value = headers.get(block, name)
    return parse_int64(value) % (1 << 64) if value else None


def subject_of_expectation(block: bytes, subject: bytes) -> bytes:
    """Return the subject, perhaps with wildcards, for which Expected-Last-Subject-Sequence counts."""
    return headers.get(block, headers.EXPECTED_LAST_SUBJECT_SEQUENCE_SUBJECT) or subject


def expected_subject_sequence(store: StreamStore, subject: bytes, block: bytes) -> None:
    """Check Nats-Expected-Last-Subject-Sequence and what goes with it (10071, 10193)."""
    wanted = expected_sequence(block, headers.EXPECTED_LAST_SUBJECT_SEQUENCE)
    if wanted is None:
        if headers.get(block, headers.EXPECTED_LAST_SUBJECT_SEQUENCE_SUBJECT):
            raise apierrors.stream_expected_last_seq_per_subject_invalid()
        return
    last = last_sequence(store, subject_of_expectation(block, subject))
    if last != wanted:
        raise apierrors.stream_wrong_last_sequence(last)


def last_sequence(store: StreamStore, subject: bytes) -> int:
    """Return the sequence of the last message of a subject, which may have wildcards; 0: none."""
    if is_literal(subject.decode("utf-8", "surrogateescape")):
        return queries.last_sequence_of(store, subject) or 0
    found = queries.last_sequences(store, SubjectFilter(store.subjects, (subject,)))
    return int(found[-1]) if len(found) else 0


def source_header(block: bytes) -> None:
    """Refuse Nats-Stream-Source from a client (10227)."""
    if headers.get(block, headers.STREAM_SOURCE):
        raise apierrors.message_source_hdr_not_allowed()


def needs_too_high_level(block: bytes) -> bool:
    """Tell whether Nats-Required-Api-Level asks for more than this server has."""
    level = headers.get(block, headers.REQUIRED_API_LEVEL)
    if not level:
        return False
    text = level.lstrip(b"+-") if level[1:2].isdigit() else level
    return not text.isdigit() or (not level.startswith(b"-") and int(text[:20]) > API_LEVEL)


def messages_of(store: StreamStore, subject: bytes) -> int:
    """Return how many messages a literal subject has."""
    return queries.subject_counts(store, SubjectFilter(store.subjects, (subject,))).get(subject, 0)
