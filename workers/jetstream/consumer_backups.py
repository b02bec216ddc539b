"""A consumer as backups have it: written down, and read and checked.

    {"config": ConsumerConfig, "state": {"delivered": pair, "ack_floor": pair,
        "pending": {"<stream sequence>": {"Sequence": consumer sequence, "Timestamp": Unix ns}},
        "redelivered": {"<stream sequence>": deliveries beyond the first}}}

Every consumer goes into a backup, durable or not, in memory or not, but not those that are `direct`. What was
redelivered and is not pending was delivered as often as it may be.

Source: nats-server server/stream_backup.go; server/stream.go, RestoreStream; server/filestore.go,
consumerFileStore.Update.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from workers.jetstream import apierrors, consumer_checks, consumer_rules, gojson
from workers.jetstream.apierrors import ApiError
from workers.jetstream.archive.errors import ArchiveError
from workers.jetstream.archive.items import ConsumerRecord
from workers.jetstream.asset_metadata import consumer_config_json
from workers.jetstream.consumer_config import CONFIG, ConsumerConfig
from workers.jetstream.gojson_kinds import Map, Unfit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from storage.consumer import ConsumerState
    from workers.jetstream.account import Account
    from workers.jetstream.consumer import Consumer
    from workers.jetstream.stream_config import StreamConfig

Fields = dict[str, Any]

# Storage counts in signed numbers, and deliveries in 32 bits.
SEQUENCE_MAX = (1 << 63) - 1
REDELIVERIES_MAX = (1 << 32) - 2

_PAIR = gojson.Struct(
    "server.SequencePair", {"consumer_seq": gojson.UINT64, "stream_seq": gojson.UINT64}, zero={}
)
_PENDING = gojson.Struct("server.Pending", {"Sequence": gojson.UINT64, "Timestamp": gojson.INT64}, zero={})
_STATE = gojson.Struct(
    "server.ConsumerState",
    {
        "delivered": _PAIR,
        "ack_floor": _PAIR,
        "pending": Map(_PENDING, "map[uint64]*server.Pending"),
        "redelivered": Map(gojson.UINT64, "map[uint64]uint64"),
    },
)
_SNAPSHOT = gojson.Struct("server.SnapshotConsumerState", {"config": CONFIG, "state": _STATE})


class BackedUpConsumer(NamedTuple):
    """A consumer to be brought back.

    Attributes:
        config: checked. created_ns: 0: now.
    """

    name: str
    config: ConsumerConfig
    created_ns: int
    state: ConsumerState


# ---- writing


def record_of(consumer: Consumer, last_sequence: int) -> ConsumerRecord:
    """Return what a backup says of a consumer.

    Args:
        last_sequence: of the stream in the backup; the consumer may have got further meanwhile.
    """
    core = consumer.core
    state = core.state.state()
    given_up = dict.fromkeys(core.state.given_up, consumer.config.max_deliver)
    pending = {
        str(sequence): {
            "Sequence": consumer_sequence,
            "Timestamp": consumer.wait_began_ns(sequence, timestamp_ns),
        }
        for sequence, (consumer_sequence, timestamp_ns) in state["pending"].items()
        if sequence <= last_sequence
    }
    redelivered = {
        str(sequence): count
        for sequence, count in sorted({**state["redelivered"], **given_up}.items())
        if sequence <= last_sequence
    }
    value: Fields = {
        "delivered": _pair(state["delivered"], last_sequence),
        "ack_floor": _pair(state["ack_floor"], last_sequence),
    }
    # As Go does, empty ones are left out.
    value |= {"pending": pending} if pending else {}
    value |= {"redelivered": redelivered} if redelivered else {}
    config = consumer_config_json(consumer.config.replace(name=consumer.name))
    return ConsumerRecord(consumer.name, gojson.encode({"config": config, "state": value}))


def _pair(pair: tuple[int, int], last_sequence: int) -> Fields:
    return {"consumer_seq": pair[0], "stream_seq": min(pair[1], last_sequence)}


# ---- reading


def read_record(
    record: ConsumerRecord, stream: StreamConfig, others: Sequence[ConsumerConfig], account: Account
) -> BackedUpConsumer:
    """Check what a backup says of a consumer.

    Args:
        stream: the configuration that is restored. others: of the consumers that were read before.
    Raises:
        ArchiveError: it cannot be brought back.
    """
    name = record.name
    try:
        members = _decode(record.definition)
        state = _state(members.get("state") or {})
    except gojson.DecodeError as error:
        what = record.refusal or f'failed to decode consumer "{name}" state'
        raise ArchiveError(f"{what}: {error}") from error
    for part in ("config", "state"):
        if part not in members:
            raise ArchiveError(f'consumer "{name}" is missing {part}')
    try:
        config = _checked(name, ConsumerConfig.from_members(members["config"]), stream, others, account)
    except ApiError as error:
        what = record.refusal or f'failed to add consumer "{name}"'
        # Go shows a wrapped API error with its number.
        raise ArchiveError(f"{what}: {error} ({error.err_code})") from error
    if not record.refusal and (fault := _fault(state)):
        raise ArchiveError(f'failed to set consumer "{name}" state: {fault}')
    return BackedUpConsumer(config.durable_name or name, config, record.created_ns, state)


def _decode(definition: bytes) -> Fields:
    try:
        return _SNAPSHOT.take_members(orjson.loads(definition))
    except (orjson.JSONDecodeError, Unfit):
        return gojson.decode(definition, _SNAPSHOT, strict=False)


def _state(members: Fields) -> ConsumerState:
    pending = {
        _sequence("pending", key): (one.get("Sequence", 0), one.get("Timestamp", 0))
        for key, one in (members.get("pending") or {}).items()
    }
    redelivered = {
        _sequence("redelivered", key): min(count, REDELIVERIES_MAX)
        for key, count in (members.get("redelivered") or {}).items()
    }
    return {
        "delivered": _numbers(members.get("delivered") or {}),
        "ack_floor": _numbers(members.get("ack_floor") or {}),
        "pending": pending,
        "redelivered": redelivered,
    }


def _sequence(member: str, key: str) -> int:
    if not (key.isascii() and key.isdecimal() and len(key) < 20 and int(key) <= SEQUENCE_MAX):
        raise gojson.DecodeError(
            f"json: cannot unmarshal number {key} into "
            f"Go struct field SnapshotConsumerState.state.{member}.{key} of type uint64"
        )
    return int(key)


def _numbers(members: Fields) -> tuple[int, int]:
    return members.get("consumer_seq", 0), members.get("stream_seq", 0)


def _checked(
    name: str,
    config: ConsumerConfig,
    stream: StreamConfig,
    others: Sequence[ConsumerConfig],
    account: Account,
) -> ConsumerConfig:
    """Check a configuration as that of a new consumer.

    Raises:
        ApiError: the first rule that it breaks.
    """
    is_durable = config.is_durable
    if not is_durable:
        # As in nats-server, which has it durable until all is restored.
        config = config.replace(durable_name=name)
    limits = consumer_checks.ConsumerLimits(account_max_ack_pending=account.limits.max_ack_pending)
    config = consumer_checks.check(config, stream, limits)
    if any(other.called == config.durable_name for other in others):
        raise apierrors.consumer_name_exist()
    consumer_rules.check_room(stream, len(others), account.limits.max_consumers)
    consumer_rules.check_work_queue(config, stream, others, is_new=True)
    if len(config.durable_name.encode()) > consumer_checks.NAME_BYTES_MAX:
        raise apierrors.consumer_name_too_long(consumer_checks.NAME_BYTES_MAX)
    if not is_durable:
        config = config.replace(durable_name="", name=name)
    return consumer_checks.stamp(config)


def _fault(state: ConsumerState) -> str:
    """Return what is wrong with a state, "": nothing."""
    (delivered_consumer, delivered), (floor_consumer, floor) = state["delivered"], state["ack_floor"]
    if floor_consumer > delivered_consumer:
        return "bad ack floor for consumer"
    if floor > delivered:
        return "bad ack floor for stream"
    if max(delivered_consumer, delivered) > SEQUENCE_MAX:
        return f"sequence [{max(delivered_consumer, delivered)}] out of range"
    for sequence in state["pending"]:
        if not floor < sequence <= delivered:
            return f"bad pending entry, sequence [{sequence}] out of range"
    return ""
