"""Direct get beyond its fast path: every form of request, batches, several subjects at once.

DirectGet (direct.pyx) answers the two commonest requests itself and hands the rest to `DirectRequests.take`.
Answers go straight to the reply subject; refusals are header blocks with a status. A long answer is sent in
slices, one per turn of the event loop, so that nobody waits for it.

Source: nats-server server/stream.go processDirectGetRequest, getDirectRequest, getDirectMulti.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Protocol

from storage import queries
from storage.errors import StorageError
from storage.reader import Message
from storage.stream import StreamStore
from workers.info import API_LEVEL
from workers.jetstream import headers as header_block
from workers.jetstream import message_lookup
from workers.jetstream.message_lookup import GetRequest, MessageLookup

EMPTY_REQUEST = b"408 Empty Request"
MALFORMED_REQUEST = b"408 Malformed Request"
BAD_REQUEST = b"408 Bad Request"
NOT_FOUND = b"404 Message Not Found"
NO_RESULTS = b"404 No Results"
TOO_MANY_RESULTS = b"413 Too Many Results"
REQUIRED_API_LEVEL = b"412 Required Api Level"

# As nats-server: more than these subjects in one multi_last are refused.
MULTI_LAST_MAX = 1024
# One slice of a batch. 256 small messages take some 0.3 ms; large ones are bounded by their bytes.
SLICE_MESSAGES = 256
SLICE_BYTES = 256 << 10

_NUMBER = re.compile(rb"[+-]?[0-9]+")


class Sender(Protocol):
    """What sends answers; DirectGet in production."""

    def send_message(
        self, reply: bytes, message: Message, num_pending: int, last_sequence: int, *, with_headers: bool
    ) -> bool:
        """Send a stored message with its place in the stream.

        Args:
            num_pending: of a batch, how many match after this one; -1: the message is no part of a batch.
            last_sequence: of a batch, the sequence sent before, 0: none.
        Returns:
            False: the stream no longer answers.
        """

    def send_status(self, reply: bytes, status: bytes) -> bool:
        """Send a header block with this status and nothing else, lines after the first divided by CR LF."""


class DirectRequests:
    """Answers direct get requests about one stream."""

    def __init__(
        self,
        store: StreamStore,
        sender: Sender,
        *,
        is_memory: bool,
        max_bytes: int,
        later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        """Answer from a store.

        Args:
            max_bytes: of a batch that does not say how much; the server's max_pending.
            later: calls a function after some seconds.
        """
        self._store = store
        self._sender = sender
        self._is_memory = is_memory
        self._max_bytes = max_bytes
        self._later = later
        self._lookup = MessageLookup(store)

    def take(self, key: str | None, reply: bytes, headers: bytes, body: bytes) -> None:
        """Answer one request.

        Args:
            key: what follows the stream's name in the request's subject, None: nothing does.
            reply: where the answer goes, not empty.
        """
        status = self._refusal_or_answer(key, reply, headers, body)
        if status:
            self._sender.send_status(reply, status)

    def _refusal_or_answer(self, key: str | None, reply: bytes, headers: bytes, body: bytes) -> bytes:
        """Return why the request is refused, b"": it is being answered."""
        if needs_newer_level(headers):
            return REQUIRED_API_LEVEL
        if key is None and not body:
            return EMPTY_REQUEST
        try:
            request = _parse(body)
        except ValueError:
            return MALFORMED_REQUEST
        if key is not None:
            return self._answer_key(key, request, reply)
        if not _names_something(request):
            return EMPTY_REQUEST
        if _is_contradictory(request):
            return BAD_REQUEST
        if request.multi_last:
            return self._answer_multi(request, reply)
        if request.batch:
            self._send_slice(reply, self._batch(request), not request.no_headers)
            return b""
        return self._answer_one(request, reply)

    def _answer_key(self, key: str, request: GetRequest, reply: bytes) -> bytes:
        names_other = _names_something(request) or request.batch or request.up_to_sequence
        if not key or names_other or request.up_to_time_ns is not None:
            return BAD_REQUEST
        return self._answer_one(GetRequest(last_by_subject=key, no_headers=request.no_headers), reply)

    def _answer_one(self, request: GetRequest, reply: bytes) -> bytes:
        message = self._read(self._lookup.resolve(request))
        if message is None:
            return NOT_FOUND
        self._sender.send_message(reply, message, -1, 0, with_headers=not request.no_headers)
        return b""

    def _answer_multi(self, request: GetRequest, reply: bytes) -> bytes:
        up_to = request.up_to_sequence
        if request.up_to_time_ns is not None:
            up_to = self._lookup.at_time(request.up_to_time_ns) - 1
            if up_to < self._store.first_sequence:
                return NO_RESULTS
        up_to = up_to or self._store.last_sequence
        if up_to > self._store.last_sequence and not self._is_memory:
            return NO_RESULTS
        sequences = queries.last_sequences(self._store, self._lookup.filter(request.multi_last), up_to)
        if len(sequences) == 0:
            return NO_RESULTS
        if len(sequences) > MULTI_LAST_MAX:
            return TOO_MANY_RESULTS
        wanted = [int(sequence) for sequence in sequences if sequence >= request.sequence]
        # Read at once: what is overwritten while slices are sent must still be in the answer, which shows the
        # stream at one moment. It is bounded by 1,024 messages and max_bytes.
        messages, pending = self._read_multi(wanted, request)
        if messages is None:
            return NOT_FOUND
        # As nats-server, no_hdr is ignored here.
        self._send_slice(reply, _multi(messages, pending, up_to), True)
        return b""

    def _read_multi(self, wanted: list[int], request: GetRequest) -> tuple[list[Message] | None, int]:
        """Return the messages to send and how many more there are; None: one of them cannot be read."""
        messages: list[Message] = []
        room = request.max_bytes or self._max_bytes
        for sequence in wanted:
            message = self._read(sequence)
            if message is None:
                return None, 0
            messages.append(message)
            room -= _size(message)
            if room <= 0 or len(messages) == request.batch:
                break
        return messages, len(wanted) - len(messages)

    def _batch(self, request: GetRequest) -> Iterator["_Answer"]:
        """Give the messages of a batch in order, and its end; they are read as they are sent."""
        subject = request.next_by_subject
        sequence = self._lookup.start(request)
        pending = self._lookup.pending(subject, sequence)
        valid_through = self._store.last_sequence
        room = request.max_bytes or self._max_bytes
        last = 0
        for index in range(request.batch):
            message = self._read_next(subject, sequence)
            if message is None and index == 0:
                yield NOT_FOUND
                return
            if message is None:
                break
            if not request.no_headers:
                # As nats-server: a batch without headers does not count down.
                pending = max(0, pending - 1)
            yield message, pending, last
            last, sequence = message.sequence, message.sequence + 1
            room -= _size(message)
            if room <= 0:
                break
        if self._store.last_sequence > valid_through:
            pending = self._lookup.pending(subject, sequence)
        yield _end_of_batch(pending, last)

    def _send_slice(self, reply: bytes, answers: Iterator["_Answer"], with_headers: bool) -> None:
        """Send some answers now, and see to it that the rest follows."""
        size = 0
        for count, answer in enumerate(answers, 1):
            if isinstance(answer, bytes):
                is_sent = self._sender.send_status(reply, answer)
            else:
                message, pending, last = answer
                size += _size(message)
                is_sent = self._sender.send_message(reply, message, pending, last, with_headers=with_headers)
            if not is_sent:
                return
            if count == SLICE_MESSAGES or size >= SLICE_BYTES:
                self._later(0, lambda: self._send_slice(reply, answers, with_headers))
                return

    def _read(self, sequence: int | None) -> Message | None:
        """Return a message, None: there is none, or it cannot be read, which the store has counted."""
        try:
            return self._store.get(sequence) if sequence else None
        except StorageError:
            return None

    def _read_next(self, subject: str, start: int) -> Message | None:
        """Return the next message of a subject or pattern, damaged ones left out."""
        while (sequence := self._lookup.next(subject, start)) is not None:
            message = self._read(sequence)
            if message is not None:
                return message
            start = sequence + 1
        return None


# A message with num_pending and the sequence before it, or a status.
_Answer = tuple[Message, int, int] | bytes


def _multi(messages: list[Message], pending: int, up_to: int) -> Iterator[_Answer]:
    """Give messages that were read before, and their end."""
    last = 0
    for index, message in enumerate(messages, 1):
        yield message, len(messages) - index + pending, last
        last = message.sequence
    yield _end_of_batch(pending, last) + b"\r\nNats-UpTo-Sequence: %d" % up_to


def _end_of_batch(pending: int, last: int) -> bytes:
    return b"204 EOB\r\nNats-Num-Pending: %d\r\nNats-Last-Sequence: %d" % (pending, last)


def _size(message: Message) -> int:
    """Return the bytes of a message that count for max_bytes."""
    return len(message.subject) + len(message.headers) + len(message.payload)


def _parse(body: bytes) -> GetRequest:
    """Read a request's body, b"" as one without members; it is one JSON document, and never strict.

    Raises:
        ValueError: it is not.
    """
    if not body:
        return GetRequest()
    json.loads(body.decode(errors="replace"))
    return message_lookup.parse(body, strict=False)


def _names_something(request: GetRequest) -> bool:
    return bool(
        request.sequence
        or request.last_by_subject
        or request.next_by_subject
        or request.multi_last
        or request.start_time_ns is not None
    )


def _is_contradictory(request: GetRequest) -> bool:
    return bool(
        request.is_contradictory
        or (request.last_by_subject and (request.batch > 0 or request.multi_last))
        or (request.next_by_subject and request.multi_last)
        or (request.up_to_sequence and request.up_to_time_ns is not None)
    )


def needs_newer_level(headers: bytes) -> bool:
    """Whether a request's headers ask for a higher API level than this one, or for none that is a number."""
    level = header_block.get(headers, header_block.REQUIRED_API_LEVEL)
    if not level:
        return False
    return not _NUMBER.fullmatch(level) or int(level) > API_LEVEL
