"""The API's calls about consumers; api.py has the table that they stand in.

They run on the worker that owns the stream. A change is answered when it is as durable as the consumer.

Source: nats-server server/jetstream_api.go jsConsumer*Request, server/consumer.go processResetReq.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from storage import queries
from storage.errors import StorageError
from workers.jetstream import (
    apierrors,
    consumer_advisories,
    consumer_checks,
    consumer_rules,
    consumer_update,
    gojson,
)
from workers.jetstream.api_requests import (
    LIST_LIMIT,
    NAMES_LIMIT,
    Fields,
    Request,
    decode_optional,
    require_empty,
    the_stream,
)
from workers.jetstream.consumer_config import (
    ACTION_CREATE,
    ACTION_UPDATE,
    DELIVER_ALL,
    DELIVER_BY_START_SEQUENCE,
    DELIVER_BY_START_TIME,
    ConsumerConfig,
    CreateRequest,
)
from workers.jetstream.consumer_json import consumer_info, pause_answer
from workers.jetstream.gojson import parse_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.jetstream.consumer import Consumer
    from workers.jetstream.engine import JetStream
    from workers.jetstream.mesh import Result
    from workers.jetstream.stream import Stream

_PAGED_REQUEST = gojson.Struct("server.JSApiConsumersRequest", {"offset": gojson.INT})
_PAUSE_REQUEST = gojson.Struct("server.JSApiConsumerPauseRequest", {"pause_until": gojson.TIME})
_UNPIN_REQUEST = gojson.Struct("server.JSApiConsumerUnpinRequest", {"group": gojson.STRING})
_RESET_REQUEST = gojson.Struct("server.JSApiConsumerResetRequest", {"seq": gojson.UINT64})


def the_consumer(stream: Stream, name: str) -> Consumer:
    """Return a consumer of a stream.

    Raises:
        ApiError: 10014.
    """
    consumer = stream.consumers.get(name)
    if consumer is None:
        raise apierrors.consumer_not_found()
    return consumer


def _info(engine: JetStream, consumer: Consumer) -> Fields:
    return consumer_info(consumer, engine.config.version)


def _answer(consumer: Consumer, fields: Fields) -> Result:
    """Return an answer that waits until what was done to a consumer is as durable as that consumer."""
    return fields if consumer.config.mem_storage else consumer.stream.answer_when_durable(fields)


# ---- making and changing


def create(engine: JetStream, request: Request) -> Result:
    """Answer CONSUMER.CREATE.<stream>: the consumer is not durable, its name may be generated."""
    asked = _parse(engine, request)
    name = asked.config.name
    _check_request(asked, request.stream, name)
    if asked.config.durable_name:
        raise apierrors.consumer_ephemeral_with_durable_name()
    return _create(engine, request, asked, asked.config)


def create_named(engine: JetStream, request: Request) -> Result:
    """Answer CONSUMER.CREATE.<stream>.<consumer>[.<filter>]."""
    asked = _parse(engine, request)
    name, _, filter_subject = request.tokens[1].partition(".")
    _check_request(asked, request.stream, name)
    config = asked.config
    if config.durable_name and config.durable_name != name:
        raise apierrors.consumer_durable_name_not_match_subject()
    if filter_subject and config.filter_subjects:
        raise apierrors.consumer_multiple_filters_not_allowed()
    if filter_subject and config.filter_subject != filter_subject:
        raise apierrors.consumer_create_filter_subject_mismatch()
    return _create(engine, request, asked, config if config.name == name else config.replace(name=name))


def create_durable(engine: JetStream, request: Request) -> Result:
    """Answer CONSUMER.DURABLE.CREATE.<stream>.<consumer>."""
    asked = _parse(engine, request)
    name = request.consumer
    _check_request(asked, request.stream, name)
    if not asked.config.durable_name:
        raise apierrors.consumer_durable_name_not_set()
    if asked.config.durable_name != name:
        raise apierrors.consumer_durable_name_not_match_subject()
    return _create(engine, request, asked, asked.config.replace(name=name))


def _parse(engine: JetStream, request: Request) -> CreateRequest:
    return CreateRequest.parse(request.body, strict=engine.config.js_strict)


def _check_request(asked: CreateRequest, stream: str, name: str) -> None:
    if asked.stream_name != stream:
        raise apierrors.stream_mismatch()
    if "\\" in name or "/" in name:
        raise apierrors.consumer_name_contains_path_separators()


def _create(engine: JetStream, request: Request, asked: CreateRequest, config: ConsumerConfig) -> Result:
    if config.num_replicas > 1:
        raise apierrors.stream_replicas_not_supported()
    stream = the_stream(engine, request)
    existing = stream.consumers.get(config.name)
    if existing is not None:
        # Only CONSUMER.PAUSE changes this.
        config = config.replace(pause_until_text=existing.config.pause_until_text)
    account = engine.accounts[request.account]
    limits = consumer_checks.ConsumerLimits(account_max_ack_pending=account.limits.max_ack_pending)
    config = consumer_checks.check(config, stream.config, limits, is_pedantic=asked.is_pedantic)
    try:
        if existing is not None:
            _update(existing, config, asked.action)
            consumer = existing
        elif asked.action == ACTION_UPDATE:
            raise apierrors.consumer_does_not_exist()
        else:
            consumer_rules.check_room(stream.config, stream.consumers.count, account.limits.max_consumers)
            consumer_rules.check_work_queue(config, stream.config, _others(stream, config), is_new=True)
            _check_name(config, stream)
            consumer = stream.consumers.create(consumer_checks.stamp(config))
    except StorageError as error:
        raise _not_stored() from error
    fields = _info(engine, consumer)
    if consumer.config.pause_until > engine.now_ns():
        consumer_advisories.pause(consumer)
    return _answer(consumer, fields)


def _others(stream: Stream, config: ConsumerConfig) -> Iterator[ConsumerConfig]:
    """Yield the configurations of a stream's other consumers; where nobody asks they cost nothing."""
    for consumer in stream.consumers.all():
        if consumer.name != config.called:
            yield consumer.config


