"""The JetStream API: one line per call in CALLS, and a small function that answers it.

To add a call, add its line: the subject after `$JS.API.`, the kind of the response, where it is answered, and
the function. It gets the engine of that worker and the request and returns the members of the answer after
its type (or how they come later: mesh.Result), or raises ApiError. Level, counting, audit and the way to the
worker are the gateway's business.

Source: nats-server server/jetstream_api.go, standalone mode.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from workers.jetstream import (
    apierrors,
    consumer_api,
    gojson,
    message_api,
    restores,
    snapshots,
    stream_checks,
    stream_json,
)
from workers.jetstream.api_requests import (
    LIST_LIMIT,
    NAMES_LIMIT,
    Fields,
    Request,
    decode,
    decode_optional,
    is_empty,
    require_empty,
    the_stream,
)
from workers.jetstream.stream_config import StreamConfig

if TYPE_CHECKING:
    from workers.jetstream.engine import JetStream
    from workers.jetstream.mesh import Result

SUBJECTS_LIMIT = 100_000


class Place(Enum):
    """Which worker answers a call."""

    HERE = "here"
    """The one that the client is connected to."""
    DIRECTORY = "directory"
    OWNER = "owner"
    """Of the stream that the first wildcard stands for."""


Handler = Callable[["JetStream", Request], "Result"]


@dataclass(frozen=True, slots=True)
class Call:
    """One line of the table; see the module.

    Attributes:
        is_counted: in the account's API calls, and audited; in nats-server the consumer itself answers the
            others, so that nobody does when it does not exist.
    """

    pattern: str
    kind: str
    place: Place
    handler: Handler
    checks_level: bool = True
    needs_client: bool = False
    is_counted: bool = True


# ---- the account


async def account_info(engine: JetStream, request: Request) -> Fields:
    """Answer INFO with what all workers use together."""
    usages = await asyncio.gather(
        *(
            engine.mesh.call(worker, "usage", {"account": request.account})
            for worker in range(engine.config.worker_count)
        )
    )
    total = {key: sum(usage[key] for usage in usages) for key in usages[0]}
    return stream_json.account_info(
        memory=total["memory"],
        storage=total["storage"],
        reserved_memory=total["reserved_memory"],
        reserved_storage=total["reserved_storage"],
        streams=total["streams"],
        consumers=total["consumers"],
        limits=engine.accounts[request.account].limits.to_json(),
        domain=engine.config.js_domain,
        api_total=total["api_total"],
        api_errors=total["api_errors"],
    )


# ---- streams: changes


def _parse_config(engine: JetStream, request: Request) -> tuple[StreamConfig, bool]:
    return StreamConfig.parse(request.body, strict=engine.config.js_strict)


async def stream_create(engine: JetStream, request: Request) -> Fields:
    """Answer STREAM.CREATE."""
    config, is_pedantic = _parse_config(engine, request)
    stream_checks.check_create(config, request.stream)
    directory = engine.directory(request.account)
    return {**await directory.create(config, is_pedantic=is_pedantic), "did_create": True}


async def stream_update(engine: JetStream, request: Request) -> Fields:
    """Answer STREAM.UPDATE."""
    config, is_pedantic = _parse_config(engine, request)
    return await engine.directory(request.account).update(config, request.stream, is_pedantic=is_pedantic)


async def stream_delete(engine: JetStream, request: Request) -> Fields:
    """Answer STREAM.DELETE."""
    require_empty(request)
    await engine.directory(request.account).delete(request.stream)
    return {"success": True}


def stream_purge(engine: JetStream, request: Request) -> Result:
    """Answer STREAM.PURGE when the messages are gone for good."""
    asked = message_api.parse_purge(request.body, strict=engine.config.js_strict)
    stream = the_stream(engine, request)
    return stream.answer_when_durable(message_api.purge(stream, asked))


def stream_snapshot(engine: JetStream, request: Request) -> Fields:
    """Answer STREAM.SNAPSHOT; the chunks follow."""
    if is_empty(request.body):
        raise apierrors.bad_request()
    stream = the_stream(engine, request)
    asked = decode(engine, request.body, snapshots.REQUEST)
    return engine.snapshots.begin(stream, asked, request.client)


async def stream_restore(engine: JetStream, request: Request) -> Fields:
    """Answer STREAM.RESTORE with where the chunks go."""
    if is_empty(request.body):
        raise apierrors.bad_request()
    asked = decode(engine, request.body, restores.REQUEST)
    return await engine.restores.request(request.account, request.stream, asked, request.client)


# ---- streams: questions

_INFO_REQUEST = gojson.Struct(
    "server.JSApiStreamInfoRequest",
    {"offset": gojson.INT, "deleted_details": gojson.BOOL, "subjects_filter": gojson.STRING},
)
_NAMES_REQUEST = gojson.Struct(
    "server.JSApiStreamNamesRequest", {"offset": gojson.INT, "subject": gojson.STRING}
)
_LIST_REQUEST = gojson.Struct(
    "server.JSApiStreamListRequest", {"offset": gojson.INT, "subject": gojson.STRING}
)
_PAGED = {"total": 0, "offset": 0, "limit": 0}


def stream_info(engine: JetStream, request: Request) -> Fields:
    """Answer STREAM.INFO."""
    asked = decode_optional(engine, request.body, _INFO_REQUEST)
    stream = the_stream(engine, request)
    offset, pattern = max(0, asked.get("offset", 0)), asked.get("subjects_filter", "")
    counts = stream.subject_counts(pattern) if pattern else {}
    fields = stream.info(
        has_details=asked.get("deleted_details", False),
        subjects=_subjects_page(counts, offset),
        domain=engine.config.js_domain,
        leader=engine.config.server_name,
    )
    if not counts:
        return {**_PAGED, **fields}
    return {"total": len(counts), "offset": offset, "limit": SUBJECTS_LIMIT, **fields}


def _subjects_page(counts: dict[str, int], offset: int) -> dict[str, int]:
    page = sorted(counts)[offset : offset + SUBJECTS_LIMIT]
    return {subject: counts[subject] for subject in page}


async def stream_names(engine: JetStream, request: Request) -> Fields:
    """Answer STREAM.NAMES."""
    asked = decode_optional(engine, request.body, _NAMES_REQUEST)
    directory = engine.directory(request.account)
    await directory.loaded.wait()
    names = directory.names(asked.get("subject", ""))
    offset = min(max(0, asked.get("offset", 0)), len(names))
    page = names[offset : offset + NAMES_LIMIT]
    return {"total": len(names), "offset": offset, "limit": NAMES_LIMIT, "streams": page or None}


async def stream_list(engine: JetStream, request: Request) -> Fields:
    """Answer STREAM.LIST with a page gathered from the owners; a stream that has just gone is left out."""
    asked = decode_optional(engine, request.body, _LIST_REQUEST)
    directory = engine.directory(request.account)
    await directory.loaded.wait()
    names = directory.names(asked.get("subject", ""))
    offset = min(max(0, asked.get("offset", 0)), len(names))
    page = names[offset : offset + LIST_LIMIT]
    by_owner: dict[int, list[str]] = {}
    for name in page:
        by_owner.setdefault(directory.owner_of(name), []).append(name)
    answers = await asyncio.gather(
        *(
            engine.mesh.call(owner, "stream.infos", {"account": request.account, "streams": owned})
            for owner, owned in by_owner.items()
        )
    )
    found = {name: info for answer in answers for name, info in answer["infos"].items()}
    return {
        "total": len(names),
        "offset": offset,
        "limit": LIST_LIMIT,
        "streams": [found[name] for name in page if name in found],
    }


# ---- messages


def message_get(engine: JetStream, request: Request) -> Fields:
    """Answer STREAM.MSG.GET."""
    asked = message_api.parse_msg_get(request.body, strict=engine.config.js_strict)
    return message_api.msg_get(the_stream(engine, request), asked)


def message_delete(engine: JetStream, request: Request) -> Result:
    """Answer STREAM.MSG.DELETE when the message is gone for good."""
    asked = message_api.parse_msg_delete(request.body, strict=engine.config.js_strict)
    stream = the_stream(engine, request)
    return stream.answer_when_durable(message_api.msg_delete(stream, asked))


# ---- what needs a cluster


def needs_cluster(engine: JetStream, request: Request) -> Fields:
    """Refuse a call that makes sense among several servers only."""
    raise apierrors.cluster_required()


CALLS = (
    Call("INFO", "account_info", Place.HERE, account_info),
    Call("STREAM.CREATE.*", "stream_create", Place.DIRECTORY, stream_create),
    Call("STREAM.UPDATE.*", "stream_update", Place.DIRECTORY, stream_update),
    Call("STREAM.DELETE.*", "stream_delete", Place.DIRECTORY, stream_delete),
    Call("STREAM.NAMES", "stream_names", Place.DIRECTORY, stream_names),
    Call("STREAM.LIST", "stream_list", Place.DIRECTORY, stream_list),
    Call("STREAM.INFO.*", "stream_info", Place.OWNER, stream_info),
    Call("STREAM.PURGE.*", "stream_purge", Place.OWNER, stream_purge),
    Call("STREAM.SNAPSHOT.*", "stream_snapshot", Place.OWNER, stream_snapshot, needs_client=True),
    Call("STREAM.RESTORE.*", "stream_restore", Place.DIRECTORY, stream_restore, needs_client=True),
    Call("STREAM.MSG.GET.*", "stream_msg_get", Place.OWNER, message_get),
    Call("STREAM.MSG.DELETE.*", "stream_msg_delete", Place.OWNER, message_delete),
    Call("STREAM.LEADER.STEPDOWN.*", "stream_leader_stepdown", Place.HERE, needs_cluster, checks_level=False),
    Call("STREAM.PEER.REMOVE.*", "stream_remove_peer", Place.HERE, needs_cluster, checks_level=False),
    Call("STREAM.PEER.EVACUATE.*", "stream_evacuate_peer", Place.HERE, needs_cluster, checks_level=False),
    Call("STREAM.CANCEL_MOVE.*", "stream_cancel_move", Place.HERE, needs_cluster, checks_level=False),
    Call("CONSUMER.CREATE.*", "consumer_create", Place.OWNER, consumer_api.create),
    Call("CONSUMER.CREATE.*.>", "consumer_create", Place.OWNER, consumer_api.create_named),
    Call("CONSUMER.DURABLE.CREATE.*.*", "consumer_create", Place.OWNER, consumer_api.create_durable),
    Call("CONSUMER.NAMES.*", "consumer_names", Place.OWNER, consumer_api.names),
    Call("CONSUMER.LIST.*", "consumer_list", Place.OWNER, consumer_api.list_infos),
    Call("CONSUMER.INFO.*.*", "consumer_info", Place.OWNER, consumer_api.info),
    Call("CONSUMER.DELETE.*.*", "consumer_delete", Place.OWNER, consumer_api.delete),
    Call("CONSUMER.PAUSE.*.*", "consumer_pause", Place.OWNER, consumer_api.pause),
    Call("CONSUMER.UNPIN.*.*", "consumer_unpin", Place.OWNER, consumer_api.unpin),
    Call("CONSUMER.RESET.*.*", "consumer_reset", Place.OWNER, consumer_api.reset, is_counted=False),
    Call("CONSUMER.LEADER.STEPDOWN.*.*", "consumer_leader_stepdown", Place.HERE, needs_cluster, False),
    Call("CONSUMER.PEER.REMOVE.*.*", "consumer_remove_peer", Place.HERE, needs_cluster, False),
    Call("CONSUMER.PEER.EVACUATE.*.*", "consumer_evacuate_peer", Place.HERE, needs_cluster, False),
)
BY_PATTERN = {call.pattern: call for call in CALLS}


def find(subject: str) -> tuple[Call, tuple[str, ...]] | None:
    """Return the call of a subject (without its prefix) and what its wildcards stand for; None: none."""
    words = subject.split(".")
    for kept in range(min(3, len(words)), 0, -1):
        for call, pattern in _BY_WORDS.get(tuple(words[:kept]), ()):
            rest = words[kept:]
            if pattern and pattern[-1] == ">":
                if len(rest) >= len(pattern):
                    last = ".".join(rest[len(pattern) - 1 :])
                    return call, (*rest[: len(pattern) - 1], last)
            elif len(rest) == len(pattern) and all(rest):
                return call, tuple(rest)
    return None


def _index() -> dict[tuple[str, ...], list[tuple[Call, list[str]]]]:
    """Return the calls by the words before their wildcards, with those wildcards."""
    index: dict[tuple[str, ...], list[tuple[Call, list[str]]]] = {}
    for call in CALLS:
        words = call.pattern.split(".")
        fixed = next((i for i, word in enumerate(words) if word in ("*", ">")), len(words))
        index.setdefault(tuple(words[:fixed]), []).append((call, words[fixed:]))
    return index


_BY_WORDS = _index()
