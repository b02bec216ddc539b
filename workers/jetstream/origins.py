"""What other streams read from the streams that live here: a call `stream.read`, answered in bulk.

    request  account, stream, reader, identity, filters [subject], count, next, time, is_first, done
    answer   identity, next, delivered, pending, block

A reader names the first sequence that it wants and gets a block of what there is (transfer.pyx), where to
go on, and how many matching messages are left. When there is nothing, the call waits until there is, for
WAIT_SECONDS at most: an empty answer tells the reader that its origin is still there. Nothing is kept here
between two calls, so either worker may die at any time. Only what is durable is given away: an origin that
lost messages by kill -9 would use their sequences again, and a mirror could not tell.
"""

from __future__ import annotations

import asyncio
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from storage import queries
from storage.subjects import SubjectFilter
from workers.jetstream import transfer
from workers.jetstream.gojson import format_time
from workers.jetstream.stream_config import INTEREST, WORKQUEUE

if TYPE_CHECKING:
    from workers.jetstream.engine import JetStream
    from workers.jetstream.stream import Stream

Body = dict[str, Any]
Key = tuple[int, str]

WAIT_SECONDS = 1.0
"""How long a call waits for new messages; nats-server's heartbeats to mirrors and sources come as often."""
BLOCK_BYTES = 1 << 18
"""A block takes a millisecond or two to pack, and as long to store."""
FILTERS_MAX = 64
"""Filters kept for each stream; looking at all its subjects for every block would be slow."""

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def identity(created_ns: int) -> str:
    """Return what tells a stream from another one that had its name before.

    Source: nats-server server/stream.go identity, server/events.go getHash.
    """
    digest = sha256(format_time(created_ns).encode()).digest()
    return "".join(_DIGITS[byte % len(_DIGITS)] for byte in digest[:8])


class Origins:
    """Serves the readers of this worker's streams."""

    def __init__(self, engine: JetStream) -> None:
        """Prepare; `start` begins to serve."""
        self._engine = engine
        self._waiting: dict[Key, list[asyncio.Future[None]]] = {}
        self._filters: WeakKeyDictionary[Stream, dict[tuple[str, ...], SubjectFilter]] = WeakKeyDictionary()
        # Up to where a stream is known to be durable.
        self._durable: WeakKeyDictionary[Stream, int] = WeakKeyDictionary()

    def start(self) -> None:
        """Let others call."""
        self._engine.mesh.serve("stream.read", self._read)

    def appended(self, stream: Stream) -> None:
        """Wake the calls that wait for a stream's next message."""
        if self._waiting:
            for future in self._waiting.pop((stream.account, stream.name), ()):
                if not future.done():
                    future.set_result(None)

    async def _read(self, body: Body) -> Body:
        """Return the next messages, or an empty block when there were none for a while.

        Raises:
            ApiError: 10059, 10077.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + WAIT_SECONDS
        while True:
            stream = self._engine.stream(body["account"], body["stream"])
            answer: Body = {"identity": identity(stream.created_ns)}
            if body["identity"] not in ("", answer["identity"]):
                return answer
            filters = self._filter(stream, tuple(body["filters"]))
            self._take_out(stream, filters, body)
            start, answer["delivered"] = _start(stream, body)
            stop = await self._durable_up_to(stream)
            answer["block"], answer["next"] = transfer.pack(
                stream.store, filters, start, stop, body["count"], BLOCK_BYTES
            )
            answer["next"] = max(start, answer["next"])
            remaining_s = deadline - loop.time()
            if answer["block"] or body["is_first"] or remaining_s <= 0:
                answer["pending"] = queries.count_pending(stream.store, filters, answer["next"])
                return answer
            body = {**body, "next": answer["next"]}
            if stream.store.last_sequence <= stop:
                await self._wait(stream, remaining_s)

    def _take_out(self, stream: Stream, filters: SubjectFilter, body: Body) -> None:
        """Remove what the reader has stored where that is an acknowledgement."""
        done, retention = body["done"], stream.config.retention
        if retention == INTEREST:
            for sequence in stream.followers.heard(body["reader"], filters, done):
                stream.consumers.followed(sequence)
        elif retention != WORKQUEUE or done < stream.store.first_sequence:
            return
        else:
            queries.purge(stream.store, filters, before=done + 1)
        self._engine.commit_soon()

    async def _durable_up_to(self, stream: Stream) -> int:
        last = stream.store.last_sequence
        if not stream.is_memory and self._durable.get(stream, 0) < last:
            await self._engine.durable()
            self._durable[stream] = last
        return last

    async def _wait(self, stream: Stream, seconds: float) -> None:
        """Return when the stream has been appended to, or after a time."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        key = (stream.account, stream.name)
        self._waiting.setdefault(key, []).append(future)
        await asyncio.wait((future,), timeout=seconds)
        if not future.done():
            waiting = self._waiting[key]
            waiting.remove(future)
            if not waiting:
                del self._waiting[key]

    def _filter(self, stream: Stream, patterns: tuple[str, ...]) -> SubjectFilter:
        filters = self._filters.setdefault(stream, {})
        found = filters.get(patterns)
        if found is None:
            if len(filters) >= FILTERS_MAX:
                filters.clear()
            encoded = [pattern.encode("utf-8", "surrogateescape") or b">" for pattern in patterns]
            found = filters[patterns] = SubjectFilter(stream.store.subjects, encoded or [b">"])
        return found


def _start(stream: Stream, body: Body) -> tuple[int, int]:
    """Return the first sequence to look at, and the one before the first that will come.

    A reader that begins may ask for a time.
    """
    store = stream.store
    start = max(1, body["next"])
    if body["is_first"]:
        if body["time"]:
            start = queries.sequence_at(store, body["time"]) or store.last_sequence + 1
        start = max(start, store.first_sequence)
    return start, start - 1