def _check_name(config: ConsumerConfig, stream: Stream) -> None:
    """Refuse a name that nats-server could not store: what is kept in memory may have any."""
    longest = consumer_checks.NAME_BYTES_MAX
    if len(config.durable_name.encode()) > longest:
        raise apierrors.consumer_name_too_long(longest)
    if len(config.name.encode()) > longest and not (stream.is_memory or config.mem_storage):
        raise _not_stored()


def _not_stored() -> apierrors.ApiError:
    return apierrors.consumer_create("error creating store for consumer")


def _update(existing: Consumer, config: ConsumerConfig, action: str) -> None:
    if action == ACTION_CREATE and config != existing.config:
        raise apierrors.consumer_already_exists()
    stream = existing.stream
    consumer_rules.check_work_queue(config, stream.config, _others(stream, config), is_new=False)
    consumer_update.check_update(
        existing.config, config, lambda subject: existing.has_interest(subject.encode())
    )
    config = consumer_checks.stamp(config)
    if config != existing.config:
        existing.update(config)


def delete(engine: JetStream, request: Request) -> Result:
    """Answer CONSUMER.DELETE."""
    require_empty(request)
    consumer = the_consumer(the_stream(engine, request), request.consumer)
    consumer.consumers.delete(consumer.name)
    return _answer(consumer, {"success": True})


def pause(engine: JetStream, request: Request) -> Result:
    """Answer CONSUMER.PAUSE; no time, or one that has passed, lets the consumer go on."""
    asked = decode_optional(engine, request.body, _PAUSE_REQUEST)
    until_ns = parse_time(asked["pause_until"]) if "pause_until" in asked else 0
    stream = the_stream(engine, request)
    consumer = the_consumer(stream, request.consumer)
    if until_ns != consumer.config.pause_until:
        consumer.pause(until_ns)
    return _answer(consumer, pause_answer(until_ns, engine.now_ns()))


def _decode_loosely(engine: JetStream, request: Request, struct: gojson.Struct) -> dict[str, Any]:
    """Return the members of a body in which unknown ones do not matter."""
    try:
        return gojson.decode(request.body, struct, strict=False)
    except gojson.DecodeError as error:
        raise apierrors.invalid_json(error) from error


def unpin(engine: JetStream, request: Request) -> Fields:
    """Answer CONSUMER.UNPIN."""
    if not request.body.strip():
        raise apierrors.invalid_json("unexpected end of JSON input")
    group = _decode_loosely(engine, request, _UNPIN_REQUEST).get("group", "")
    if not group:
        raise apierrors.invalid_json("consumer group not specified")
    if not consumer_checks.is_group_name(group):
        raise apierrors.consumer_invalid_group_name()
    consumer = the_consumer(the_stream(engine, request), request.consumer)
    if group not in consumer.config.priority_groups:
        raise apierrors.consumer_invalid_priority_group()
    consumer.unpin(group)
    return {}


def reset(engine: JetStream, request: Request) -> Result:
    """Answer CONSUMER.RESET; no sequence is the one behind the ack floor."""
    stream = the_stream(engine, request)
    consumer = the_consumer(stream, request.consumer)
    sequence = _decode_loosely(engine, request, _RESET_REQUEST).get("seq", 0) if request.body else 0
    if sequence:
        _check_reset(consumer, sequence)
    sequence = consumer.reset(sequence)
    return _answer(consumer, {**_info(engine, consumer), "reset_seq": sequence})


def _check_reset(consumer: Consumer, sequence: int) -> None:
    config = consumer.config
    if config.deliver_policy == DELIVER_BY_START_SEQUENCE:
        if sequence < config.opt_start_seq:
            raise apierrors.consumer_invalid_reset("below start seq")
    elif config.deliver_policy == DELIVER_BY_START_TIME:
        first = queries.sequence_at(consumer.stream.store, config.opt_start_time)
        if sequence < (first or consumer.stream.store.last_sequence + 1):
            raise apierrors.consumer_invalid_reset("below start time")
    elif config.deliver_policy != DELIVER_ALL:
        raise apierrors.consumer_invalid_reset("not allowed")


# ---- questions


def _page(engine: JetStream, request: Request, limit: int) -> tuple[Stream, list[str], Fields]:
    """Return the stream, the names of a page and what the answer says about it."""
    asked = decode_optional(engine, request.body, _PAGED_REQUEST)
    stream = the_stream(engine, request)
    names = stream.consumers.names()
    offset = min(max(0, asked.get("offset", 0)), len(names))
    page = {"total": len(names), "offset": offset, "limit": limit}
    return stream, names[offset : offset + limit], page


def names(engine: JetStream, request: Request) -> Fields:
    """Answer CONSUMER.NAMES."""
    _, page, fields = _page(engine, request, NAMES_LIMIT)
    return {**fields, "consumers": page}


def list_infos(engine: JetStream, request: Request) -> Fields:
    """Answer CONSUMER.LIST."""
    stream, page, fields = _page(engine, request, LIST_LIMIT)
    return {**fields, "consumers": [consumer_info(the_consumer(stream, name)) for name in page]}


def info(engine: JetStream, request: Request) -> Fields:
    """Answer CONSUMER.INFO."""
    require_empty(request)
    return _info(engine, the_consumer(the_stream(engine, request), request.consumer))
