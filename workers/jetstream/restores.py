"""Restoring a stream: STREAM.RESTORE tells where to send an archive; its end is answered when all is done.

    chunk   to $JS.SNAPSHOT.RESTORE.<stream>.<id>, with a reply subject; answered with nothing when it is in
    end     an empty chunk; answered as STREAM.CREATE, or with the error

The directory's worker checks the request; the owner of the stream listens, and asks the directory for the
name when the first bytes have shown to be an archive. Until the end the stream is in the store without a
definition: it is no stream yet, and a start finds and removes it. After an error chunks are taken and dropped
until the end, which tells it. Five seconds without a chunk end it without an answer.

What fails leaves nothing behind; in nats-server a stream stays if its archive ends early.

Source: nats-server server/jetstream_api.go, processStreamRestore; server/stream_backup.go.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from storage import memory
from storage.errors import StorageError
from storage.limits import NEVER_NS
from workers.jetstream import apierrors, gojson, headers, stream_checks
from workers.jetstream.advisories import PREFIX, unique_id
from workers.jetstream.apierrors import ApiError
from workers.jetstream.archive.errors import ArchiveError
from workers.jetstream.archive.items import (
    ArchivedMessage,
    Bounds,
    ConsumerRecord,
    Deleted,
    Item,
    StreamFacts,
)
from workers.jetstream.consumer_backups import BackedUpConsumer, read_record
from workers.jetstream.durations import NEVER, SECOND_NS, parse_ttl
from workers.jetstream.snapshots import Slices
from workers.jetstream.stream import Stream, definition
from workers.jetstream.stream_config import (
    COMPRESSION_S2,
    CONFIG,
    DISCARD_NEW,
    MEMORY,
    PERSIST_ASYNC,
    StreamConfig,
)
from workers.sinks import CallSink

if TYPE_CHECKING:
    from storage.limits import StreamLimits
    from storage.stream import StreamStore
    from workers.jetstream.account import Account
    from workers.jetstream.consumers import Consumers
    from workers.jetstream.engine import JetStream

Fields = dict[str, Any]

UNFINISHED = b""
"""The definition of a stream that is still being restored."""
STALL_SECONDS = 5.0
QUEUE_BYTES_MAX = 64 << 20
"""Chunks that wait; nats-server stops reading from the sender, here more than this ends the restore."""
DURABLE_BYTES = 8 << 20
"""What is restored between two waits for the disk, so that the journal does not fall behind."""
SUBJECT = re.compile(rb"[^\x00-\x20.]+(?:\.[^\x00-\x20.]+)*")
"""What goes into a control line for clients must not end it."""

_LOST = gojson.Struct(
    "server.LostStreamData",
    {"msgs": gojson.Array(gojson.UINT64, "[]uint64"), "bytes": gojson.UINT64},
)
REQUEST = gojson.Struct(
    "server.JSApiStreamRestoreRequest",
    {
        "config": CONFIG,
        "state": gojson.Struct(
            "server.StreamState",
            {
                "messages": gojson.UINT64,
                "bytes": gojson.UINT64,
                "first_seq": gojson.UINT64,
                "first_ts": gojson.TIME,
                "last_seq": gojson.UINT64,
                "last_ts": gojson.TIME,
                "num_subjects": gojson.INT,
                "subjects": gojson.COUNTS,
                "num_deleted": gojson.INT,
                "deleted": gojson.Array(gojson.UINT64, "[]uint64"),
                "lost": _LOST,
                "consumer_count": gojson.INT,
            },
            zero={},
        ),
    },
)


class RestoreStalled(Exception):
    """No chunk came for too long."""


class Restores:
    """The restores of this worker: those it lets happen as a directory and those it does as an owner."""

    def __init__(self, engine: JetStream) -> None:
        """Prepare; `start` begins to serve."""
        self._engine = engine
        self._running: dict[str, Restore] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Let others call."""
        serve = self._engine.mesh.serve
        serve("restore.begin", self._begin)
        serve("restore.admit", self._admit)
        serve("restore.admitted", self._admitted)
        serve("restore.confirm", self._confirm)
        serve("restore.abandon", self._abandon)

    def close(self) -> None:
        """Stop all of them."""
        for task in self._tasks:
            task.cancel()

    # ---- on the directory's worker

    async def request(self, account: int, name: str, members: Fields, client: Fields) -> Fields:
        """Check a request; return the members of the answer.

        Args:
            name: as the request's subject has it. members: of a REQUEST. client: who asks, for advisories.
        Raises:
            ApiError: 10056, 10128, 10130, and what configurations and limits are refused for.
        """
        engine = self._engine
        config = StreamConfig.from_members(members.get("config", {}))
        if not config.name:
            config = config.replace(name=name)
        if config.name != name:
            raise apierrors.stream_mismatch()
        if "/" in name or "\\" in name:
            raise apierrors.stream_name_contains_path_separators()
        directory = engine.directory(account)
        await directory.loaded.wait()
        config = stream_checks.check(config, engine.limits, lookup=directory.lookup)
        directory.check_room(config)
        if directory.lookup(name) is not None:
            raise apierrors.stream_name_exist_restore_failed()
        owner = engine.ownership.owner(engine.accounts[account].name, name)
        body = {"account": account, "config": config.to_json(), "client": client}
        return await engine.mesh.call(owner, "restore.begin", body)

    async def _admit(self, body: Fields) -> Fields:
        """Reserve the name, subjects and bytes of a stream whose archive has begun to come."""
        config = StreamConfig.from_members(body["config"])
        directory = self._engine.directory(body["account"])
        await directory.loaded.wait()
        if directory.lookup(config.name) is not None:
            raise apierrors.stream_name_exist_restore_failed()
        stream_checks.check_replicas(config)
        return await directory.admit(config, "restore.admitted", {"id": body["id"]})

    def _confirm(self, body: Fields) -> Fields:
        """Say whether a stream is still to be there: it may have been deleted while it came."""
        if self._engine.directory(body["account"]).lookup(body["stream"]) is None:
            raise apierrors.stream_not_found()
        return {}

    async def _abandon(self, body: Fields) -> Fields:
        """Give back what was reserved."""
        await self._engine.directory(body["account"]).delete(body["stream"])
        return {}

    # ---- on the owner

    def _begin(self, body: Fields) -> Fields:
        engine = self._engine
        account, config = engine.accounts[body["account"]], StreamConfig.from_members(body["config"])
        restore = Restore(engine, account, config, body["client"])
        subject = restore.start()
        self._running[restore.id] = restore
        task = asyncio.get_running_loop().create_task(restore.run())
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, restore.id))
        return {"deliver_subject": subject}

    def _ended(self, id: str, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        del self._running[id]

    def _admitted(self, body: Fields) -> Fields:
        """Say whether the restore that asked is still going on."""
        if body["id"] not in self._running:
            raise apierrors.stream_not_found()
        return {}


class Restore:
    """One stream on its way in.

    Attributes:
        id: what its subject ends with.
    """

    def __init__(
        self,
        engine: JetStream,
        account: Account,
        config: StreamConfig,
        client: Fields,
        *,
        stall_s: float = STALL_SECONDS,
    ) -> None:
        """Prepare; `start` begins to listen, `run` does the work.

        Args:
            config: checked. client: who asked, as advisories show it.
            stall_s: how long the next chunk may take.
        """
        self.id = unique_id()
        self._engine = engine
        self._account = account
        self._config = config
        self._client = client
        self._stall_s = stall_s
        self._title = f"restore for stream '{account.name} > {config.name}'"
        self._store_name = f"{account.name}/{config.name}"
        size_max = engine.config.max_payload
        # Only here: what reads archives takes long to load, and few workers are asked to.
        from workers.jetstream.archive.archive import ArchiveReader

        self._reader = ArchiveReader(config.name, message_bytes_max=size_max)
        self._queue: deque[tuple[bytes, bytes]] = deque()
        self._queued_bytes = 0
        self._came = asyncio.Event()
        self._listener: int | None = None
        self._store: StreamStore | None = None
        self._is_admitted = False
        self._last = self._last_timestamp_ns = self._created_ns = 0
        self._consumers: list[BackedUpConsumer] = []
        self._undurable_bytes = 0
        self._received_bytes = 0
        self._error: Exception | None = None

    # ---- chunks

    def start(self) -> str:
        """Listen for chunks; return where."""
        subject = f"$JS.SNAPSHOT.RESTORE.{self._config.name}.{self.id}"
        self._listener = self._engine.plane.listen(
            self._account.index, subject.encode(), CallSink(self._take)
        )
        return subject

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._engine.plane.unlisten(self._listener)
            self._listener = None

    def _take(self, _subject: bytes, reply: bytes, _headers: bytes, chunk: bytes, _client: int) -> None:
        if self._listener is None:
            return
        if not reply:
            self._error = self._error or ArchiveError(f"{self._title} requires reply subject for each chunk")
            chunk = b""
        elif self._queued_bytes + len(chunk) > QUEUE_BYTES_MAX:
            self._error = self._error or ArchiveError(f"{self._title} got more than it could take in")
            chunk = b""
        self._queue.append((chunk, reply))
        self._queued_bytes += len(chunk)
        self._came.set()
        if not chunk:
            self._stop_listening()

    async def _next_chunk(self) -> tuple[bytes, bytes]:
        """Return the next chunk and where to answer it; an empty one is the last.

        Raises:
            RestoreStalled: none came in time.
        """
        while not self._queue:
            self._came.clear()
            try:
                await asyncio.wait_for(self._came.wait(), self._stall_s)
            except TimeoutError:
                raise RestoreStalled(f"{self._title} is stalled") from None
        chunk, reply = self._queue.popleft()
        self._queued_bytes -= len(chunk)
        return chunk, reply

    # ---- from the first chunk to the last

    async def run(self) -> None:
        """Take the archive in, make the stream of it and answer."""
        engine = self._engine
        started = engine.now_ns()
        self._advise("RESTORE_CREATE", "restore_create", {"client": self._client})
        try:
            reply = await self._take_all()
            answer = await self._finish()
        except RestoreStalled as error:
            engine.log.warning(f"JetStream: {error}")
            await self._undo()
            return
        except asyncio.CancelledError:
            # The worker stops: what is in the store is removed by its next start.
            raise
        finally:
            self._stop_listening()
        fields = {
            "start": gojson.format_time(started),
            "end": gojson.format_time(engine.now_ns()),
            "bytes": self._received_bytes,
            "client": self._client,
        }
        self._advise("RESTORE_COMPLETE", "restore_complete", fields)
        if reply:
            kind = "io.nats.jetstream.api.v1.stream_create_response"
            engine.plane.publish(self._account.index, reply, gojson.encode({"type": kind, **answer}))

    def _advise(self, word: str, kind: str, fields: Fields) -> None:
        name = self._config.name
        subject = f"{PREFIX}STREAM.{word}.{name}"
        self._engine.advise(self._account.index, subject, f"advisory.v1.{kind}", {"stream": name, **fields})

    async def _take_all(self) -> bytes:
        """Take chunks in up to the last; return where that is answered."""
        while True:
            chunk, reply = await self._next_chunk()
            if not chunk:
                return reply
            self._received_bytes += len(chunk)
            if self._error is None:
                try:
                    await self._take_in(chunk)
                except (ArchiveError, ApiError, StorageError, OSError) as error:
                    self._error = error
                    await self._undo()
            self._engine.plane.publish(self._account.index, reply, b"")

    async def _take_in(self, chunk: bytes) -> None:
        """Bring a chunk into the store, in slices.

        Raises:
            ArchiveError, ApiError, StorageError, OSError: the restore has failed.
        """
        slices = Slices()
        for item in self._reader.feed(chunk):
            if isinstance(item, StreamFacts):
                await self._admit()
            self._apply(item)
            if slices.is_over:
                await slices.rest()
        if self._undurable_bytes >= DURABLE_BYTES:
            self._undurable_bytes = 0
            await self._engine.durable()

    async def _admit(self) -> None:
        """Have the name, and begin to store.

        Raises:
            ArchiveError: the directory says no.
        """
        engine = self._engine
        place = engine.ownership.directory(self._account.name)
        body = {"account": self._account.index, "config": self._config.to_json(), "id": self.id}
        try:
            await engine.mesh.call(place, "restore.admit", body)
        except ApiError as error:
            if apierrors.stream_name_exist_restore_failed.is_kind_of(error):
                raise
            # Go shows a wrapped API error with its number.
            raise ArchiveError(f"error adding stream: {error} ({error.err_code})") from error
        self._is_admitted = True
        self._store = self._make_store()

    def _make_store(self) -> StreamStore:
        config, limits = self._config, self._limits()
        if config.storage == MEMORY:
            return memory.memory_stream(limits)
        return self._engine.store.create_stream(
            self._store_name,
            UNFINISHED,
            limits=limits,
            compression=config.compression == COMPRESSION_S2,
            is_async=config.persist_mode == PERSIST_ASYNC,
        ).stream

    def _limits(self) -> StreamLimits:
        """Return the limits while restoring: what is too much makes room, and nothing is refused."""
        limits = replace(self._config.limits(), max_message_bytes=-1)
        if self._config.discard == DISCARD_NEW:
            limits = replace(limits, max_messages=-1, max_bytes=-1, max_messages_per_subject=-1)
        return replace(limits, discard_new=False, discard_new_per_subject=False)

    def _apply(self, item: Item) -> None:
        """Bring one piece into the store."""
        store = self._store
        assert store is not None
        if isinstance(item, ArchivedMessage):
            self._append(store, item)
        elif isinstance(item, Deleted):
            store.delete(item.sequence)
        elif isinstance(item, ConsumerRecord):
            others = [one.config for one in self._consumers]
            self._consumers.append(read_record(item, self._config, others, self._account))
        elif isinstance(item, StreamFacts):
            self._created_ns = item.created_ns
            self._skip_to(store, max(item.first_sequence, self._config.first_seq) - 1)
        elif isinstance(item, Bounds):
            self._skip_to(store, item.last_sequence)
            if item.first_sequence > store.state().first_seq:
                store.purge_to(item.first_sequence)

    def _append(self, store: StreamStore, message: ArchivedMessage) -> None:
        sequence, timestamp_ns, subject, block, payload = message
        size = len(block) + len(payload)
        if 0 <= self._config.max_msg_size < size:
            raise ArchiveError(f"message sequence {sequence} exceeds maximum message size")
        if SUBJECT.fullmatch(subject) is None:
            raise ArchiveError(f"message sequence {sequence} has the subject {subject[:100]!r}")
        expires_ns = self._expiry(message)
        if expires_ns and expires_ns < self._engine.now_ns():
            return
        if sequence <= self._last:
            text = "expected sequence does not match store"
            raise ArchiveError(f"failed to store message sequence {sequence}: {text}")
        self._skip_to(store, sequence - 1)
        try:
            stored = store.append(
                subject,
                block,
                payload,
                timestamp_ns,
                expires_ns=expires_ns if self._config.allow_msg_ttl else 0,
            )
        except ValueError as error:
            raise ArchiveError(f"failed to store message sequence {sequence}: {error}") from error
        assert stored == sequence, f"message {sequence} was stored as {stored}"
        self._last, self._last_timestamp_ns = sequence, timestamp_ns
        self._undurable_bytes += size + len(subject) + 64

    def _expiry(self, message: ArchivedMessage) -> int:
        """Return when a message's own time is over, 0: it has none."""
        value = headers.get(message.headers, headers.TTL) if message.headers else None
        if not value:
            return 0
        seconds = parse_ttl(value)
        if seconds is None:
            raise ArchiveError("failed to parse message TTL: invalid per-message TTL")
        if seconds == NEVER:
            return NEVER_NS
        return min(message.timestamp_ns + seconds * SECOND_NS, NEVER_NS - 1) if seconds else 0

    def _skip_to(self, store: StreamStore, last_sequence: int) -> None:
        if last_sequence > self._last:
            store.skip_to(last_sequence, self._last_timestamp_ns)
            self._last = last_sequence

    # ---- the end

    async def _finish(self) -> Fields:
        """Make a stream of what was restored; return the members of the answer."""
        try:
            if self._error is not None:
                raise self._error
            self._reader.finish()
            assert self._store is not None
            stream = await self._make_stream(self._store)
        except (ArchiveError, ApiError, StorageError, OSError) as error:
            await self._undo()
            self._engine.log.warning(f"JetStream: restore of stream {self._config.name!r} failed: {error}")
            return {"error": apierrors.stream_restore.wrap(error).to_json()}
        self._store, self._is_admitted = None, False
        stream.listen()
        self._engine.advisories.stream_action(stream.account, stream.name, "create")
        return stream.info()

    async def _make_stream(self, store: StreamStore) -> Stream:
        """Give what was restored its definition, limits and consumers; return the stream, durable."""
        engine, config = self._engine, self._config
        created_ns = self._created_ns or engine.now_ns()
        stream = Stream(engine, self._account, config, created_ns, store)
        await self._bring_consumers_back(stream.consumers)
        # Last, so that whenever there is a stream it is whole.
        if config.storage == MEMORY:
            store.apply_limits(config.limits())
            store.enforce_limits()
        else:
            kept = definition(self._account.name, config, created_ns)
            engine.store.update_stream(self._store_name, kept, config.limits())
        stream.consumers.removed()
        await engine.durable()
        await self._ask_directory("restore.confirm")
        engine.adopt(stream)
        return stream

    async def _bring_consumers_back(self, consumers: Consumers) -> None:
        slices = Slices()
        for consumer in self._consumers:
            consumers.restore(consumer)
            if slices.is_over:
                await slices.rest()
        for _ in consumers.drop_acknowledged():
            if slices.is_over:
                await slices.rest()

    async def _undo(self) -> None:
        """Leave nothing behind."""
        engine = self._engine
        if self._store is not None:
            self._store = None
            if self._config.storage != MEMORY:
                self._remove_from_store()
        if self._is_admitted:
            self._is_admitted = False
            try:
                await self._ask_directory("restore.abandon")
            except ApiError as error:
                engine.log.warning(f"JetStream: {self._title} could not give its name back: {error}")

    async def _ask_directory(self, method: str) -> None:
        engine = self._engine
        place = engine.ownership.directory(self._account.name)
        body = {"account": self._account.index, "stream": self._config.name}
        await engine.mesh.call(place, method, body)

    def _remove_from_store(self) -> None:
        try:
            self._engine.store.delete_stream(self._store_name)
        except StorageError as error:
            self._engine.log.warning(f"JetStream: {self._title} could not be undone: {error}")
        self._engine.commit_soon()
