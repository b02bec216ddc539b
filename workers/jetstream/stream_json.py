"""The objects of API answers, member for member in nats-server's order.

Every function returns a dict for gojson.encode; what Go leaves out when empty is left out here.

Source: nats-server server/stream.go StreamInfo, server/store.go StreamState, server/jetstream.go
JetStreamAccountStats, server/jetstream_api.go.
"""

from collections.abc import Iterable, Mapping

from storage.limits import StreamState
from workers.jetstream.apierrors import ApiError
from workers.jetstream.asset_metadata import API_LEVEL, config_json
from workers.jetstream.gojson import ZERO_TIME, format_time
from workers.jetstream.stream_config import StreamConfig, StreamSource

_TYPE_PREFIX = "io.nats.jetstream.api.v1."

_NO_PAGE = {"total": 0, "offset": 0, "limit": 0}
# Members that stand in an answer even when it is an error, by kind of answer.
_ZERO_FIELDS: dict[str, dict[str, object]] = {
    "stream_info": {**_NO_PAGE},
    "stream_names": {**_NO_PAGE, "streams": None},
    "stream_list": {**_NO_PAGE, "streams": []},
    "stream_purge": {"purged": 0},
    "stream_restore": {"deliver_subject": ""},
    "consumer_names": {**_NO_PAGE, "consumers": []},
    "consumer_list": {**_NO_PAGE, "consumers": []},
    "consumer_reset": {"reset_seq": 0},
    "consumer_pause": {"paused": False, "pause_until": ZERO_TIME},
}


def response(kind: str, fields: Mapping[str, object]) -> dict[str, object]:
    """Return an answer.

    Args:
        kind: without prefix and suffix, as "stream_create".
        fields: its members after `type`, in order.
    """
    return {"type": _type(kind), **fields}


def error_response(
    kind: str, error: ApiError, zero_fields: Mapping[str, object] | None = None
) -> dict[str, object]:
    """Return an answer that refuses.

    Args:
        kind: as for response.
        zero_fields: members that follow all the same; None: those that nats-server has for this kind.
    """
    rest = _ZERO_FIELDS.get(kind, {}) if zero_fields is None else zero_fields
    return {"type": _type(kind), "error": error.to_json(), **rest}


def _type(kind: str) -> str:
    return f"{_TYPE_PREFIX}{kind}_response"


def stream_state(
    state: StreamState,
    *,
    subjects: Mapping[str, int] | None = None,
    deleted: Iterable[int] | None = None,
    consumer_count: int = 0,
) -> dict[str, object]:
    """Return a StreamState.

    Args:
        state: what the store says.
        subjects: messages by subject, if asked for.
        deleted: deleted sequences, if asked for.
    """
    value: dict[str, object] = {
        "messages": state.messages,
        "bytes": state.bytes,
        "first_seq": state.first_seq,
        "first_ts": format_time(state.first_ts_ns),
        "last_seq": state.last_seq,
        "last_ts": format_time(state.last_ts_ns),
    }
    if state.num_subjects:
        value["num_subjects"] = state.num_subjects
    if subjects:
        value["subjects"] = dict(sorted(subjects.items()))
    if state.num_deleted:
        value["num_deleted"] = state.num_deleted
    gone = list(deleted or ())
    if gone:
        value["deleted"] = gone
    if state.lost:
        value["lost"] = {"msgs": list(state.lost), "bytes": state.lost_bytes}
    value["consumer_count"] = consumer_count
    return value


def stream_info(
    config: StreamConfig,
    *,
    created_ns: int,
    state: Mapping[str, object],
    now_ns: int,
    domain: str = "",
    version: str | None = None,
    leader: str = "",
    mirror: Mapping[str, object] | None = None,
    sources: Iterable[Mapping[str, object]] = (),
) -> dict[str, object]:
    """Return a StreamInfo.

    Args:
        config: in force.
        created_ns, now_ns: Unix ns.
        state: from stream_state.
        domain: JetStream domain, "" for none; create answers show none.
        version: server version for the metadata, None to leave it out, as lists do.
        leader: server name; only STREAM.INFO shows it.
        mirror, sources: from source_info.
    """
    value: dict[str, object] = {
        "config": config_json(config, version),
        "created": format_time(created_ns),
        "state": state,
    }
    if domain:
        value["domain"] = domain
    if leader:
        value["cluster"] = {"leader": leader}
    if mirror is not None:
        value["mirror"] = mirror
    origins = list(sources)
    if origins:
        value["sources"] = origins
    value["ts"] = format_time(now_ns)
    return value


def source_info(
    source: StreamSource,
    *,
    lag: int = 0,
    active_ns: int = -1,
    error: ApiError | None = None,
    sequence: int = 0,
) -> dict[str, object]:
    """Return a StreamSourceInfo.

    Args:
        source: as configured.
        lag: messages of the origin not here yet.
        active_ns: since the origin was last heard of; -1: never.
        sequence: last origin sequence taken over; shown for sources only, 0 is left out.
    """
    value: dict[str, object] = {"name": source.name}
    if source.external is not None:
        value["external"] = source.external.to_json()
    value["lag"] = lag
    if sequence:
        value["seq"] = sequence
    value["active"] = active_ns
    if error is not None:
        value["error"] = error.to_json()
    if source.filter_subject:
        value["filter_subject"] = source.filter_subject
    if source.subject_transforms:
        value["subject_transforms"] = [one.to_json() for one in source.subject_transforms]
    return value


def account_info(
    *,
    memory: int,
    storage: int,
    reserved_memory: int,
    reserved_storage: int,
    streams: int,
    consumers: int,
    limits: Mapping[str, object],
    api_total: int,
    api_errors: int,
    domain: str = "",
    api_inflight: int = 0,
) -> dict[str, object]:
    """Return an AccountInfo; sizes in bytes, limits as AccountLimits.to_json gives them."""
    value: dict[str, object] = {
        "memory": memory,
        "storage": storage,
        "reserved_memory": reserved_memory,
        "reserved_storage": reserved_storage,
        "streams": streams,
        "consumers": consumers,
        "limits": limits,
    }
    if domain:
        value["domain"] = domain
    api = {"level": API_LEVEL, "total": api_total, "errors": api_errors}
    if api_inflight:
        api["inflight"] = api_inflight
    value["api"] = api
    return value
