"""JetStream on one worker: the store and its commits, the streams that live here, time, the way to others.

A worker opens its part of the store before it joins the others, so that everybody learns of its streams with
its interest. What a round of the data plane appended is committed when the round ends; acknowledgements leave
when the commit is durable. After a failed write the worker's file streams refuse to change, with an error to
whoever asks, and everything else goes on.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from storage import memory
from storage.errors import StorageError
from storage.store import Store, StoreConfig
from workers.jetstream import apierrors, gojson
from workers.jetstream.account import Account
from workers.jetstream.advisories import Advisories, unique_id
from workers.jetstream.apierrors import ApiError
from workers.jetstream.audience import Pumps
from workers.jetstream.delivery import A_CLIENT, A_RING, NOTHING, held_up_by
from workers.jetstream.directory import Directory
from workers.jetstream.gateway import Gateway
from workers.jetstream.ingest import Acks
from workers.jetstream.interest import PushInterest
from workers.jetstream.log_bridge import hear_others
from workers.jetstream.mesh import Body, Done, Later, Mesh
from workers.jetstream.origins import Origins
from workers.jetstream.ownership import Ownership
from workers.jetstream.registry import Registry
from workers.jetstream.restores import Restores
from workers.jetstream.snapshots import Snapshots
from workers.jetstream.stream import Stream, definition, read_definition
from workers.jetstream.stream_config import COMPRESSION_S2, MEMORY, PERSIST_ASYNC, StreamConfig
from workers.jetstream.stream_rules import ServerLimits

if TYPE_CHECKING:
    from workers.config import WorkerConfig
    from workers.dataplane import DataPlane
    from workers.log import Log

DEFAULT_ACCOUNTS = (Account(0, "$G"),)
EXPIRY_SECONDS = 0.25
"""How often streams are looked at whose messages end by themselves."""
HOUSEKEEPING_NS = 1_000_000_000
BACKLOG_BYTES_MAX = 64 << 20
"""What may wait for the journal before publishers are held back."""
HELD_UP_SECONDS = 0.001
"""How long deliveries wait when a client reads too slowly."""
CLOSE_SECONDS = 8.0
"""How long a stopping worker takes to checkpoint; what was acknowledged is safe without."""


class JetStream:
    """The JetStream of one worker.

    Attributes:
        plane, config, log: of the worker. store: of the streams in files.
        streams: those that live here, by account index and name.
        acks: acknowledgements that wait for the store.
        has_failed: nothing in files becomes durable any more.
        limits: for the configuration of every stream.
        memory_bytes_max, file_bytes_max: what streams of the server may reserve.
        api_prefixes: what subjects of the API begin with.
        is_joined: other workers can be reached.
        interest: looks for listeners of push consumers.
        origins: what streams of this worker give to mirrors. sourcing: streams that keep how far sources are.
    """

    def __init__(
        self,
        plane: DataPlane,
        config: WorkerConfig,
        log: Log,
        loop: asyncio.AbstractEventLoop,
        placement: tuple[int, ...],
        client_of: Callable[[int], dict[str, Any]],
        *,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Open the store and recover what is in it; `start` lets messages in.

        Args:
            placement: worker of each slot.
            client_of: client id → what advisories show of a client of this worker.
            clock_ns: Unix time.
        Raises:
            OSError: the store's directory cannot be used at all.
        """
        self.plane = plane
        self.config = config
        self.log = log
        self.now_ns = clock_ns
        self.accounts = {account.index: replace(account) for account in DEFAULT_ACCOUNTS}
        self.streams: dict[tuple[int, str], Stream] = {}
        self.ownership = Ownership(placement)
        self.api_prefixes = [b"$JS.API."]
        if config.js_domain:
            self.api_prefixes.append(b"$JS.%s.API." % config.js_domain.encode())
        self._loop = loop
        self._waiting: deque[tuple[int, Callable[[ApiError | None], None]]] = deque()
        self._commit_is_set = self._commit_is_wanted = False
        self._is_ending = False
        self.has_failed = False
        self._housekeeping_ns = 0
        self._timer: asyncio.TimerHandle | None = None
        self.acks = Acks(plane)
        self.pumps = Pumps()
        self._pump_is_set = False
        self.interest = PushInterest(plane, self.later, clock_ns)
        self.advisories = Advisories(plane, clock_ns, config.js_domain)
        self.mesh = Mesh(plane, config.index, unique_id(), loop, log)
        self.directories = {
            index: Directory(self, account)
            for index, account in self.accounts.items()
            if self.ownership.directory(account.name) == config.index
        }
        self.limits = ServerLimits()
        self.snapshots = Snapshots(self)
        self.restores = Restores(self)
        self.origins = Origins(self)
        self.is_joined = False
        self.sourcing: set[Stream] = set()
        self._registry = Registry(self)
        self._gateway = Gateway(self, client_of)
        path = os.path.join(config.store_dir, f"worker-{config.index}")
        os.makedirs(path, exist_ok=True)
        self.memory_bytes_max = _or(config.js_max_memory, _memory_bytes)
        self.file_bytes_max = _or(config.js_max_file, lambda: _disk_bytes(path))
        hear_others(log)
        self.store = Store(path, config=StoreConfig(sync_interval_ns=config.sync_interval_ns))
        self._recover()

    # ---- life

    def _recover(self) -> None:
        by_name = {account.name: account for account in self.accounts.values()}
        for name, directory in sorted(self.store.streams.items()):
            if not directory.control.definition:  # a restore that did not come to its end
                self.store.delete_stream(name)
                continue
            try:
                account_name, config, created_ns = read_definition(directory.control.definition)
                account = by_name[account_name]
            except (ValueError, KeyError) as error:
                self.log.error(f"JetStream: stream {name!r} is left alone: {error!r}")
                continue
            stream = Stream(self, account, config, created_ns, directory.stream)
            stream.consumers.recover()
            self.adopt(stream)
            if self.ownership.owner(account.name, config.name) != self.config.index:
                self.log.error(f"JetStream: stream {name!r} belongs to another worker")
        if self.streams:
            messages = sum(stream.store.messages for stream in self.streams.values())
            self.log.info(f"JetStream: recovered {len(self.streams)} streams with {messages} messages")

    def adopt(self, stream: Stream) -> None:
        """Count a stream among those that live here."""
        self.streams[stream.account, stream.name] = stream

    def start(self) -> None:
        """Let messages, requests and calls in; before the worker tells others its interest."""
        for descriptor in self.store.notify_fds:
            self.plane.watch(descriptor)
        self.plane.on_notified = self.poll
        self.plane.on_room = self._pump
        self.plane.on_letters_taken = self.round_ended
        self.mesh.start()
        self._registry.start()
        self.origins.start()
        self.restores.start()
        self._gateway.start()
        for stream in self.streams.values():
            stream.listen()
        self._tick()

    def join(self) -> None:
        """Learn what others have and tell what this worker has, when they can be reached."""
        self.is_joined = True
        self._registry.join()
        for stream in self.streams.values():
            stream.follow()

    def peer_lost(self, worker: int) -> None:
        """Take note that another worker has died."""
        self.mesh.peer_lost(worker)

    def end_requests(self) -> None:
        """Tell everybody who waits for messages that this server stops."""
        for stream in self.streams.values():
            stream.consumers.end_requests(409, "Server Shutdown")

    async def close(self) -> None:
        """Take nothing more and checkpoint, for a bounded time; acknowledged messages are safe anyhow."""
        if self._timer is not None:
            self._timer.cancel()
        self._gateway.close()
        self._registry.close()
        self.mesh.close()
        self.snapshots.close()
        self.restores.close()
        for stream in self.streams.values():
            stream.close()
        self.plane.on_notified = self.plane.on_room = self.plane.on_letters_taken = _nothing
        closed = asyncio.Event()

        def close_store() -> None:
            try:
                self.store.close()
            except StorageError as error:
                self.log.error(f"JetStream: store not closed cleanly: {error}")
            self._loop.call_soon_threadsafe(closed.set)

        # Not one of the loop's own threads: the process must be able to end while this one is stuck.
        threading.Thread(target=close_store, name="jetstream-close", daemon=True).start()
        try:
            await asyncio.wait_for(closed.wait(), CLOSE_SECONDS)
        except TimeoutError:
            self.log.warning(
                "JetStream: the store takes too long to close; the next start replays its journal"
            )

    # ---- the store

    def round_ended(self) -> None:
        """Commit what a round of the data plane appended, and what acknowledgements of it wait for."""
        self._is_ending = True
        has_new = self._tell_of_new()
        if len(self.pumps):
            self._pump()
        self._is_ending = False
        if has_new or self.acks.waiting or self._commit_is_wanted:
            self.commit()
            self._watch_backlog()

    def _watch_backlog(self) -> None:
        """Hold publishers back while the disk is far behind what they send."""
        backlog_bytes = self.store.journal.backlog_bytes
        if self.plane.is_store_full:
            self.plane.is_store_full = backlog_bytes > BACKLOG_BYTES_MAX // 2
        elif backlog_bytes > BACKLOG_BYTES_MAX:
            self.plane.is_store_full = True

    def _tell_of_new(self) -> bool:
        """Tell those who read a stream of what was stored in it; return whether there was anything."""
        touched = self.acks.take_touched()
        for stream in touched:
            stream.consumers.appended()
            self.origins.appended(stream)
        return bool(touched)

    # ---- consumers

    def pump_soon(self) -> None:
        """Let consumers deliver that have something to do."""
        if self.plane.takes_letters and not self._is_ending:
            # The end of the round does it; what the event loop has to do would end the plane's lingering.
            return
        if not self._pump_is_set and len(self.pumps):
            self._pump_is_set = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_is_set = False
        held_up = held_up_by(self.plane)
        if held_up == NOTHING:
            if self.pumps.run():
                self.pump_soon()
        else:
            self._pump_is_set = True
            if held_up == A_CLIENT:
                self._loop.call_later(HELD_UP_SECONDS, self._pump)
        self.plane.run(may_linger=held_up == A_RING or not self._pump_is_set)

    def commit_soon(self) -> None:
        """Commit what was written to the store outside of a message."""
        if self.plane.takes_letters:
            self._commit_is_wanted = True
        elif not self._commit_is_set:
            self._commit_is_set = True
            self._loop.call_soon(self._commit_written)

    def _commit_written(self) -> None:
        if self._tell_of_new():
            self.pump_soon()
        self.commit()

    def when_durable(self, then: Callable[[ApiError | None], None]) -> None:
        """Commit, and call `then` when all that was written before is on stable storage; that may be at once.

        Args:
            then: gets None, or 10077: it cannot be stored.
        """
        number = self.commit()
        if number is None:
            then(self._failure())
        elif number <= self.store.durable_round:
            then(None)
        else:
            self._waiting.append((number, then))

    def durable(self) -> asyncio.Future[None]:
        """Commit, and return what is done when all that was written before is on stable storage.

        It raises ApiError 10077 when it cannot be.
        """
        future: asyncio.Future[None] = self._loop.create_future()
        self.when_durable(partial(_settle, future))
        return future

    def answer_when_durable(self, answer: Body) -> Later:
        """Return what a method of a call returns whose answer waits for all that was written before."""

        def begin(done: Done) -> None:
            self.when_durable(lambda error: done(None, error) if error else done(answer, None))

        return begin

    def commit(self) -> int | None:
        """Commit; return the round in which it becomes durable, None when the store has failed."""
        self._commit_is_set = self._commit_is_wanted = False
        try:
            for stream in self.sourcing:
                stream.keep_progress()
            number = self.store.commit()
        except StorageError as error:
            self._fail(error)
            return None
        self.acks.committed(number)
        durable = self.store.durable_round
        if number <= durable and self.acks.release(durable):
            self.plane.run()
        return number

    def poll(self) -> None:
        """Take in what the store's threads have done, and let go what waited for it."""
        durable = self.store.poll()
        if self.store.failure is not None:
            self._fail(self.store.failure)
            return
        self.acks.release(durable)
        if self.plane.is_store_full:
            self._watch_backlog()
        while self._waiting and self._waiting[0][0] <= durable:
            self._waiting.popleft()[1](None)

    def _fail(self, error: StorageError) -> None:
        """Tell everybody who waits for the store that nothing becomes durable any more."""
        if not self.has_failed:
            self.has_failed = True
            self.plane.is_store_full = False
            self.log.error(f"JetStream: storage failed, streams in files are read-only now: {error}")
        failure = self._failure()
        self.acks.refuse_all(gojson.encode({"error": failure.to_json(), "stream": "", "seq": 0}))
        while self._waiting:
            self._waiting.popleft()[1](failure)

    def _failure(self) -> ApiError:
        return apierrors.stream_store_failed(self.store.failure or "store is closed")

    # ---- time

    def later(self, seconds: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call back once; the handle can be cancelled."""
        return self._loop.call_later(seconds, callback)

    def _tick(self) -> None:
        now_ns = self.now_ns()
        has_expiry = False
        for stream in list(self.streams.values()):
            if stream.expires and stream.store.failure is None:
                has_expiry = True
                stream.expire()
            if stream.store.damaged_reads != stream.damage_told:
                stream.damage_told = stream.store.damaged_reads
                lost = len(stream.store.lost)
                self.log.error(f"JetStream: stream {stream.name!r} has lost {lost} messages to damage")
        if now_ns >= self._housekeeping_ns:
            self._housekeeping_ns = now_ns + HOUSEKEEPING_NS
            self.store.housekeeping()
        self.poll()
        seconds = EXPIRY_SECONDS if has_expiry else HOUSEKEEPING_NS / 1e9
        if self.config.sync_interval_ns:
            seconds = min(seconds, self.config.sync_interval_ns / 1e9)
        self._timer = self._loop.call_later(seconds, self._tick)

    # ---- streams

    def stream(self, account: int, name: str) -> Stream:
        """Return a stream of this worker.

        Raises:
            ApiError: 10059.
        """
        stream = self.streams.get((account, name))
        if stream is None:
            raise apierrors.stream_not_found()
        return stream

    def directory(self, account: int) -> Directory:
        """Return an account's directory, which is on this worker."""
        return self.directories[account]

    def store_name(self, stream: Stream) -> str:
        """Return a stream's name in the store."""
        return f"{stream.account_name}/{stream.name}"

    def create_stream(self, account: Account, config: StreamConfig) -> Stream:
        """Make a stream that takes nothing yet: `Stream.listen` lets messages in.

        Args:
            config: checked.
        Raises:
            ApiError: 10049, it cannot be stored.
        """
        created_ns = self.now_ns()
        first_sequence = max(1, config.first_seq)
        if config.storage == MEMORY:
            store = memory.memory_stream(config.limits(), first_sequence=first_sequence)
        else:
            try:
                store = self.store.create_stream(
                    f"{account.name}/{config.name}",
                    definition(account.name, config, created_ns),
                    limits=config.limits(),
                    first_sequence=first_sequence,
                    compression=config.compression == COMPRESSION_S2,
                    is_async=config.persist_mode == PERSIST_ASYNC,
                ).stream
            except (StorageError, OSError) as error:
                self.log.limited("create", f"JetStream: stream {config.name!r} could not be made: {error}")
                raise apierrors.stream_create("error creating store for stream") from error
        stream = Stream(self, account, config, created_ns, store)
        self.adopt(stream)
        return stream

    def delete_stream(self, stream: Stream) -> None:
        """Take a stream away with all it holds; durable with the next commit.

        Raises:
            ApiError: 10050.
        """
        if not stream.is_memory:
            try:
                self.store.delete_stream(self.store_name(stream))
            except StorageError as error:
                raise apierrors.stream_delete(error) from error
        stream.close("Consumer Deleted")
        del self.streams[stream.account, stream.name]

    def advise(self, account: int, subject: str, kind: str, fields: dict[str, object]) -> None:
        """Send an advisory if somebody is interested; see Advisories.send."""
        self.advisories.send(account, subject, kind, fields)


def _nothing() -> None:
    """Take no notice."""


def _settle(future: asyncio.Future[None], error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


def _or(value: int, default: Callable[[], int]) -> int:
    return value if value >= 0 else default()


def _memory_bytes() -> int:
    """Return three quarters of the machine's memory, which is what nats-server lets streams reserve."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4 * 3


def _disk_bytes(path: str) -> int:
    """Return three quarters of what is free on the disk."""
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize // 4 * 3
