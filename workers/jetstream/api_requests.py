"""Requests of the JetStream API: what a call's function is given, and how it reads a body."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from workers.jetstream import apierrors, gojson

if TYPE_CHECKING:
    from workers.jetstream.engine import JetStream
    from workers.jetstream.stream import Stream

Fields = dict[str, Any]

NAMES_LIMIT = 1024
LIST_LIMIT = 256


class Request(NamedTuple):
    """A call on its way to whoever answers it.

    Attributes:
        account: index. subject: as the client sent it.
        tokens: what the pattern's wildcards stand for; `>` takes the rest as one.
        reply: where the answer goes; the gateway sends it, but some calls go on talking.
        client: who asks, as advisories show it.
    """

    account: int
    subject: str
    tokens: tuple[str, ...]
    headers: bytes
    body: bytes
    reply: str
    client: Fields

    @property
    def stream(self) -> str:
        """The name of the stream in the subject."""
        return self.tokens[0]

    @property
    def consumer(self) -> str:
        """The name of the consumer in the subject."""
        return self.tokens[1]


def is_empty(body: bytes) -> bool:
    """Return whether a body says nothing: no bytes, or an empty JSON object."""
    if not body or body == b"{}":
        return True
    try:
        return bool(orjson.loads(body) == {})
    except orjson.JSONDecodeError:
        return False


def decode(engine: JetStream, body: bytes, struct: gojson.Struct) -> Fields:
    """Return the members of a body.

    Raises:
        ApiError: 10025.
    """
    try:
        return gojson.decode(body, struct, strict=engine.config.js_strict)
    except gojson.DecodeError as error:
        raise apierrors.invalid_json(error) from error


def decode_optional(engine: JetStream, body: bytes, struct: gojson.Struct) -> Fields:
    """Return the members of a body that counts only if it looks like JSON."""
    return decode(engine, body, struct) if gojson.is_object_or_array(body) else {}


def require_empty(request: Request) -> None:
    """Refuse a body where none belongs."""
    if not is_empty(request.body):
        raise apierrors.not_empty_request()


def the_stream(engine: JetStream, request: Request) -> Stream:
    """Return the stream of the subject, which this worker owns.

    Raises:
        ApiError: 10059.
    """
    return engine.stream(request.account, request.stream)
