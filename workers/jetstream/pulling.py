"""How a stream gets the messages of another one: ask the owner for a block, store it, ask again.

One call is on its way while the last block is being stored, so neither side waits for the other while there
is much to do; when there is nothing the call waits at the origin (origins.py). An origin that is not there
is asked for again and again. What a block becomes is the taker's business: mirrors.py, sources.py.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from storage.errors import StorageError
from workers.jetstream import apierrors, stream_json
from workers.jetstream.apierrors import ApiError
from workers.jetstream.stream_config import StreamSource
from workers.jetstream.transfer import Block
from workers.jetstream.transforms import make_transform

if TYPE_CHECKING:
    from workers.jetstream.stream import Stream

Body = dict[str, Any]

RETRY_SECONDS = 0.5
"""Between questions for an origin that is not there. nats-server asks every 10 s and more."""
REFUSED_SECONDS = 1.0
"""Before a message is tried again that the stream refused, as a full one does that discards new messages."""
PAGES_MAX = 2
UNSYNCED_BYTES_MAX = 8 << 20
"""Stored and not durable yet: more would make the next start after a kill longer, and gain nothing."""
BLOCK_MESSAGES = 4096
TRANSFORMED_MESSAGES = 512
"""Messages in a block: what is stored in some milliseconds, others' turns between."""
MESSAGES_AT_ONCE = 100
"""Messages that are stored one by one before others have their turn."""


Transformer = Callable[[bytes], bytes]


def transformer(source: StreamSource) -> Transformer | None:
    """Return what changes the subjects of a source's messages, None if nothing does."""
    found = (make_transform(one.src, one.dest) for one in source.subject_transforms)
    transforms = [transform for transform in found if transform is not None]
    if not transforms:
        return None

    def transformed(subject: bytes) -> bytes:
        for transform in transforms:
            changed = transform.apply_bytes(subject)
            if changed is not None:
                return changed
        return subject

    return transformed


class Taker(Protocol):
    """Stores what comes from one origin."""

    def position(self) -> Body:
        """Return where to begin: `next`, a sequence, or `time`, Unix ns; and `identity` if known."""

    def connected(self, identity: str, delivered: int) -> bool:
        """Take note of an origin that was found.

        Args:
            delivered: the sequence before the first that will come.
        Returns:
            False: it is not the one that was there before, and `position` says where to begin now.
        Raises:
            StorageError: nothing can be stored.
        """

    def lost(self) -> None:
        """Take note of an origin that is not there."""

    def take(self, block: Block) -> bool:
        """Store some messages of a block; return whether it is done with.

        Raises:
            ApiError, StorageError: the next message was refused, and will be tried again.
        """


