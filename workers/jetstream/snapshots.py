"""Backing a stream up: STREAM.SNAPSHOT answers, then an archive is sent in chunks as fast as it is taken.

    chunk   to the deliver subject, reply $JS.SNAPSHOT.ACK.<stream>.<id>.<length>.<index>; an empty message
            there makes room for another in the window
    rest    what is shorter than a chunk: no reply
    end     empty; status 204 after a chunk with reply, 408 or 500 when something went wrong, else no header

Messages are read as they are sent: those that come meanwhile stay out, those that go meanwhile are left out.
The work is done in slices, so that the worker's other business goes on.

Source: nats-server server/jetstream_api.go, streamSnapshot; server/stream_backup.go.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from storage.errors import StorageError
from workers.jetstream import apierrors, gojson, stream_json
from workers.jetstream.advisories import PREFIX, unique_id
from workers.jetstream.asset_metadata import config_json
from workers.jetstream.consumer_backups import record_of
from workers.jetstream.subjects import is_valid_literal
from workers.sinks import CallSink

if TYPE_CHECKING:
    from workers.jetstream.engine import JetStream
    from workers.jetstream.stream import Stream

Fields = dict[str, Any]

KIB, MIB = 1 << 10, 1 << 20
CHUNK_BYTES, CHUNK_BYTES_MIN, CHUNK_BYTES_MAX = 128 * KIB, KIB, MIB
WINDOW_BYTES, WINDOW_BYTES_MIN, WINDOW_BYTES_MAX = 8 * MIB, KIB, 32 * MIB
ACK_SECONDS = 5.0
INTEREST_SECONDS = 2.0
POLL_SECONDS = 0.05
START_SECONDS = 0.1
"""How long the first chunk waits. jsm.go subscribes after the answer, and what comes before that goes to its
shared inbox, which drops it."""
SLICE_SECONDS = 0.002
READ_MESSAGES, READ_BYTES = 256, 64 * KIB
END = b"NATS/1.0 204\r\n\r\n"

REQUEST = gojson.Struct(
    "server.JSApiStreamSnapshotRequest",
    {
        "deliver_subject": gojson.STRING,
        "no_consumers": gojson.BOOL,
        "chunk_size": gojson.INT,
        "window_size": gojson.INT,
        "jsck": gojson.BOOL,
    },
)


class SnapshotFailed(Exception):
    """The backup ends here.

    Attributes:
        status: code and text of the end message's status line.
    """

    def __init__(self, status: str, text: str) -> None:
        super().__init__(text)
        self.status = status


class Slices:
    """Lets others run after every SLICE_SECONDS of work."""

    def __init__(self) -> None:
        self._until = time.monotonic() + SLICE_SECONDS

    @property
    def is_over(self) -> bool:
        """Whether it is time to await `rest`."""
        return time.monotonic() >= self._until

    async def rest(self) -> None:
        """Let others run, and begin the next slice."""
        await asyncio.sleep(0)
        self._until = time.monotonic() + SLICE_SECONDS


class Snapshots:
    """The backups that this worker's streams are sent as."""

    def __init__(self, engine: JetStream) -> None:
        self._engine = engine
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, stream: Stream, request: Fields, client: Fields) -> Fields:
        """Start sending a stream; return the members of the answer.

        Args:
            request: members of a REQUEST. client: who asked, as advisories show it.
        Raises:
            ApiError: 10015.
        """
        if not is_valid_literal(request.get("deliver_subject", "")):
            raise apierrors.snapshot_deliver_subject_invalid()
        sender = SnapshotSender(self._engine, stream, request, client)
        task = asyncio.get_running_loop().create_task(sender.run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return {"config": config_json(stream.config), "state": sender.state}

    def close(self) -> None:
        """Stop all of them."""
        for task in self._tasks:
            task.cancel()


class SnapshotSender:
    """One backup on its way.

    Attributes:
        state: the StreamState when it began.
    """

    def __init__(self, engine: JetStream, stream: Stream, request: Fields, client: Fields) -> None:
        """Fix what is sent; `run` sends it. The chunk and window sizes are brought between their bounds."""
        self._engine = engine
        self._stream = stream
        self._client = client
        self._target = request["deliver_subject"].encode()
        chunk_bytes = request.get("chunk_size", 0) or CHUNK_BYTES
        window_bytes = request.get("window_size", 0) or WINDOW_BYTES
        self._chunk_bytes = min(max(CHUNK_BYTES_MIN, chunk_bytes), CHUNK_BYTES_MAX)
        window_bytes = min(max(WINDOW_BYTES_MIN, window_bytes), WINDOW_BYTES_MAX)
        self._room = max(window_bytes, self._chunk_bytes) // self._chunk_bytes
        self._acks = f"$JS.SNAPSHOT.ACK.{stream.name}.{unique_id()}"
        self._acknowledged = asyncio.Event()
        self._had_interest = False
        self._sent = 0
        state = stream.store.state()
        self._first, self._last = state.first_seq, state.last_seq
        self._has_consumers = not request.get("no_consumers", False)
        self.state = stream_json.stream_state(state, consumer_count=stream.consumers.count)

    async def run(self) -> None:
        """Send everything, or say at the end why not."""
        stream, engine = self._stream, self._engine
        started = gojson.format_time(engine.now_ns())
        self._advise("SNAPSHOT_CREATE", "snapshot_create", {"state": self.state, "client": self._client})
        acks = CallSink(self._acknowledge)
        listener = engine.plane.listen(stream.account, f"{self._acks}.>".encode(), acks)
        error: Fields = {}
        try:
            await self._wait_for_interest()
            await self._send_all()
            self._publish(b"", headers=END if self._sent else b"")
        except SnapshotFailed as failure:
            error = {"error": str(failure)}
            self._publish(b"", headers=f"NATS/1.0 {failure.status}\r\n\r\n".encode())
            engine.log.warning(f"JetStream: backup of stream {stream.name!r} failed: {failure}")
        finally:
            engine.plane.unlisten(listener)
        ended = gojson.format_time(engine.now_ns())
        fields = {"start": started, "end": ended, "client": self._client, **error}
        self._advise("SNAPSHOT_COMPLETE", "snapshot_complete", fields)

    def _advise(self, word: str, kind: str, fields: Fields) -> None:
        stream = self._stream
        subject = f"{PREFIX}STREAM.{word}.{stream.name}"
        self._engine.advise(stream.account, subject, f"advisory.v1.{kind}", {"stream": stream.name, **fields})

    def _publish(self, payload: bytes, *, reply: bytes = b"", headers: bytes = b"") -> None:
        self._engine.plane.publish(self._stream.account, self._target, payload, reply=reply, headers=headers)

    def _acknowledge(
        self, _subject: bytes, _reply: bytes, _headers: bytes, _body: bytes, _client: int
    ) -> None:
        self._room += 1
        self._acknowledged.set()

    async def _wait_for_interest(self) -> None:
        """Give the receiver time to subscribe; whoever never does is found out when no acks come."""
        await asyncio.sleep(START_SECONDS)
        deadline = time.monotonic() + INTEREST_SECONDS
        while not self._has_interest() and time.monotonic() < deadline:
            await asyncio.sleep(POLL_SECONDS)

    def _has_interest(self) -> bool:
        has = self._engine.plane.has_interest(self._stream.account, self._target)
        self._had_interest = self._had_interest or has
        return has

    async def _wait_for_room(self) -> None:
        """Return when another chunk may be sent.

        Raises:
            SnapshotFailed: the receiver is gone or does not acknowledge.
        """
        deadline = time.monotonic() + ACK_SECONDS
        while True:
            if not self._has_interest() and self._had_interest:
                raise SnapshotFailed("408 No Interest", "no interest")
            if self._room:
                return
            if time.monotonic() >= deadline:
                raise SnapshotFailed("408 No Flow Response", "no flow response")
            self._acknowledged.clear()
            try:
                await asyncio.wait_for(self._acknowledged.wait(), POLL_SECONDS)
            except TimeoutError:
                continue

    async def _send_all(self) -> None:
        """Send the archive in chunks."""
        pending = bytearray()
        slices = Slices()
        try:
            for piece in self._pieces():
                pending += piece
                while len(pending) >= self._chunk_bytes:
                    await self._send_chunk(bytes(pending[: self._chunk_bytes]))
                    del pending[: self._chunk_bytes]
                if slices.is_over:
                    await slices.rest()
        except (StorageError, OSError) as error:
            raise SnapshotFailed(f"500 {error}".replace("\n", " "), str(error)) from error
        if pending:
            await self._wait_for_room()
            self._publish(bytes(pending))

    async def _send_chunk(self, chunk: bytes) -> None:
        await self._wait_for_room()
        self._room -= 1
        self._sent += 1
        self._publish(chunk, reply=f"{self._acks}.{len(chunk)}.{self._sent}".encode())

    def _pieces(self) -> Iterator[bytes]:
        # Only here: what writes archives takes long to load, and few workers are asked to.
        from workers.jetstream.archive import archive

        consumers = self._stream.consumers.shown() if self._has_consumers else []
        state = gojson.encode(self.state | {"consumer_count": len(consumers)})
        records = (record_of(consumer, self._last) for consumer in consumers)
        return archive.write(state, self._engine.now_ns(), records, self._messages())

    def _messages(self) -> Iterator[tuple[int, int, bytes, bytes, bytes]]:
        """Yield the messages up to what was the last one, as they are now."""
        stream = self._stream
        after = self._first
        while after <= self._last:
            if self._engine.streams.get((stream.account, stream.name)) is not stream:
                raise SnapshotFailed("500 store is closed", "store is closed")
            batch = stream.store.read(after, READ_MESSAGES, READ_BYTES)
            for message in batch:
                if message.sequence > self._last:
                    return
                yield message.astuple()
            if not batch:
                return
            after = batch[-1].sequence + 1
