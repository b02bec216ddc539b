"""API calls about the messages of one stream: STREAM.MSG.GET, STREAM.MSG.DELETE, STREAM.PURGE.

Two steps each, because a request that is wrong in itself is refused before its stream is looked for:
`parse_*` reads the body; the call takes the stream and what was read, and returns the answer's fields. Both
raise the ApiError to answer with. The caller has checked the account and writes the answer.

Source: nats-server server/jetstream_api.go jsMsgGetRequest, jsMsgDeleteRequest, jsStreamPurgeRequest.
"""

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from storage import queries
from storage.errors import StorageError
from storage.reader import Message
from storage.stream import StreamStore
from storage.subjects import SubjectFilter
from workers.jetstream import apierrors, gojson, message_lookup

if TYPE_CHECKING:
    from workers.jetstream.stream import Stream

_DELETE_REQUEST = gojson.Struct(
    "server.JSApiMsgDeleteRequest", {"seq": gojson.UINT64, "no_erase": gojson.BOOL}
)
_PURGE_REQUEST = gojson.Struct(
    "server.JSApiStreamPurgeRequest", {"seq": gojson.UINT64, "filter": gojson.STRING, "keep": gojson.UINT64}
)


@dataclass(frozen=True, slots=True)
class DeleteRequest:
    """The body of STREAM.MSG.DELETE; `erase`: overwrite the message's bytes."""

    sequence: int
    erase: bool


@dataclass(frozen=True, slots=True)
class PurgeRequest:
    """The body of STREAM.PURGE.

    Attributes:
        subject: literal or pattern, "" for every subject.
        sequence: only messages below it, 0: no bound.
        keep: how many of the newest to leave, 0: none.
    """

    subject: str = ""
    sequence: int = 0
    keep: int = 0


def parse_msg_get(body: bytes, *, strict: bool) -> message_lookup.GetRequest:
    """Read the body of STREAM.MSG.GET.

    Raises:
        ApiError: 10003, 10025.
    """
    _require_members(body)
    try:
        request = message_lookup.parse(body, strict=strict)
    except gojson.DecodeError as error:
        raise apierrors.invalid_json(error) from error
    names_one = request.sequence or request.last_by_subject or request.next_by_subject
    if (
        request.batch > 0
        or request.max_bytes > 0
        or request.is_contradictory
        or not (names_one or request.start_time_ns is not None)
    ):
        raise apierrors.bad_request()
    return request


def parse_msg_delete(body: bytes, *, strict: bool) -> DeleteRequest:
    """Read the body of STREAM.MSG.DELETE.

    Raises:
        ApiError: 10003, 10025.
    """
    _require_members(body)
    given = _decode(body, _DELETE_REQUEST, strict)
    return DeleteRequest(given.get("seq", 0), not given.get("no_erase"))


def parse_purge(body: bytes, *, strict: bool) -> PurgeRequest:
    """Read the body of STREAM.PURGE; what is no JSON object or array counts as none.

    Raises:
        ApiError: 10003, 10025.
    """
    if not gojson.is_object_or_array(body):
        return PurgeRequest()
    given = _decode(body, _PURGE_REQUEST, strict)
    request = PurgeRequest(given.get("filter", ""), given.get("seq", 0), given.get("keep", 0))
    if request.sequence and request.keep:
        raise apierrors.bad_request()
    return request


def msg_get(stream: "Stream", request: message_lookup.GetRequest) -> dict[str, object]:
    """Answer STREAM.MSG.GET: one message by sequence, subject or time.

    Raises:
        ApiError: 10037.
    """
    sequence = message_lookup.MessageLookup(stream.store).resolve(request)
    try:
        message = stream.store.get(sequence) if sequence else None
    except StorageError:
        # The store has counted and logged it; to the client a message that cannot be read is none.
        message = None
    if message is None:
        raise apierrors.no_message_found()
    return {"message": message_fields(message, with_headers=not request.no_headers)}


def message_fields(message: Message, *, with_headers: bool = True) -> dict[str, object]:
    """Return a stored message as the API shows it."""
    fields: dict[str, object] = {
        "subject": message.subject.decode(errors="replace"),
        "seq": message.sequence,
    }
    if message.headers and with_headers:
        fields["hdrs"] = base64.b64encode(message.headers).decode()
    if message.payload:
        fields["data"] = base64.b64encode(message.payload).decode()
    fields["time"] = gojson.format_time(message.timestamp_ns)
    return fields


def msg_delete(stream: "Stream", request: DeleteRequest) -> dict[str, object]:
    """Answer STREAM.MSG.DELETE: take one message out, overwritten unless the request says `no_erase`.

    Raises:
        ApiError: 10043, 10057, 10109.
    """
    if stream.config.sealed:
        raise apierrors.stream_sealed()
    if stream.config.deny_delete:
        raise apierrors.stream_msg_delete_failed("message delete not permitted")
    if not stream.is_memory:
        _check_range(stream.store, request.sequence)
    try:
        is_deleted = stream.store.delete(request.sequence, erase=request.erase)
    except StorageError as error:
        raise apierrors.stream_msg_delete_failed(error) from error
    if not is_deleted:
        raise apierrors.sequence_not_found(request.sequence)
    stream.consumers.removed()
    stream.engine.commit_soon()
    return {"success": True}


def purge(stream: "Stream", request: PurgeRequest) -> dict[str, object]:
    """Answer STREAM.PURGE: take messages out, all or by subject, up to a sequence or down to a count.

    Raises:
        ApiError: 10051, 10109, 10110; the answer then says `"purged":0` too.
    """
    if stream.config.sealed:
        raise apierrors.stream_sealed()
    if stream.config.deny_purge:
        raise apierrors.stream_purge_failed("stream purge not permitted")
    try:
        purged = purge_store(stream.store, request)
    except StorageError as error:
        raise apierrors.stream_general_error(error) from error
    stream.consumers.removed()
    stream.engine.commit_soon()
    return {"success": True, "purged": purged}


def purge_store(store: StreamStore, request: PurgeRequest) -> int:
    """Take messages out of a store and return how many.

    A sequence beyond the last one, without a subject, also becomes that of the message that comes next.
    """
    if request.sequence == 1:
        return 0
    if request.subject in ("", ">") and request.sequence > store.last_sequence + 1:
        purged = store.purge_all()
        store.skip_to(request.sequence - 1, store.last_timestamp_ns)
        return purged
    subjects = SubjectFilter(store.subjects, (request.subject.encode(errors="surrogatepass") or b">",))
    return queries.purge(store, subjects, before=request.sequence, keep=request.keep)


def _check_range(store: StreamStore, sequence: int) -> None:
    """Refuse what lies outside of a file stream, in nats-server's words; memory streams do not tell."""
    if sequence and store.messages and store.first_sequence <= sequence <= store.last_sequence:
        return
    is_beyond = sequence > store.last_sequence
    raise apierrors.stream_msg_delete_failed("stream store EOF" if is_beyond else "no message found")


def _require_members(body: bytes) -> None:
    """Refuse an empty body and an empty object."""
    try:
        is_empty = not body or json.loads(body) == {}
    except ValueError:
        return
    if is_empty:
        raise apierrors.bad_request()


def _decode(body: bytes, struct: gojson.Struct, strict: bool) -> dict[str, Any]:
    try:
        return gojson.decode(body, struct, strict=strict)
    except gojson.DecodeError as error:
        raise apierrors.invalid_json(error) from error