class Puller:
    """Feeds a taker from one origin.

    Attributes:
        error: why the origin cannot be read, None: it can be, or was not asked yet.
        lag: messages of the origin that are not here yet, as far as known.
        heard_ns: when the origin answered last, Unix ns, 0: never.
    """

    def __init__(self, stream: Stream, source: StreamSource, taker: Taker) -> None:
        """Prepare; `start` asks for the first time."""
        engine = stream.engine
        self.error: ApiError | None = None
        self.lag = 0
        self.heard_ns = 0
        self._stream = stream
        self._engine = engine
        self._taker = taker
        self._source = source
        self._own_api = f"$JS.{engine.config.js_domain}.API" if engine.config.js_domain else ""
        self._owner = engine.ownership.owner(stream.account_name, source.name)
        if source.subject_transforms:
            filters = [transform.src for transform in source.subject_transforms]
        else:
            filters = [source.filter_subject] if source.filter_subject else []
        self._request = {
            "account": stream.account,
            "stream": source.name,
            "reader": " ".join((stream.name, *filters)),
            "filters": filters,
            "count": TRANSFORMED_MESSAGES if source.subject_transforms else BLOCK_MESSAGES,
        }
        self._pages: deque[tuple[Block, int]] = deque()
        self._next = 0
        # Stored durably, of what was read since the last connection.
        self._done = 0
        self._identity = ""
        # Answers to calls of an earlier connection are not taken.
        self._connection = 0
        self._is_asking = False
        self._is_working = False
        self._is_closed = False
        self._unsynced_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look for the origin, which must be a stream of this server that is read without a consumer."""
        external = self._source.external
        if self._source.consumer is None and (external is None or external.api == self._own_api):
            self._connect()
        else:
            name = self._source.name
            self._engine.log.limited("origin", f"JetStream: origin {name!r} cannot be read from here")

    def info(self, *, sequence: int = 0) -> dict[str, object]:
        """Return the StreamSourceInfo of its origin.

        Args:
            sequence: the last one taken over, where it is shown.
        """
        return stream_json.source_info(
            self._source,
            lag=self.lag,
            active_ns=max(0, self._engine.now_ns() - self.heard_ns) if self.heard_ns else -1,
            error=self.error,
            sequence=sequence,
        )

    def close(self) -> None:
        """Store nothing any more."""
        self._is_closed = True
        self._connection += 1
        self._pages.clear()
        if self._timer is not None:
            self._timer.cancel()

    # ---- asking

    def _connect(self) -> None:
        if self._pages:  # what has come is stored first: where to begin depends on it
            self._retry(RETRY_SECONDS)
            return
        self._connection += 1
        self._done = 0
        where = {"next": 1, "time": 0, "identity": "", **self._taker.position()}
        self._ask({**where, "is_first": True})

    def _ask(self, where: Body) -> None:
        self._is_asking = True
        connection = self._connection

        def answered(answer: Body | None, error: ApiError | None) -> None:
            if connection == self._connection:
                self._is_asking = False
                if error is not None or answer is None:
                    self._failed(error)
                elif where["is_first"]:
                    self._connected(answer)
                else:
                    self._answered(answer)

        self._engine.mesh.start_call(
            self._owner, "stream.read", {**self._request, "done": self._done, **where}, answered
        )

    def _ask_more(self) -> None:
        is_full = len(self._pages) >= PAGES_MAX or self._unsynced_bytes > UNSYNCED_BYTES_MAX
        if not (self._is_asking or is_full or self._timer is not None):
            self._ask({"next": self._next, "time": 0, "identity": self._identity, "is_first": False})

    def _failed(self, error: ApiError | None) -> None:
        # An owner that is being restarted is no error of the origin.
        if error is not None and not apierrors.cluster_not_avail.is_kind_of(error):
            self.error = error
            self._taker.lost()
        self._retry(RETRY_SECONDS)

    def _retry(self, seconds: float) -> None:
        """Begin again after a time."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._engine.later(seconds, self._reconnect)

    def _reconnect(self) -> None:
        self._timer = None
        self._connect()

    def _connected(self, answer: Body) -> None:
        self.error = None
        self.heard_ns = self._engine.now_ns()
        try:
            is_same = self._taker.connected(answer["identity"], answer.get("delivered", 0))
        except StorageError:
            self._retry(REFUSED_SECONDS)
            return
        if not is_same:
            self._connect()
            return
        self._identity = answer["identity"]
        self._answered(answer)

    def _answered(self, answer: Body) -> None:
        if answer["identity"] != self._identity:  # another stream of that name
            self._connect()
            return
        self.heard_ns = self._engine.now_ns()
        self._next = answer["next"]
        if answer["block"]:
            self._pages.append((Block(answer["block"]), answer["pending"]))
            self._work_soon()
        elif not self._pages:
            self.lag = answer["pending"]
        self._ask_more()

    # ---- storing

    def _work_soon(self) -> None:
        """Store when the loop has its turn, and not within a round of the data plane, whose clients wait."""
        if not self._is_working and self._pages and self._unsynced_bytes <= UNSYNCED_BYTES_MAX:
            self._is_working = True
            self._engine.later(0, self._work)
            self._engine.plane.return_soon()

    def _work(self) -> None:
        self._is_working = False
        if self._is_closed or not self._pages:
            return
        block, pending = self._pages[0]
        try:
            is_done = self._taker.take(block)
        except (ApiError, StorageError) as error:
            name = self._stream.name
            self._engine.log.limited("intake", f"JetStream: stream {name!r} takes no more: {error}")
            self._stored(0, 0)
            self._is_working = True
            self._engine.later(REFUSED_SECONDS, self._work)
            return
        self._stored(len(block) if is_done else 0, block.last_sequence)
        if is_done:
            self._pages.popleft()
            self.lag = pending
            self._ask_more()
        self._work_soon()

    def _stored(self, size: int, sequence: int) -> None:
        """Commit, and note what is on its way to the disk.

        Args:
            size: bytes of a block that is done with, 0: it is not.
            sequence: of the origin, the last in the block.
        """
        engine = self._engine
        self._stream.ingest.touch()
        engine.round_ended()
        if self._stream.is_memory:
            self._done = sequence if size else self._done
        elif size:
            self._unsynced_bytes += size
            connection = self._connection
            engine.durable().add_done_callback(
                lambda future: self._synced(size, sequence if connection == self._connection else 0, future)
            )

    def _synced(self, size: int, sequence: int, future: asyncio.Future[None]) -> None:
        if future.exception() is not None:  # nothing in files becomes durable any more
            self.close()
            return
        self._unsynced_bytes -= size
        self._done = max(self._done, sequence)
        self._work_soon()
        self._ask_more()
